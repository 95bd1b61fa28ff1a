// SPDX-License-Identifier: Apache-2.0
//
// Checks of transpose, for both twins.
#pragma once

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline void check_transpose(Tensor const& from, Tensor const& to)
{
    require_tensor(from, Element::f32, from.rows, from.cols, "transpose", "from is contiguous f32");
    require_tensor(to, Element::f32, from.cols, from.rows, "transpose",
                   "to is contiguous f32 with as many rows as "
                   "from has columns, and the other way round");
}

} // namespace trainfare::kernels
