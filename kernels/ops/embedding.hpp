// SPDX-License-Identifier: Apache-2.0
//
// Checks of embedding_backward, for both twins. An id that is not in the table is an error on a host; a GPU leaves it
// out.
#pragma once

#include <limits>

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline void check_embedding_backward(Tensor const& d_y, Tensor const& ids, Tensor const& d_table)
{
    char const* const name = "embedding_backward";
    require_tensor(d_y, Element::bf16, d_y.rows, d_y.cols, name, "d_y is bf16 [T, h]");
    require_elements(ids, Element::i32, d_y.rows, name, "ids are i32 [1, T]");
    require_tensor(d_table, Element::f32, d_table.rows, d_y.cols, name, "d_table is f32 [V, h]");
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max() / 2;
    require(d_y.rows <= most && d_table.rows <= most, name, "T and V are below 2^30");
}

} // namespace trainfare::kernels
