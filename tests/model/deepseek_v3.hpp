// SPDX-License-Identifier: Apache-2.0
//
// The reference case from its published sizes (arXiv:2412.19437): DeepSeek-V3, and its plan on 2,048 H800s.
#pragma once

#include <algorithm>

#include "model/parts.hpp"
#include "model/plan.hpp"

namespace trainfare {

inline Architecture deepseek_v3()
{
    Architecture arch;
    arch.name = "DeepSeek-V3";
    arch.hidden = 7168;
    arch.vocab = 129280;
    arch.other_parameters = arch.hidden; // final norm
    LatentAttention latent;
    latent.q_rank = 1536;
    latent.kv_rank = 512;
    latent.nope_dim = 128;
    latent.rope_dim = 64;
    Experts experts;
    experts.count = 256;
    experts.top_k = 8;
    experts.width = experts.shared_width = 2048;
    experts.groups = 8;
    experts.top_groups = 4;
    Layer dense;
    dense.attention = latent_attention(arch.hidden, 128, 128, latent);
    dense.ffn = dense_ffn(arch.hidden, 18432);
    dense.norm_parameters = 2.0 * arch.hidden;
    Layer moe = dense;
    moe.ffn = moe_ffn(arch.hidden, experts);
    arch.layers.assign(61, moe);
    std::fill_n(arch.layers.begin(), 3, dense);
    arch.mtp = mtp_modules(arch, 1);
    return arch;
}

inline Plan deepseek_v3_plan()
{
    Plan plan;
    plan.pp = 16;
    plan.dp = 128;
    plan.ep = 64;
    plan.zero = 1;
    plan.schedule = ScheduleKind::dualpipe;
    plan.recompute.kind = RecomputeKind::selective;
    plan.recompute.norm = plan.recompute.mla_up_proj = plan.recompute.moe_act = true;
    plan.micro_batch = 1;
    plan.global_batch = 15360;
    plan.seq_len = 4096;
    plan.precision = Precision::fp8_block;
    plan.comm_sms = 20;
    plan.overlap_ep = true;
    plan.dispatcher = Dispatcher::deepep;
    plan.moment_dtype = DType::bf16;
    plan.dispatch_dtype = DType::fp8;
    plan.mtp_layers = 1;
    return plan;
}

/// A plain decoder: @p layers equal layers of softmax attention and a dense feed-forward network.
struct DenseSizes {
    int hidden, layers, heads, kv_heads, width, vocab;
    bool gated;
};

inline Architecture dense_model(DenseSizes const& s)
{
    Architecture arch;
    arch.name = "dense";
    arch.hidden = s.hidden;
    arch.vocab = s.vocab;
    arch.other_parameters = s.hidden;
    Layer layer;
    layer.attention = softmax_attention({s.hidden, s.heads, s.kv_heads, s.hidden / s.heads});
    layer.ffn = dense_ffn(s.hidden, s.width, s.gated);
    layer.norm_parameters = 2.0 * s.hidden;
    arch.layers.assign(static_cast<std::size_t>(s.layers), layer);
    return arch;
}

} // namespace trainfare
