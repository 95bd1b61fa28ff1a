// SPDX-License-Identifier: Apache-2.0
//
// What a language model is made of: a list of layers, each with its own attention and feed-forward part, between
// an embedding and a head. Families differ per layer (first dense layers, sliding windows on every second layer,
// linear attention), so nothing is averaged over layers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trainfare {

enum class AttentionKind { mha, gqa, mqa, mla, lightning, delta_net };

/// Low-rank projections of multi-head latent attention (DeepSeek-V2, arXiv:2405.04434 s2.1). Sizes in elements.
struct LatentAttention {
    std::optional<int> q_rank; // absent: q is projected directly
    int kv_rank = 0;
    int nope_dim = 0;          // part of q and k without rotation
    int rope_dim = 0;          // rotated part, shared by all heads on the k side
};

struct Attention {
    AttentionKind kind = AttentionKind::mha;
    int heads = 0;
    int kv_heads = 0;
    int qk_dim = 0;                    // width of q and k per head
    int v_dim = 0;                     // width of v per head
    std::optional<LatentAttention> latent;
    std::optional<int> window;         // tokens a query sees (sliding window or chunk); absent: all
    std::optional<int> sparse_top_k;   // keys read per query (DeepSeek-V3.2 indexer)
    bool owns_kv = true;               // false: keys and values come from an earlier layer (Hunyuan CLA)
    double parameters = 0;             // weights and biases of this part, matrices and small vectors
    double matrix_parameters = 0;      // those a token multiplies with (two FLOPs each)
    bool chunked = false;              // window counts from the start of a chunk (Llama 4), it does not slide
    std::optional<int> indexer_width;  // heads x width of the indexer that picks sparse_top_k; it reads every key
};

/// Keys a query reads on average over a sequence; causal counts half a square, as all vendors do. A window of 128
/// in 4,096 tokens: 128 x (1 - 128 / 8192) = 126. Not for lightning and delta_net, which read a state.
double mean_keys(Attention const&, int seq_len, bool causal);

struct Experts {
    int count = 0;
    int top_k = 0;
    int width = 0;              // inner width of one routed expert
    int shared_width = 0;       // inner width of all shared experts together; 0 = none
    int groups = 1;             // device-limited routing: experts come in groups ...
    int top_groups = 1;         // ... of which a token visits at most this many
    double router_parameters = 0;
};

struct FeedForward {
    int width = 0;                  // inner width of the dense FFN; unused where experts are set
    bool gated = true;              // SwiGLU/GeGLU: three matrices; else two
    std::optional<Experts> experts;
    int residual_width = 0;         // always-on MLP beside the experts (Snowflake Arctic); 0 = none
    double parameters = 0;          // everything, all experts
    double active_parameters = 0;   // what one token uses
    double matrix_parameters = 0;   // matrices one token multiplies with (top-k + shared + router)
    double expert_parameters = 0;   // all routed experts of the layer (sharded by EP x ETP)
};

struct Layer {
    Attention attention;
    FeedForward ffn;
    double norm_parameters = 0;
    [[nodiscard]] bool is_moe() const { return ffn.experts.has_value(); }
};

struct Architecture {
    std::string name;
    std::string model_type;     // as in config.json, or "toml"
    int hidden = 0;
    int vocab = 0;
    bool tied_embeddings = false;
    int max_positions = 0;      // learned positions (gpt2); 0 = rotary or none
    std::vector<Layer> layers;  // without MTP
    std::vector<Layer> mtp;     // multi-token-prediction modules: layer + 2h x h projection, embedding and head shared
    double other_parameters = 0; // final norm, learned positions, head bias
    std::vector<std::string> notes; // unknown fields, warnings: shown under --verbose
};

/// Text backbone, embedding and head included (a tied table once), MTP excluded: the convention of INDEX.csv.
struct ParameterCount {
    double total = 0;
    double active = 0;              // top-k of the routed experts, both tables
    double embedding = 0;
    double head = 0;                // 0 if tied
    double mtp = 0;                 // not in total
    double matrix = 0;              // matrices a token meets: attention, FFN, router, head once, no look-up
};

ParameterCount count_parameters(Architecture const&);

/// Model FLOPs per token, forward and backward, in the four conventions in use (data README, "FLOPs").
/// Worked number: DeepSeek-V3 at 4,096 tokens gives 250.4, 260.6, 281.2 GFLOP and, with the card's 37B, 222.
struct FlopsPerToken {
    double causal = 0;
    double causal_mtp = 0;
    double noncausal = 0;
    double six_n = 0;
};

/// @param card_active parameters for 6N where a model card states them; absent: counted active parameters.
FlopsPerToken flops_per_token(Architecture const&, int seq_len, std::optional<double> card_active = {});

std::string_view name(AttentionKind);

} // namespace trainfare
