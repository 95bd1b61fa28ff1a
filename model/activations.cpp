// SPDX-License-Identifier: Apache-2.0
//
// What a block keeps for its backward pass, tensor by tensor. FlashAttention is always assumed (arXiv:2307.08691):
// queries, keys, values, output and log-sum-exp are kept, never a matrix of scores; recomputing "attention_core"
// therefore frees nothing more. No dropout. Loads are balanced: a GPU receives as many expert rows as its tokens send.
//
// Cross-check (arXiv:2205.05198, eq. 1-4, without the scores and without two dropout masks): a bf16 GPT layer keeps
// 32 s b h; of these 8 are replicated under tensor parallelism without sequence parallelism.
#include "model/activations.hpp"

#include <algorithm>
#include <array>

namespace trainfare {

namespace {

/// One kept tensor: elements of a token, bytes of an element, GPUs that share it.
struct Kept {
    double elements;
    double bytes;
    double shared_by;
    bool kept;
};

template <std::size_t N>
double sum(std::array<Kept, N> const& table)
{
    double bytes = 0;
    for (auto const& t : table) bytes += t.kept ? t.elements * t.bytes / t.shared_by : 0;
    return bytes;
}

/// What all tables need: element sizes and shares under the plan.
struct Setting {
    Recompute recompute;
    double h;          // hidden
    double wide;       // bytes of an element outside quantised products
    double input;      // bytes of a product's kept input, scales included
    double swiglu;     // bytes of the expert activation's kept input
    double tp;         // share of what tensor parallelism always cuts
    double sequence;   // share of what only sequence parallelism cuts
    double etp;
    bool weight_early; // routing weights multiply the inner activation, so expert outputs are not needed again
};

Setting setting_of(Architecture const& arch, Plan const& plan, Recompute const& recompute)
{
    bool const quantised = is_quantised(plan.precision);
    double const wide = plan.precision == Precision::fp32 ? 4 : 2;
    double const input = size_of(gemm_dtype(plan.precision)).value() + scale_bytes_per_element(plan.precision);
    // DeepSeek-V3 (arXiv:2412.19437 s3.3.3) keeps the input of an activation it recomputes in fp8; a stack that keeps
    // both sides of the activation keeps the input as the product wrote it.
    double const swiglu = quantised && plan.recompute.moe_act ? input : wide;
    double const tp = plan.tp;
    return {recompute, 1.0 * arch.hidden, wide, input, swiglu, tp, plan.sp ? tp : 1.0, 1.0 * plan.etp,
            quantised || plan.recompute.moe_act};
}

double attention_bytes(Setting const& s, Attention const& a)
{
    bool const delta = a.kind == AttentionKind::delta_net, recurrent = delta || a.kind == AttentionKind::lightning;
    // The delta rule has key heads for q and k, value heads for v. Heads that are fewer than ranks are copied.
    double const q_heads = delta ? a.kv_heads : a.heads;
    double const kv_here = std::max(1.0, a.kv_heads / s.tp) * s.tp;
    double const v_heads = delta ? a.heads : kv_here;
    double const q_rank = a.latent ? a.latent->q_rank.value_or(0) : 0, kv_rank = a.latent ? a.latent->kv_rank : 0;
    double const rope = a.latent ? a.latent->rope_dim : 0;
    bool const qkv = !(a.latent && s.recompute.mla_up_proj);
    return sum(std::array<Kept, 9>{{
        {s.h, s.input, s.sequence, !s.recompute.norm},           // normed: input of the first projections
        {q_rank + kv_rank + rope, s.wide, s.sequence, true},     // latents (MLA): from these q, k, v can be had again
        {q_rank + kv_rank, s.input, s.sequence, qkv},            // normed latents: inputs of the up-projections
        {q_heads * a.qk_dim, s.wide, s.tp, qkv},                 // q
        {kv_here * a.qk_dim, s.wide, s.tp, qkv && a.owns_kv},    // k; an earlier layer's is that layer's to keep
        {v_heads * a.v_dim, s.wide, s.tp, qkv && a.owns_kv},     // v
        // output: for attention's backward pass and, quantised again, as the output projection's input
        {1.0 * a.heads * a.v_dim, s.wide, s.tp, true},
        {1.0 * a.heads, 4, s.tp, !recurrent},                    // log-sum-exp, fp32
        {1.0 * a.heads * a.v_dim, s.wide, s.tp, recurrent},      // output gate
    }});
}

double dense_bytes(Setting const& s, double width, bool gated)
{
    bool const kept = !s.recompute.mlp;
    return sum(std::array<Kept, 2>{{
        {(gated ? 2 : 1) * width, s.wide, s.tp, kept}, // input of the activation: gate and up
        {width, s.input, s.tp, kept},                  // its output: input of the down-projection
    }});
}

/// etp GPUs receive the same rows and hold a slice of the width each.
double expert_bytes(Setting const& s, Experts const& e, bool gated)
{
    double const rows = e.top_k * s.etp, sides = gated ? 2 : 1;
    bool const kept = !s.recompute.moe, output = kept && !s.recompute.moe_act;
    return sum(std::array<Kept, 7>{{
        {1.0 * e.count, 4, s.sequence, kept},                             // router probabilities, fp32
        {rows * s.h, s.input, s.sequence, kept},                          // dispatched rows: input of gate and up
        {rows * sides * e.width / s.etp, s.swiglu, s.sequence, kept},     // input of the activation
        {rows * e.width / s.etp, s.input, s.sequence, output},            // its output: input of down
        {rows * s.h, s.wide, s.sequence, kept && !s.weight_early},        // outputs, for the routing weight's gradient
        {sides * e.shared_width, s.swiglu, s.tp, kept},                   // shared expert: input of the activation
        {1.0 * e.shared_width, s.input, s.tp, output},                    // its output
    }});
}

/// Bytes of one token.
double layer_bytes(Setting const& s, Layer const& layer)
{
    double const input = s.h * s.wide / s.sequence; // residual stream at the layer's start
    if (s.recompute.kind == RecomputeKind::full) return input;
    auto const& ffn = layer.ffn;
    double const middle = s.h * s.wide / s.sequence; // residual stream between attention and FFN
    // The router is bf16 under every recipe, so an MoE layer keeps the normed middle unquantised.
    double const normed = s.recompute.norm ? 0 : s.h * (ffn.experts ? s.wide : s.input) / s.sequence;
    double const inner = ffn.experts ? expert_bytes(s, *ffn.experts, ffn.gated) : dense_bytes(s, ffn.width, ffn.gated);
    return input + attention_bytes(s, layer.attention) + middle + normed + inner +
           dense_bytes(s, ffn.residual_width, ffn.gated);
}

/// The logits are not here: the loss turns them into the gradient of the head's input at once (memory.cpp, buffers).
double head_bytes(Setting const& s)
{
    return sum(std::array<Kept, 2>{{
        {s.h, s.wide, s.sequence, true}, // input of the final norm
        {s.h, s.wide, s.sequence, true}, // gradient of the head's input
    }});
}

double mtp_bytes(Setting const& s, Layer const& layer)
{
    return layer_bytes(s, layer) + head_bytes(s) +
           sum(std::array<Kept, 2>{{
               {2 * s.h, s.wide, s.sequence, true},                 // hidden state and next token's embedding
               {2 * s.h, s.input, s.sequence, !s.recompute.norm},   // both normed: input of the projection
           }});
}

} // namespace

Bytes activation_bytes(Architecture const& arch, Plan const& plan, Recompute const& recompute, Block block)
{
    auto const s = setting_of(arch, plan, recompute);
    double const tokens = 1.0 * plan.micro_batch * plan.seq_len / plan.cp;
    auto const index = static_cast<std::size_t>(block.index);
    switch (block.kind) {
    case Block::Kind::embedding: return Bytes{0}; // token ids
    case Block::Kind::layer: return Bytes{tokens * layer_bytes(s, arch.layers.at(index))};
    case Block::Kind::mtp: return Bytes{tokens * mtp_bytes(s, arch.mtp.at(index))};
    case Block::Kind::head: return Bytes{tokens * head_bytes(s)};
    }
    return Bytes{0};
}

Bytes activation_bytes(Architecture const& arch, Plan const& plan, Block block)
{
    return activation_bytes(arch, plan, plan.recompute, block);
}

} // namespace trainfare
