// SPDX-License-Identifier: Apache-2.0
//
// One layer: attention and a dense or a mixture-of-experts part, each behind a norm and added to the residual.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/step/attention_block.hpp"
#include "kernels/step/moe_block.hpp"
#include "kernels/step/residual.hpp"

namespace trainfare::kernels {

class LayerBlock {
public:
    struct Saved {
        ResidualNorm::Saved attention_norm, ffn_norm;
        AttentionBlock::Saved attention;
        Mlp::Saved mlp;
        MoeBlock::Saved moe;
        Tensor y, d_y; // at the feed-forward part's input, between segments
    };

    LayerBlock(Context const&, Parameters&, Layer const&, std::string const& prefix);

    void prepare();
    /// Adds segments to @p program; what is referred to must live until it has run. @p task: of a MoE layer.
    void forward(Program& program, Saved&, Residual&, MoeTask const* task) const;
    /// @p d gradient of the residual, before the layer's output and, when done, of its input. Frees what was saved.
    void backward(Program& program, Saved&, Tensor const& d) const;

    [[nodiscard]] MoeBlock const* moe() const { return moe_.get(); }

private:
    void backward_to_input(Saved&, Tensor const& d_y, Tensor const& d) const;

    Context const& context_;
    ResidualNorm attention_norm_, ffn_norm_;
    std::unique_ptr<AttentionBlock> attention_;
    std::unique_ptr<Mlp> mlp_;
    std::unique_ptr<MoeBlock> moe_;
};

} // namespace trainfare::kernels
