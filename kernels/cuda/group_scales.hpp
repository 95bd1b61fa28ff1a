// SPDX-License-Identifier: Apache-2.0
//
// Scales of a vector128 operand, group by group: a library that multiplies one group's rows wants its scales in one
// piece.
#pragma once

#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/group_list.hpp"

namespace trainfare::kernels::cuda {

/// @p scales [blocks, rows] -> for each group [blocks, rows of the group], at to + blocks x the group's first row. Rows
/// of groups are multiples of 4.
void split_scales(CudaBackend&, Tensor const& scales, GroupList const&, float* to);

} // namespace trainfare::kernels::cuda
