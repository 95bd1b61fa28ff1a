// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU networks, forward and backward. Padding rows of groups are zero all the way: products make zeros of them, and
// so does SwiGLU.
#include "kernels/step/mlp.hpp"

namespace trainfare::kernels {

void Mlp::forward(Saved& s, Operand const& x, Tensor const& y, bool accumulate, Groups const* groups) const
{
    auto const rows = y.rows;
    s.x = x;
    s.gate_up = context_.bf16(rows, 2 * width_);
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
    auto const d_act = context_.bf16(rows, width_);
    down_.backward(d_y, s.act, d_act, false, groups);
    auto const d_gate_up = context_.bf16(rows, 2 * width_);
    context_.backend.swiglu_backward(d_act, s.gate_up, d_gate_up);
    up_.backward(up_.output_gradient(d_gate_up), s.x, d_x, accumulate, groups);
}

} // namespace trainfare::kernels
