// SPDX-License-Identifier: Apache-2.0
//
// Attention of one layer: norm, projections (full or latent), rotation, the fused kernel, output projection, and their gradients.
#include <algorithm>

#include "model/op_builder.hpp"

namespace trainfare {
namespace {

/// Mean number of keys a query sees: (S+1)/2 under a causal mask, fewer under a window (exact sum over positions).
double mean_keys(Attention const& a, double seq)
{
    if (a.kind == AttentionKind::lightning || a.kind == AttentionKind::delta_net)
        return a.v_dim; // a recurrent state of qk x v per head: as much work as v keys
    double limit = seq;
    if (a.window) limit = std::min(limit, static_cast<double>(*a.window));
    if (a.sparse_top_k) limit = std::min(limit, static_cast<double>(*a.sparse_top_k));
    if (limit >= seq) return seq / 2; // counted as half the square, as the published rates do
    return (limit * limit / 2 + (seq - limit) * limit) / seq;
}

/// The fused kernel. forward: two products of the scores' size; backward: five (FlashAttention-2, arXiv:2307.08691 s3.1.2).
/// Worked number: DeepSeek-V3, 4,096 tokens: 4096^2 x 128 x (192 + 128) = 687 GFLOP forward, causal.
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
    op.keys = mean_keys(a, static_cast<double>(b.plan.seq_len));
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
    return b.moves(OpKind::attention, Pass::dgrad, "attention_sums_and_conversion", rows * (4.0 * a.v_dim + 6.0 * a.qk_dim), 2);
}

struct Projections {
    std::vector<Linear> down; // latent only: x -> latents
    std::vector<Linear> up;   // latents (or x) -> q, k, v
    Linear out;
    double latent = 0;        // elements per token that are normed and kept between down and up
};

Projections projections(OpBuilder const& b, Attention const& a)
{
    std::int64_t const h = b.arch.hidden, tp = b.plan.tp;
    std::int64_t const q = static_cast<std::int64_t>(a.heads) * a.qk_dim / tp;
    Projections p;
    p.out = {"o_proj", h, static_cast<std::int64_t>(a.heads) * a.v_dim / tp};
    if (!a.latent) {
        std::int64_t const kv = a.owns_kv ? std::max<std::int64_t>(1, a.kv_heads / tp) * (a.qk_dim + a.v_dim) : 0;
        p.up = {{"qkv_proj", q + kv, h}};
        return p;
    }
    auto const& l = *a.latent;
    std::int64_t const kv_up = static_cast<std::int64_t>(a.heads) * (l.nope_dim + a.v_dim) / tp;
    if (l.q_rank) { // one fused product for both latents, as DeepGEMM's shape table has it (N = 2112 for DeepSeek-V3)
        p.down = {{"q_a_kv_a_proj", *l.q_rank + l.kv_rank + l.rope_dim, h}};
        p.up = {{"q_b_proj", q, *l.q_rank}, {"kv_b_proj", kv_up, l.kv_rank}};
        p.latent = *l.q_rank + l.kv_rank;
    } else {
        p.down = {{"q_kv_a_proj", q + l.kv_rank + l.rope_dim, h}};
        p.up = {{"kv_b_proj", kv_up, l.kv_rank}};
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
    auto all = [&](std::vector<Op>& ops, Pass pass) {
        b.norm(ops, pass, "attention_norm", x);
        b.tensor_parallel(ops, pass, "tp_gather_attention");
        for (auto const& linear : p.down) b.forward(ops, linear, b.tokens, false, pass);
        up(ops, pass);
        ops.push_back(core(b, a, pass));
        b.forward(ops, p.out, b.tokens, false, pass);
        b.tensor_parallel(ops, pass, "tp_scatter_attention");
    };

    PartOps ops;
    b.residual(ops.forward, Pass::forward, "residual_in");
    all(ops.forward, Pass::forward);
    if (b.plan.cp > 1) {
        Op exchange = b.moves(OpKind::cp_exchange, Pass::forward, "cp_keys_values", 0);
        exchange.payload = Bytes{2 * t * std::max(1, a.kv_heads / b.plan.tp) * (a.qk_dim + a.v_dim) * (b.plan.cp - 1)};
        ops.forward.push_back(exchange);
        exchange.pass = Pass::dgrad;
        exchange.payload *= 2; // keys and values again, and their gradients back
        ops.backward.push_back(exchange);
    }

    if (full) {
        all(ops.backward, Pass::recompute);
    } else {
        if (keep.norm) b.norm(ops.backward, Pass::recompute, "attention_norm", x);
        if (keep.mla_up_proj && a.latent) up(ops.backward, Pass::recompute);
        if (keep.attention_core) ops.backward.push_back(core(b, a, Pass::recompute));
    }
    b.tensor_parallel(ops.backward, Pass::dgrad, "tp_gather_attention");
    b.dgrad(ops.backward, p.out, b.tokens);
    ops.backward.push_back(core(b, a, Pass::dgrad));
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
