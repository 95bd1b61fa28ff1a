// SPDX-License-Identifier: Apache-2.0
//
// Layer parts from their sizes: each function fills in the parameter counts, so that every source of a model
// (config.json, TOML, a table of published runs) counts alike.
#pragma once

#include <optional>
#include <vector>

#include "model/architecture.hpp"

namespace trainfare {

struct HeadLayout {
    int hidden = 0;
    int heads = 0;
    int kv_heads = 0; // = heads: MHA; 1: MQA; between: GQA
    int head_dim = 0; // heads x head_dim need not equal hidden
};

struct ProjectionBias {
    bool qkv = false;
    bool output = false;
};

/// Softmax attention with grouped keys and values (arXiv:2305.13245). Llama-3.1-405B: 16384 x (2 x 128 + 2 x 8) x 128
/// = 570.4M weights a layer.
Attention softmax_attention(HeadLayout const&, ProjectionBias = {});

/// Multi-head latent attention (arXiv:2405.04434 s2.1). DeepSeek-V3: 187.1M matrix weights a layer.
/// @param bias on the two down-projections and the output (Hugging Face attention_bias)
Attention latent_attention(int hidden, int heads, int v_dim, LatentAttention const&, bool bias = false);

/// Lightning attention (MiniMax-01, arXiv:2501.08313): q, k, v, gate and output at full width, a norm on the output.
Attention lightning_attention(HeadLayout const&);

struct DeltaNetSizes {
    int key_heads = 0;
    int value_heads = 0;
    int key_dim = 0;   // per head
    int value_dim = 0; // per head
    int conv_width = 0;
};

/// Gated DeltaNet (arXiv:2412.06464, as in Qwen3-Next): heads are the value heads, kv_heads the key heads.
Attention gated_delta_net(int hidden, DeltaNetSizes const&);

/// Keys and values from an earlier layer (cross-layer attention, arXiv:2405.12981): drops their projections.
Attention without_kv(Attention, int hidden, ProjectionBias = {});

void add_matrix(Attention&, double weights);
void add_vectors(Attention&, double weights);

/// Gated: 3 h w, plain: 2 h w. Llama-3.1-405B: 3 x 16384 x 53248 = 2.617G.
FeedForward dense_ffn(int hidden, int width, bool gated = true, bool bias = false);

struct MoeOptions {
    bool gated = true;
    std::optional<double> router_matrix{}; // absent: hidden x experts
    bool router_bias = false;              // one number an expert (load-balancing correction included)
    bool expert_bias = false;
    bool shared_gate = false; // sigmoid gate on the shared expert (Qwen2-MoE): hidden weights
    int residual_width = 0;   // always-on MLP beside the experts
};

/// Fills Experts.router_parameters as well. DeepSeek-V3: 256 x 3 x 7168 x 2048 = 11.27G routed a layer.
FeedForward moe_ffn(int hidden, Experts, MoeOptions const& = {});

/// MTP modules built like the last decoder layer; their norms include the two of the inputs and the final one
/// (DeepSeek-V3, arXiv:2412.19437 s2.2). The 2h x h projection is not part of the layer: count_parameters adds it.
std::vector<Layer> mtp_modules(Architecture const&, int count);

} // namespace trainfare
