// SPDX-License-Identifier: Apache-2.0
//
// The order of parts in a micro-batch's forward and backward.
#include "kernels/step/model.hpp"

namespace trainfare::kernels {
namespace {

Tensor row(Tensor const& matrix, std::size_t i) { return matrix.row_range(static_cast<std::int64_t>(i), 1); }

} // namespace

Model::Model(Context const& context, Parameters& parameters) : context_{context}
{
    auto const& model = context.config.model;
    auto const hidden = context.hidden();
    table_bucket_ = parameters.next_bucket();
    table_ = &parameters.matrix("embedding", model.vocab, hidden);

    stacks_.resize(1 + model.mtp.size());
    for (std::size_t l = 0; l < model.layers.size(); ++l) {
        parameters.next_bucket();
        add_layer(parameters, stacks_[0], model.layers[l], "layers." + std::to_string(l));
    }
    head_bucket_ = parameters.next_bucket();
    stacks_[0].final_norm = std::make_unique<ResidualNorm>(context, parameters.norm("final_norm", hidden));
    head_ = std::make_unique<Head>(context,
                                   model.tied_embeddings ? *table_ : parameters.matrix("head", model.vocab, hidden));

    for (std::size_t m = 0; m < model.mtp.size(); ++m) {
        auto& s = stacks_[m + 1];
        auto const prefix = "mtp." + std::to_string(m);
        parameters.next_bucket();
        s.hidden_norm = std::make_unique<ResidualNorm>(context, parameters.norm(prefix + ".hidden_norm", hidden));
        s.embedding_norm = std::make_unique<ResidualNorm>(context, parameters.norm(prefix + ".embedding_norm", hidden));
        s.join = std::make_unique<Linear>(context, parameters.matrix(prefix + ".join", hidden, 2 * hidden));
        s.final_norm = std::make_unique<ResidualNorm>(context, parameters.norm(prefix + ".final_norm", hidden));
        add_layer(parameters, s, model.mtp[m], prefix);
    }
}

void Model::add_layer(Parameters& parameters, Stack& s, Layer const& layer, std::string const& prefix)
{
    if (s.layers.empty()) s.first_task = moe_.size();
    s.buckets.push_back(parameters.buckets() - 1);
    s.layers.push_back(std::make_unique<LayerBlock>(context_, parameters, layer, prefix));
    if (auto const* moe = s.layers.back()->moe()) moe_.push_back(moe);
}

void Model::prepare()
{
    for (auto& s : stacks_) {
        if (s.join) s.join->prepare();
        for (auto& layer : s.layers) layer->prepare();
    }
}

Tensor Model::embedding(Tensor const& ids) const
{
    auto y = context_.bf16(context_.tokens(), context_.hidden());
    context_.backend.gather_rows(table_->weight, ids, 1, y);
    return y;
}

/// Input of MTP module @p d, counted from 1: hidden state of the stack before beside the embedding of the token d
/// further on.
void Model::join(MicroBatch& m, std::size_t d) const
{
    auto& s = m.stacks[d];
    auto const h = context_.hidden();
    auto const both = context_.bf16(context_.tokens(), 2 * h);
    Residual before{m.stacks[d - 1].residual.x, {}}, ahead{embedding(row(m.tokens, d)), {}};
    stacks_[d].hidden_norm->forward(s.hidden_norm, before, both.column_range(0, h));
    stacks_[d].embedding_norm->forward(s.embedding_norm, ahead, both.column_range(h, h));
    s.joined = stacks_[d].join->input(both);
    s.residual.x = context_.bf16(context_.tokens(), h);
    stacks_[d].join->forward(s.joined, s.residual.x, false);
}

/// Backward of join().
void Model::split(MicroBatch& m, std::size_t d) const
{
    auto& s = m.stacks[d];
    auto const h = context_.hidden();
    auto const d_both = context_.bf16(context_.tokens(), 2 * h), d_ahead = context_.bf16(context_.tokens(), h);
    auto const& join = *stacks_[d].join;
    join.backward(join.output_gradient(s.d), s.joined, d_both, false);
    stacks_[d].hidden_norm->backward(s.hidden_norm, d_both.column_range(0, h), m.stacks[d - 1].d, true);
    stacks_[d].embedding_norm->backward(s.embedding_norm, d_both.column_range(h, h), d_ahead, false);
    context_.backend.embedding_backward(d_ahead, row(m.tokens, d), table_->gradient);
    s = {};
}

/// Final norm, head and loss of a stack; the gradient as far as the head's input.
void Model::predict(MicroBatch& m, std::size_t i) const
{
    auto& s = m.stacks[i];
    auto const y = context_.bf16(context_.tokens(), context_.hidden());
    stacks_[i].final_norm->forward(s.final_norm, s.residual, y);
    float const share =
        i == 0 ? 1 : context_.config.mtp_weight / static_cast<float>(stacks_.size() - 1); // s2.2, eq. 25
    s.d_head = head_->forward(y, row(m.tokens, i + 1), m.grad_scale * share, i == 0 ? m.loss : m.mtp_loss);
}

void Model::forward(Program& program, MicroBatch& m) const
{
    m.stacks.resize(stacks_.size());
    for (std::size_t i = 0; i < stacks_.size(); ++i) {
        auto& s = m.stacks[i];
        s.layers.resize(stacks_[i].layers.size());
        program.compute([this, &m, &s, i] {
            if (i == 0)
                s.residual.x = embedding(row(m.tokens, 0));
            else
                join(m, i);
        });
        auto task = stacks_[i].first_task;
        for (std::size_t l = 0; l < s.layers.size(); ++l) {
            auto const& layer = *stacks_[i].layers[l];
            layer.forward(program, s.layers[l], s.residual, layer.moe() ? &m.tasks[task++] : nullptr);
        }
        program.compute([this, &m, i] { predict(m, i); });
    }
}

void Model::backward(Program& program, MicroBatch& m, std::function<void(int bucket)> const& finished) const
{
    auto const reduce = [&](int bucket) {
        if (finished) program.reduce([finished, bucket] { finished(bucket); });
    };
    program.compute([this, &m] {
        for (std::size_t i = 0; i < stacks_.size(); ++i) {
            auto& s = m.stacks[i];
            s.residual = {};
            s.d = context_.bf16(context_.tokens(), context_.hidden());
            stacks_[i].final_norm->backward(s.final_norm, s.d_head, s.d, false);
            s.d_head = {};
        }
    });
    reduce(head_bucket_);
    for (std::size_t i = stacks_.size(); i-- > 0;) {
        auto& s = m.stacks[i];
        auto const reduce_layer = [&](std::size_t l) { reduce(stacks_[i].buckets[l]); };
        for (std::size_t l = stacks_[i].layers.size(); l-- > 0;) {
            stacks_[i].layers[l]->backward(program, s.layers[l], s.d);
            if (i == 0) reduce_layer(l);
        }
        if (i == 0) break;
        program.compute([this, &m, i] { split(m, i); });
        reduce_layer(0);
    }
    program.compute([this, &m] {
        context_.backend.embedding_backward(m.stacks[0].d, row(m.tokens, 0), table_->gradient);
        m.stacks.clear();
    });
    reduce(table_bucket_);
}

} // namespace trainfare::kernels
