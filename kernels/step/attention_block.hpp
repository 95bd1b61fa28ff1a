// SPDX-License-Identifier: Apache-2.0
//
// The attention part of a layer, from its normed input to its output projection: full projections with shared keys
// (MHA, GQA, MQA) or multi-head latent attention (DeepSeek-V2, arXiv:2405.04434 s2.1).
#pragma once

#include <memory>
#include <string>

#include "kernels/step/linear.hpp"

namespace trainfare::kernels {

class AttentionBlock {
public:
    /// What backward needs; unused parts stay empty.
    struct Saved {
        Operand x;    // normed input of the first projections
        Tensor fused; // their output
        Operand q_latent, kv_latent;
        Tensor q_rstd, kv_rstd;
        Tensor q, k, v, o, log_sum;
        Operand o_in; // o as the output projection took it
    };

    virtual ~AttentionBlock() = default;
    virtual void prepare() = 0;
    /// @return what is to be added to the residual
    virtual Tensor forward(Saved&, Tensor const& y) const = 0;
    /// @return gradient of y
    virtual Tensor backward(Saved const&, Tensor const& d_out) const = 0;
};

/// Declares the block's parameters, "<prefix>.qkv" and so on.
std::unique_ptr<AttentionBlock> make_attention_block(Context const&, Parameters&, Attention const&,
                                                     std::string const& prefix);

} // namespace trainfare::kernels
