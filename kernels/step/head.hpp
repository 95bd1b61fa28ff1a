// SPDX-License-Identifier: Apache-2.0
//
// The output head and its cross-entropy, in chunks of tokens: the logits of all tokens never exist at once
// (DeepSeek-V3's of 4,096 tokens would be 1 GB), and a chunk's become their gradient in place, so the backward is done
// with the forward.
#pragma once

#include "kernels/step/linear.hpp"

namespace trainfare::kernels {

class Head {
public:
    Head(Context const& context, Parameter const& weight)
        : context_{context}, linear_{context, weight, Linear::Format::bf16}, vocab_{weight.rows}
    {
    }

    /// Adds the sum of the losses of @p y [T, h] against @p targets i32 [1, T] to @p loss f32 [1, 1] and the gradient x
    /// @p grad_scale to the weights'. @return gradient of y
    [[nodiscard]] Tensor forward(Tensor const& y, Tensor const& targets, float grad_scale, Tensor const& loss) const;

private:
    Context const& context_;
    Linear linear_;
    std::int64_t vocab_;
};

} // namespace trainfare::kernels
