// SPDX-License-Identifier: Apache-2.0
//
// Checks of gather_rows and combine_rows, for both twins. Rows that are nowhere come out as zeros; where scales move
// with them, their scale is 1, as quantise makes it of a block of zeros.
#pragma once

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline constexpr int combine_max_k = 16;

inline void check_gather_rows(Operand const& x, Tensor const& source, int divide, Operand const& y)
{
    char const* const name = "gather_rows";
    std::int64_t const rows = source.size(), cols = x.values.cols;
    require(divide >= 1, name, "divide is 1 or more");
    require_elements(source, Element::i32, rows, name, "source is i32 [1, P]");
    require(x.values.contiguous(), name, "x is contiguous");
    require_tensor(y.values, x.values.element, rows, cols, name,
                   "y has the element and columns of x and the rows of source");
    require(x.scaling == y.scaling && x.scaling != Scaling::block128, name, "x and y are both plain or both vector128");
    if (x.scaling == Scaling::none) return;
    require_tensor(x.scales, Element::f32, blocks_of(cols), x.values.rows, name,
                   "scales of x are f32 [ceil(C/128), rows]");
    require_tensor(y.scales, Element::f32, blocks_of(cols), rows, name, "scales of y are f32 [ceil(C/128), rows]");
}

inline void check_combine(Tensor const& tokens, Tensor const& position, Tensor const& weights, int k, char const* name)
{
    require(k >= 1 && k <= combine_max_k, name, "k is 1 to 16");
    require_tensor(tokens, Element::bf16, tokens.rows, tokens.cols, name, "the tensor of tokens is bf16 [T, h]");
    require_elements(position, Element::i32, tokens.rows * k, name, "position is i32, T k of them");
    if (!weights.empty()) require_elements(weights, Element::f32, tokens.rows * k, name, "weights are f32 [T, k]");
}

inline void check_combine_rows(Tensor const& rows, Tensor const& position, Tensor const& weights, int k,
                               Tensor const& y)
{
    check_combine(y, position, weights, k, "combine_rows");
    require_tensor(rows, Element::bf16, rows.rows, y.cols, "combine_rows", "rows are bf16 [P, h]");
}

/// d_weights may be empty: then it is not computed, and rows are not read.
inline void check_combine_rows_backward(Tensor const& d_y, Tensor const& rows, Tensor const& position,
                                        Tensor const& weights, int k, Tensor const& d_rows, Tensor const& d_weights)
{
    char const* const name = "combine_rows_backward";
    check_combine(d_y, position, weights, k, name);
    require_tensor(d_rows, Element::bf16, d_rows.rows, d_y.cols, name, "d_rows is bf16 [P, h]");
    if (d_weights.empty()) return;
    require_tensor(rows, Element::bf16, d_rows.rows, d_y.cols, name, "rows are bf16 [P, h]");
    require_elements(d_weights, Element::f32, d_y.rows * k, name, "d_weights is f32 [T, k]");
}

} // namespace trainfare::kernels
