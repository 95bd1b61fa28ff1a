// SPDX-License-Identifier: Apache-2.0
//
// Sums over a model's layers: parameters, and FLOPs per token in the four conventions in use.
#include "model/architecture.hpp"

#include <algorithm>

namespace trainfare {

namespace {

/// A module's projection takes the hidden state and the next token's embedding, side by side (arXiv:2412.19437 s2.2).
double mtp_projection(Architecture const& model) { return 2.0 * model.hidden * model.hidden; }

double table(Architecture const& model) { return 1.0 * model.vocab * model.hidden; }

double layer_parameters(Layer const& l) { return l.attention.parameters + l.ffn.parameters + l.norm_parameters; }

double layer_matrices(Layer const& l) { return l.attention.matrix_parameters + l.ffn.matrix_parameters; }

/// Products that depend on tokens only, not on weights: multiply-adds of one token's forward pass.
double token_products(Attention const& a, int seq_len, bool causal)
{
    double const heads = a.heads;
    switch (a.kind) {
    case AttentionKind::lightning: return heads * 2 * a.qk_dim * a.v_dim; // write the state, read it
    case AttentionKind::delta_net: return heads * 3 * a.qk_dim * a.v_dim; // and read before writing
    default: break;
    }
    double const scores = heads * (a.qk_dim + a.v_dim) * mean_keys(a, seq_len, causal);
    double const indexer = a.indexer_width.value_or(0) * mean_keys(Attention{}, seq_len, causal); // reads every key
    return scores + indexer;
}

} // namespace

double mean_keys(Attention const& a, int seq_len, bool causal)
{
    double const all = seq_len;
    if (a.chunked && a.window) { // whole chunks and what is left over, each a square of its own
        double const chunk = *a.window, rest = seq_len % *a.window;
        return ((all - rest) * chunk + rest * rest) / all * (causal ? 0.5 : 1);
    }
    double seen = all;
    if (a.window) seen = std::min<double>(seen, *a.window);
    if (a.sparse_top_k) seen = std::min<double>(seen, *a.sparse_top_k);
    // Causal: the first `seen` queries see half as many on average, the rest all of them.
    return causal && all > 0 ? seen * (1 - seen / (2 * all)) : seen;
}

ParameterCount count_parameters(Architecture const& model)
{
    ParameterCount c;
    c.embedding = table(model);
    c.head = model.tied_embeddings ? 0 : table(model);
    c.total = c.active = c.embedding + c.head + model.other_parameters;
    c.matrix = table(model); // a tied table still does the head's product
    for (auto const& layer : model.layers) {
        c.total += layer_parameters(layer);
        c.active += layer_parameters(layer) - layer.ffn.parameters + layer.ffn.active_parameters;
        c.matrix += layer_matrices(layer);
    }
    for (auto const& module : model.mtp) c.mtp += layer_parameters(module) + mtp_projection(model);
    return c;
}

FlopsPerToken flops_per_token(Architecture const& model, int seq_len, std::optional<double> card_active)
{
    // Forward two FLOPs a multiply-add, backward twice as many: 6 in all.
    auto const count = count_parameters(model);
    double causal = count.matrix, noncausal = count.matrix, mtp = 0;
    for (auto const& layer : model.layers) {
        causal += token_products(layer.attention, seq_len, true);
        noncausal += token_products(layer.attention, seq_len, false);
    }
    for (auto const& module : model.mtp)
        mtp += layer_matrices(module) + mtp_projection(model) + table(model) +
               token_products(module.attention, seq_len, true);
    return {6 * causal, 6 * (causal + mtp), 6 * noncausal, 6 * card_active.value_or(count.active)};
}

std::string_view name(AttentionKind kind)
{
    switch (kind) {
    case AttentionKind::mha: return "mha";
    case AttentionKind::gqa: return "gqa";
    case AttentionKind::mqa: return "mqa";
    case AttentionKind::mla: return "mla";
    case AttentionKind::lightning: return "lightning";
    case AttentionKind::delta_net: return "delta_net";
    }
    return "unknown";
}

} // namespace trainfare
