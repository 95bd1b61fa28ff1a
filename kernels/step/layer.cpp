// SPDX-License-Identifier: Apache-2.0
//
// A layer's parts in order.
#include "kernels/step/layer.hpp"

namespace trainfare::kernels {
namespace {

std::unique_ptr<Mlp> make_dense(Context const& c, Parameters& parameters, Layer const& layer, std::string const& prefix)
{
    if (layer.is_moe()) return nullptr;
    auto const& up = parameters.matrix(prefix + ".ffn.up", 2 * std::int64_t{layer.ffn.width}, c.hidden());
    auto const& down = parameters.matrix(prefix + ".ffn.down", c.hidden(), layer.ffn.width);
    return std::make_unique<Mlp>(c, up, down);
}

} // namespace

LayerBlock::LayerBlock(Context const& context, Parameters& parameters, Layer const& layer, std::string const& prefix)
    : context_{context}, attention_norm_{context, parameters.norm(prefix + ".attention_norm", context.hidden())},
      ffn_norm_{context, parameters.norm(prefix + ".ffn_norm", context.hidden())},
      attention_{make_attention_block(context, parameters, layer.attention, prefix + ".attention")},
      mlp_{make_dense(context, parameters, layer, prefix)}
{
    if (layer.is_moe()) moe_ = std::make_unique<MoeBlock>(context, parameters, *layer.ffn.experts, prefix);
}

void LayerBlock::prepare()
{
    attention_->prepare();
    if (mlp_) mlp_->prepare();
    if (moe_) moe_->prepare();
}

void LayerBlock::forward(Program& program, Saved& s, Residual& r, MoeTask const* task) const
{
    program.compute([this, &s, &r] {
        auto const y = context_.bf16(context_.tokens(), context_.hidden());
        attention_norm_.forward(s.attention_norm, r, y);
        r.pending = attention_->forward(s.attention, y);
        s.y = context_.bf16(context_.tokens(), context_.hidden());
        ffn_norm_.forward(s.ffn_norm, r, s.y);
    });
    if (moe_) {
        s.moe.task = *task;
        moe_->forward(program, s.moe, s.y, r.pending);
        return;
    }
    program.compute([this, &s, &r] {
        r.pending = context_.bf16(context_.tokens(), context_.hidden());
        mlp_->forward(s.mlp, mlp_->input(s.y), r.pending, false);
        s.y = {};
    });
}

void LayerBlock::backward_to_input(Saved& s, Tensor const& d_y, Tensor const& d) const
{
    ffn_norm_.backward(s.ffn_norm, d_y, d, true);
    attention_norm_.backward(s.attention_norm, attention_->backward(s.attention, d), d, true);
    s = {};
}

void LayerBlock::backward(Program& program, Saved& s, Tensor const& d) const
{
    if (moe_) {
        moe_->backward(program, s.moe, d, s.d_y);
        program.compute([this, &s, &d] { backward_to_input(s, s.d_y, d); });
        return;
    }
    program.compute([this, &s, &d] {
        auto const d_y = context_.bf16(context_.tokens(), context_.hidden());
        mlp_->backward(s.mlp, mlp_->output_gradient(Operand{d}), d_y, false);
        backward_to_input(s, d_y, d);
    });
}

} // namespace trainfare::kernels
