// SPDX-License-Identifier: Apache-2.0
//
// y = x W^T and its gradients, plain in bf16 or with fp8 operands in 128-blocks (DeepSeek-V3, arXiv:2412.19437 s3.3),
// for one matrix or for one of each expert.
#pragma once

#include "kernels/step/context.hpp"
#include "kernels/step/parameters.hpp"

namespace trainfare::kernels {

/// Gradient of a product's output as the backward products want it: plain, or quantised along rows and along columns.
struct OutputGradient {
    Operand row;        // plain: the tensor itself
    Operand transposed; // empty where plain
};

class Linear {
public:
    enum class Format : std::uint8_t { bf16, fp8 };

    Linear(Context const& context, Parameter const& parameter, Format format)
        : context_{context}, parameter_{parameter}, format_{format}
    {
    }
    /// The configured precision.
    Linear(Context const& context, Parameter const& parameter)
        : Linear{context, parameter, context.fp8() ? Format::fp8 : Format::bf16}
    {
    }

    /// Once per step, after the weights have changed: their quantised copies.
    void prepare();

    /// x as forward() takes it and as it is kept for backward(): itself, or quantised 1 x 128.
    [[nodiscard]] Operand input(Tensor const& x) const;
    [[nodiscard]] OutputGradient output_gradient(Tensor const& d_y) const;
    /// The same from a gradient that has come quantised along its rows.
    [[nodiscard]] OutputGradient output_gradient(Operand const& d_y) const;

    /// @param groups rows of each expert; only and always where the parameter belongs to experts
    void forward(Operand const& x, Tensor const& y, bool accumulate, Groups const* groups = nullptr) const;
    /// Adds to the parameter's gradient; d_x is written or added to.
    void backward(OutputGradient const& d_y, Operand const& x, Tensor const& d_x, bool accumulate,
                  Groups const* groups = nullptr) const;

private:
    [[nodiscard]] bool fp8() const { return format_ == Format::fp8; }
    [[nodiscard]] Operand transposed(Operand const& x) const;
    void product(Tensor const& c, Operand const& a, Operand const& b, Form, bool accumulate, Groups const*) const;

    Context const& context_;
    Parameter const& parameter_;
    Format format_;
    Operand blocks_, blocks_transposed_; // [G n, k] and [G k, n]
};

} // namespace trainfare::kernels
