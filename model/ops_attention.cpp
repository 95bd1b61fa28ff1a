// SPDX-License-Identifier: Apache-2.0
//
// Attention of one layer: norm, projections (full or latent), rotation, the fused kernel, output projection, and their
// gradients.
#include <algorithm>
#include <cmath>

#include "model/op_builder.hpp"

namespace trainfare {
namespace {

/// Keys of one query in the fused kernel. A recurrent state (lightning, delta net) counts as many keys as cost the
/// same: two or three multiply-adds per element of the qk x v state, as in flops_per_token().
double keys_of(Attention const& a, int seq_len)
{
    double const state = 1.0 * a.qk_dim * a.v_dim / (a.qk_dim + a.v_dim);
    if (a.kind == AttentionKind::lightning) return 2 * state;
    if (a.kind == AttentionKind::delta_net) return 3 * state;
    return mean_keys(a, seq_len, true);
}

/// The fused kernel. forward: two products of the scores' size; backward: five (FlashAttention-2, arXiv:2307.08691
/// s3.1.2). Worked number: DeepSeek-V3, 4,096 tokens: 4096^2 x 128 x (192 + 128) = 687 GFLOP forward, causal.
Op core(OpBuilder const& b, Attention const& a, Pass pass)
{
    Op op;
    op.kind = OpKind::attention;
    op.pass = pass;
    op.name = "attention";
    op.precision = Precision::bf16; // FP8 attention is no training practice yet: scores stay 16 bit
    op.batch = b.plan.micro_batch;
    op.seq = b.plan.seq_len;
    op.heads = a.heads / b.plan.tp;
    op.kv_heads = std::max(1, a.kv_heads / b.plan.tp);
    op.qk_dim = a.qk_dim;
    op.v_dim = a.v_dim;
    op.keys = keys_of(a, b.plan.seq_len);
    double const rows = static_cast<double>(b.tokens) * op.heads;
    double const per_key = pass == Pass::dgrad ? 2.0 * (3 * a.qk_dim + 2 * a.v_dim) : 2.0 * (a.qk_dim + a.v_dim);
    op.flops = Flops{rows * op.keys * per_key};
    double const kv_rows = static_cast<double>(b.tokens) * op.kv_heads;
    double const once = 2 * (rows * (a.qk_dim + a.v_dim) + kv_rows * (a.qk_dim + a.v_dim)); // q, o, k, v
    op.bytes = Bytes{pass == Pass::dgrad ? 2 * once : once};
    return op;
}

/// What the backward kernel needs around it: row sums of o times do before, dq from fp32 to bf16 after.
Op conversion(OpBuilder const& b, Attention const& a)
{
    double const rows = static_cast<double>(b.tokens) * a.heads / b.plan.tp;
    return b.moves(OpKind::attention, Pass::dgrad, "attention_sums_and_conversion",
                   rows * (4.0 * a.v_dim + 6.0 * a.qk_dim), 2);
}

/// Scores of the indexer that picks the keys of sparse attention (DeepSeek-V3.2): it reads every key, and has no
/// values.
Op indexer(OpBuilder const& b, int width, Pass pass)
{
    double const share = static_cast<double>(width) / b.plan.tp, t = static_cast<double>(b.tokens);
    Op op = b.moves(OpKind::attention, pass, "indexer", 2 * t * share * (pass == Pass::dgrad ? 2 : 1));
    op.precision = Precision::bf16;
    op.batch = b.plan.micro_batch;
    op.seq = b.plan.seq_len;
    op.heads = op.kv_heads = 1;
    op.qk_dim = static_cast<int>(share);
    op.keys = mean_keys(Attention{}, b.plan.seq_len, true);
    op.flops = Flops{2 * t * share * op.keys * (pass == Pass::dgrad ? 2 : 1)};
    return op;
}

struct Projections {
    std::vector<Linear> down; // latent only: x -> latents
    std::vector<Linear> up;   // latents (or x) -> q, k, v
    Linear out;
    double latent = 0; // elements per token that are normed and kept between down and up
};

/// Weights of a layer that its heads do not explain, as columns on the projection of x: output gates, the decay of
/// linear attention, the indexer's keys; fewer than none where q is factored (Step-3).
std::int64_t more_columns(Attention const& a, std::int64_t hidden, std::int64_t explained)
{
    return std::llround((a.matrix_parameters - static_cast<double>(explained)) / static_cast<double>(hidden));
}

Projections projections(OpBuilder const& b, Attention const& a)
{
    std::int64_t const h = b.arch.hidden, tp = b.plan.tp, heads = a.heads;
    std::int64_t const q = heads * a.qk_dim, values = heads * a.v_dim;
    Projections p;
    p.out = {"o_proj", h, values / tp};
    if (!a.latent) {
        std::int64_t const one_kv = a.qk_dim + a.v_dim;
        std::int64_t const kv = a.owns_kv ? std::max<std::int64_t>(1, a.kv_heads / tp) * one_kv : 0;
        auto const more = more_columns(a, h, h * (q + (a.owns_kv ? a.kv_heads * one_kv : 0) + values));
        p.up = {{"qkv_proj", q / tp + kv + more / tp, h}};
        return p;
    }
    auto const& l = *a.latent;
    std::int64_t const kv_up = heads * (l.nope_dim + a.v_dim), down = l.kv_rank + l.rope_dim;
    std::int64_t const q_rank = l.q_rank.value_or(0);
    std::int64_t const indexer_q = l.q_rank ? a.indexer_width.value_or(0) : 0;
    std::int64_t const up = q_rank * (q + indexer_q) + kv_up * l.kv_rank;
    auto const more = more_columns(a, h, h * ((l.q_rank ? q_rank : q) + down + values) + up);
    if (l.q_rank) { // one fused product for both latents, as DeepGEMM's shape table has it (N = 2112 for DeepSeek-V3)
        p.down = {{"q_a_kv_a_proj", q_rank + down + more, h}};
        p.up = {{"q_b_proj", q / tp, q_rank}, {"kv_b_proj", kv_up / tp, l.kv_rank}};
        if (indexer_q > 0) p.up.push_back({"indexer_q_proj", indexer_q / tp, q_rank});
        p.latent = static_cast<double>(q_rank + l.kv_rank);
    } else {
        p.down = {{"q_kv_a_proj", q / tp + down + more, h}};
        p.up = {{"kv_b_proj", kv_up / tp, l.kv_rank}};
        p.latent = l.kv_rank;
    }
    return p;
}

} // namespace

PartOps attention_ops(OpBuilder const& b, Layer const& layer)
{
    auto const& a = layer.attention;
    auto const p = projections(b, a);
    auto const& keep = b.plan.recompute;
    bool const full = keep.kind == RecomputeKind::full;
    auto const t = static_cast<double>(b.tokens);
    double const x = static_cast<double>(b.own_tokens) * b.arch.hidden;
    int const rotary = a.latent ? a.latent->rope_dim : a.qk_dim;
    double const rope_bytes = 6 * t * a.heads / b.plan.tp * rotary; // q in and out, k out: 2 bytes each

    auto up = [&](std::vector<Op>& ops, Pass pass) {
        if (p.latent > 0) b.norm(ops, pass, "latent_norm", t * p.latent);
        for (auto const& linear : p.up) b.forward(ops, linear, b.tokens, false, pass);
        ops.push_back(b.moves(OpKind::rope, pass, "rope", rope_bytes));
    };
    auto kernel = [&](std::vector<Op>& ops, Pass pass) {
        if (b.plan.cp > 1) { // keys and values of the other ranks; backward: again, and their gradients back
            Op exchange = b.moves(OpKind::cp_exchange, pass, "cp_keys_values", 0);
            double const kv = 2 * t * std::max(1, a.kv_heads / b.plan.tp) * (a.qk_dim + a.v_dim);
            exchange.payload = Bytes{kv * (b.plan.cp - 1) * (pass == Pass::dgrad ? 2 : 1)};
            ops.push_back(exchange);
        }
        if (a.indexer_width) ops.push_back(indexer(b, *a.indexer_width, pass));
        ops.push_back(core(b, a, pass));
    };
    auto all = [&](std::vector<Op>& ops, Pass pass) {
        b.norm(ops, pass, "attention_norm", x);
        b.tensor_parallel(ops, pass, "tp_gather_attention");
        for (auto const& linear : p.down) b.forward(ops, linear, b.tokens, false, pass);
        up(ops, pass);
        kernel(ops, pass);
        b.forward(ops, p.out, b.tokens, false, pass);
        b.tensor_parallel(ops, pass, "tp_scatter_attention");
    };

    PartOps ops;
    b.residual(ops.forward, Pass::forward, "residual_in");
    all(ops.forward, Pass::forward);

    if (full) {
        all(ops.backward, Pass::recompute);
    } else {
        if (keep.norm) b.norm(ops.backward, Pass::recompute, "attention_norm", x);
        if (keep.mla_up_proj && a.latent) up(ops.backward, Pass::recompute);
        if (keep.attention_core) kernel(ops.backward, Pass::recompute);
    }
    b.tensor_parallel(ops.backward, Pass::dgrad, "tp_gather_attention");
    b.dgrad(ops.backward, p.out, b.tokens);
    kernel(ops.backward, Pass::dgrad);
    ops.backward.push_back(conversion(b, a));
    ops.backward.push_back(b.moves(OpKind::rope, Pass::dgrad, "rope", rope_bytes));
    for (auto const& linear : p.up) b.dgrad(ops.backward, linear, b.tokens);
    if (p.latent > 0) b.norm(ops.backward, Pass::dgrad, "latent_norm", t * p.latent);
    for (auto const& linear : p.down) b.dgrad(ops.backward, linear, b.tokens);
    b.tensor_parallel(ops.backward, Pass::dgrad, "tp_scatter_attention");
    b.norm(ops.backward, Pass::dgrad, "attention_norm", x);
    b.residual(ops.backward, Pass::dgrad, "residual_in");

    b.wgrad(ops.weight, p.out, b.tokens);
    for (auto const& linear : p.up) b.wgrad(ops.weight, linear, b.tokens);
    for (auto const& linear : p.down) b.wgrad(ops.weight, linear, b.tokens);
    return ops;
}

} // namespace trainfare
