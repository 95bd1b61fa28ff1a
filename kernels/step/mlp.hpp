// SPDX-License-Identifier: Apache-2.0
//
// A gated feed-forward network, SwiGLU: down(silu(gate x) up x). The dense layers', the shared expert's, and, with
// groups of rows, all routed experts' of a rank at once.
#pragma once

#include "kernels/step/linear.hpp"

namespace trainfare::kernels {

class Mlp {
public:
    /// What backward needs.
    struct Saved {
        Operand x;
        Tensor gate_up; // bf16 [R, 2 width]
        Operand act;    // [R, width]
    };

    /// @p up [2 width, h] and @p down [h, width], of one network or of each expert
    Mlp(Context const& context, Parameter const& up, Parameter const& down)
        : context_{context}, width_{down.cols}, up_{context, up}, down_{context, down}
    {
    }

    void prepare() { up_.prepare(), down_.prepare(); }
    [[nodiscard]] Operand input(Tensor const& x) const { return up_.input(x); }
    [[nodiscard]] OutputGradient output_gradient(Operand const& d_y) const { return down_.output_gradient(d_y); }

    void forward(Saved&, Operand const& x, Tensor const& y, bool accumulate, Groups const* groups = nullptr) const;
    void backward(Saved const&, OutputGradient const& d_y, Tensor const& d_x, bool accumulate,
                  Groups const* groups = nullptr) const;

private:
    Context const& context_;
    std::int64_t width_;
    Linear up_, down_;
};

} // namespace trainfare::kernels
