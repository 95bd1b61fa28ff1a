// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU networks, forward and backward.
#include "kernels/step/mlp.hpp"

#include <numeric>

namespace trainfare::kernels {

/// A grouped product may leave padding rows as they are, but the next one sums over them: they start as zeros.
Tensor Mlp::rows_for_product(std::int64_t rows, std::int64_t cols, Groups const* groups) const
{
    auto t = context_.bf16(rows, cols);
    if (groups && std::accumulate(groups->rows.begin(), groups->rows.end(), std::int64_t{0}) < rows)
        context_.backend.fill(t, 0);
    return t;
}

void Mlp::forward(Saved& s, Operand const& x, Tensor const& y, bool accumulate, Groups const* groups) const
{
    auto const rows = y.rows;
    s.x = x;
    s.gate_up = rows_for_product(rows, 2 * width_, groups);
    up_.forward(x, s.gate_up, false, groups);
    if (context_.fp8()) {
        s.act = context_.quantised(rows, width_);
        context_.backend.swiglu_quantise(s.gate_up, s.act);
    } else {
        s.act = context_.bf16(rows, width_);
        context_.backend.swiglu(s.gate_up, s.act.values);
    }
    down_.forward(s.act, y, accumulate, groups);
}

void Mlp::backward(Saved const& s, OutputGradient const& d_y, Tensor const& d_x, bool accumulate,
                   Groups const* groups) const
{
    auto const rows = s.gate_up.rows;
    auto const d_act = rows_for_product(rows, width_, groups);
    down_.backward(d_y, s.act, d_act, false, groups);
    auto const d_gate_up = context_.bf16(rows, 2 * width_);
    context_.backend.swiglu_backward(d_act, s.gate_up, d_gate_up);
    up_.backward(up_.output_gradient(d_gate_up), s.x, d_x, accumulate, groups);
}

} // namespace trainfare::kernels
