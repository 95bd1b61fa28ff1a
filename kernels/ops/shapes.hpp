// SPDX-License-Identifier: Apache-2.0
//
// Which shapes the element-wise operations accept: one set of rules for an operation's CPU and CUDA twin. A wrong shape
// is a programming error, so the message names the operation and the rule.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "kernels/backend.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {

inline constexpr int scale_block = 128;    // columns (and rows) that share a scale
inline constexpr int max_rotary_dim = 256; // the kernels hold one frequency per pair of columns as a parameter

inline void require(bool right, char const* operation, char const* rule)
{
    if (!right) throw InternalError(std::string{operation} + ": " + rule);
}

inline bool is_shape(Tensor const& t, Element element, std::int64_t rows, std::int64_t cols)
{
    return t.element == element && t.rows == rows && t.cols == cols && t.pitch >= cols;
}

/// For eight bf16 in one 16-byte access: rows begin at 16-byte boundaries and are whole packs.
inline bool in_packs(Tensor const& t)
{
    return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0 && t.cols % 8 == 0 && (t.pitch % 8 == 0 || t.rows <= 1);
}

inline void require_bf16(Tensor const& t, std::int64_t rows, std::int64_t cols, char const* operation, char const* rule)
{
    require(is_shape(t, Element::bf16, rows, cols), operation, rule);
}

inline void require_rows(Tensor const& t, char const* operation)
{
    require(t.rows <= std::numeric_limits<std::int32_t>::max(), operation, "at most 2^31 - 1 rows");
}

inline std::int64_t blocks_of(std::int64_t n) { return (n + scale_block - 1) / scale_block; }

/// @p x holds [rows, cols] with scales as tensor.hpp lays them out.
inline void require_quantised(Operand const& x, Scaling scaling, std::int64_t rows, std::int64_t cols,
                              char const* operation)
{
    require(x.scaling == scaling && is_shape(x.values, Element::e4m3, rows, cols) && x.values.contiguous(), operation,
            "a quantised operand is contiguous e4m3 of the shape and scaling that the operation documents");
    bool const vectors = scaling == Scaling::vector128;
    auto const scale_rows = vectors ? blocks_of(cols) : blocks_of(rows);
    auto const scale_cols = vectors ? rows : (blocks_of(cols) + 3) / 4 * 4;
    require(is_shape(x.scales, Element::f32, scale_rows, scale_cols) && x.scales.contiguous(), operation,
            "scales are contiguous f32, vector128 [ceil(cols/128), rows], block128 [ceil(rows/128), "
            "round4(ceil(cols/128))]");
}

inline void check_add(Tensor const& to, Tensor const& x)
{
    bool const numbers = to.element == Element::f32 || to.element == Element::bf16;
    require(numbers && is_shape(x, to.element, to.rows, to.cols) && to.contiguous() && x.contiguous(), "add",
            "both tensors are contiguous, of one shape, and both f32 or both bf16");
}

inline void check_rms_norm(Tensor const& x, Tensor const& weight, Tensor const& y, Tensor const& rstd,
                           char const* operation)
{
    require_rows(x, operation);
    require(x.cols > 0, operation, "rows have at least one column");
    require_bf16(x, x.rows, x.cols, operation, "x is bf16");
    require_bf16(y, x.rows, x.cols, operation, "y (or d_y) is bf16 of the shape of x");
    require_bf16(weight, 1, x.cols, operation, "weight is bf16 [1, columns of x]");
    require(is_shape(rstd, Element::f32, 1, x.rows), operation, "rstd is f32 [1, rows of x]");
}

inline void check_rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                                    Tensor const& d_x, Tensor const& d_weight)
{
    check_rms_norm(x, weight, d_y, rstd, "rms_norm_backward");
    require_bf16(d_x, x.rows, x.cols, "rms_norm_backward", "d_x is bf16 of the shape of x");
    require(is_shape(d_weight, Element::f32, 1, x.cols), "rms_norm_backward", "d_weight is f32 [1, columns of x]");
}

inline void check_rope(Rope const& rope, Tensor const& x)
{
    require_rows(x, "rope");
    require(rope.dim > 0 && rope.dim % 2 == 0 && rope.dim <= max_rotary_dim, "rope", "dim is even, from 2 to 256");
    require(rope.first >= 0 && rope.first + rope.dim <= rope.width, "rope", "the rotated columns lie inside a head");
    require(rope.seq > 0 && rope.heads > 0 && rope.base > 0, "rope", "seq, heads and base are positive");
    require_bf16(x, x.rows, std::int64_t{rope.heads} * rope.width, "rope", "x is bf16 [rows, heads width]");
}

/// The same for forward and backward: a gradient has the shape of what it belongs to.
inline void check_latent_heads(LatentHeads const& h, Tensor const& q, Tensor const& kv, Tensor const& k_rope,
                               Tensor const& k, Tensor const& v, char const* operation)
{
    require_rows(q, operation);
    require(h.rope > 0 && h.rope % 2 == 0 && h.rope <= max_rotary_dim, operation, "rope is even, from 2 to 256");
    require(h.seq > 0 && h.heads > 0 && h.nope >= 0 && h.v > 0 && h.base > 0, operation,
            "seq, heads, v and base are positive");
    std::int64_t const heads = h.heads, rows = q.rows;
    require_bf16(q, rows, heads * (h.nope + h.rope), operation, "q is bf16 [T, heads (nope + rope)]");
    require_bf16(k, rows, heads * (h.nope + h.rope), operation, "k is bf16 [T, heads (nope + rope)]");
    require_bf16(kv, rows, heads * (h.nope + h.v), operation, "kv is bf16 [T, heads (nope + v)]");
    require_bf16(v, rows, heads * h.v, operation, "v is bf16 [T, heads v]");
    require_bf16(k_rope, rows, h.rope, operation, "k_rope is bf16 [T, rope]");
    require(heads * (h.nope + h.rope + h.v) <= std::numeric_limits<std::int32_t>::max() / 8, operation,
            "rows are not absurd");
}

/// @p half has the shape of y and d_y, @p gate_up twice its columns.
inline void check_swiglu(Tensor const& gate_up, std::int64_t rows, std::int64_t cols, char const* operation)
{
    require(is_shape(gate_up, Element::bf16, rows, 2 * cols) && gate_up.contiguous(), operation,
            "gate_up (and its gradient) is contiguous bf16 with twice the columns of y");
    constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
    require(cols <= limit && (rows == 0 || cols <= 8 * (limit / rows)), operation,
            "at most 2^31 columns and 2^34 elements");
}

inline void check_swiglu_half(Tensor const& y, char const* operation)
{
    require(y.element == Element::bf16 && y.contiguous(), operation, "y (and its gradient) is contiguous bf16");
}

inline void check_quantise(Tensor const& x, Operand const& same, Operand const& transposed, Scaling scaling,
                           char const* operation)
{
    require(x.element == Element::bf16 && x.pitch >= x.cols, operation, "the input is bf16");
    require_quantised(same, scaling, x.rows, x.cols, operation);
    if (!transposed.values.empty()) require_quantised(transposed, scaling, x.cols, x.rows, operation);
}

} // namespace trainfare::kernels
