// SPDX-License-Identifier: Apache-2.0
//
// DeepSeek-V2/V3 and families built like them: some dense layers first, then fine-grained routed experts beside shared
// ones, and multi-token-prediction modules at the end.
#include <fmt/core.h>

#include "model/hf_readers.hpp"

namespace trainfare {

namespace {

Fields::Names const expert_names{"n_routed_experts", "num_routed_experts", "num_experts"};
Fields::Names const shared_names{"n_shared_experts", "num_shared_experts"};
Fields::Names const top_k_names{"num_experts_per_tok", "experts_per_token"};
Fields::Names const mtp_names{"num_nextn_predict_layers", "num_mtp_layers"};

/// Device-limited routing (arXiv:2405.04434 s2.2.2); topk_method "greedy" ignores the groups.
void read_groups(Fields& f, Experts& e)
{
    int const groups = f.size_or("n_group", 1);
    int const top_groups = f.size_or("topk_group", groups);
    if (f.optional_text("topk_method") == "greedy") return;
    if (e.count % groups != 0)
        f.reject("n_group",
                 fmt::format("does not divide the {} experts (groups are of one size); correct one of them", e.count));
    if (top_groups > groups)
        f.reject("topk_group", fmt::format("exceeds n_group = {} (a token cannot visit more groups than there are); "
                                           "lower it",
                                           groups));
    if (e.top_k > e.count / groups * top_groups)
        f.reject(f.used_name(top_k_names),
                 fmt::format("exceeds the {} experts in topk_group = {} groups (a token visits no other); lower it",
                             e.count / groups * top_groups, top_groups));
    e.groups = groups;
    e.top_groups = top_groups;
}

/// @param dense_first layers before the first MoE layer, read from @p dense_key
Architecture assemble(Fields& f, Backbone const& b, Layer const& common, std::string_view dense_key, int dense_first,
                      bool router_bias)
{
    int const width = f.size("moe_intermediate_size");
    auto experts = read_experts(f, expert_names, top_k_names, width);
    experts.shared_width = shared_width(f, f.used_name(shared_names), f.count_or(shared_names, 0), width);
    read_groups(f, experts);
    if (dense_first > b.layers)
        f.reject(dense_key,
                 fmt::format("exceeds num_hidden_layers = {} (the dense layers are among them); lower it", b.layers));
    int const every = f.size_or("moe_layer_freq", 1);
    auto const moe = moe_ffn(b.hidden, experts, {.router_bias = router_bias});
    f.ignore("intermediate_size"); // unused where no layer is dense

    auto model = empty_decoder(b);
    for (int i = 0; i < b.layers; ++i) {
        auto layer = common;
        bool const dense = i < dense_first || i % every != 0;
        layer.ffn = dense ? dense_ffn(b.hidden, f.size("intermediate_size")) : moe;
        model.layers.push_back(layer);
    }
    read_mtp(f, model, mtp_names);
    return model;
}

Attention read_latent_attention(Fields& f, Backbone const& b)
{
    LatentAttention latent;
    latent.q_rank = f.size_or_null("q_lora_rank"); // null: q is projected directly
    latent.kv_rank = f.size("kv_lora_rank");
    latent.nope_dim = f.size("qk_nope_head_dim");
    latent.rope_dim = f.size("qk_rope_head_dim");
    f.ignore("head_dim"); // some files carry the width of the rotated part under this name
    return latent_attention(b.hidden, b.heads, f.size("v_head_dim"), latent, f.flag_or("attention_bias", false));
}

Architecture read_with_latent_attention(Fields& f, Backbone const& b, Attention const& attention, bool router_bias)
{
    constexpr auto key = "first_k_dense_replace";
    return assemble(f, b, {attention, {}, 2.0 * b.hidden}, key, f.count(key), router_bias);
}

Architecture read_deepseek_v2(Fields& f)
{
    auto const b = read_backbone(f);
    return read_with_latent_attention(f, b, read_latent_attention(f, b), false);
}

/// As V2, with one correction number an expert in the router (arXiv:2408.15664).
Architecture read_deepseek_v3(Fields& f)
{
    auto const b = read_backbone(f);
    return read_with_latent_attention(f, b, read_latent_attention(f, b), true);
}

/// An indexer (q from the latent, one shared k, a weight a head) picks the keys that attention reads.
Architecture read_deepseek_v32(Fields& f)
{
    auto const b = read_backbone(f);
    auto attention = read_latent_attention(f, b);
    double const q_rank = f.size("q_lora_rank"), h = b.hidden;
    int const heads = f.size("index_n_heads"), dim = f.size("index_head_dim");
    add_matrix(attention, q_rank * heads * dim + h * dim + h * heads);
    add_vectors(attention, 2.0 * dim);
    attention.sparse_top_k = f.size("index_topk");
    attention.indexer_width = shared_width(f, "index_n_heads", heads, dim);
    return read_with_latent_attention(f, b, attention, true);
}

Architecture read_glm4_moe(Fields& f)
{
    auto const b = read_backbone(f);
    auto const heads = read_heads(f, b);
    Layer layer{softmax_attention(heads, {.qkv = f.flag_or("attention_bias", false)}), {}, 2.0 * b.hidden};
    if (f.flag_or("use_qk_norm", false)) add_vectors(layer.attention, 2.0 * heads.head_dim);
    constexpr auto key = "first_k_dense_replace";
    return assemble(f, b, layer, key, f.count(key), true);
}

Architecture read_bailing_moe(Fields& f)
{
    auto const b = read_backbone(f);
    auto const heads = read_heads(f, b);
    bool const bias = f.flag_or("use_bias", false);
    bool const qkv_bias = f.flag_or("use_qkv_bias", bias);
    Layer layer{softmax_attention(heads, {qkv_bias, bias}), {}, 2.0 * b.hidden};
    if (f.flag_or("use_qk_norm", false)) add_vectors(layer.attention, 2.0 * heads.head_dim);
    constexpr auto key = "first_k_dense_replace";
    return assemble(f, b, layer, key, f.count_or(key, 0), false);
}

/// DeepSeek-V3 under other names, with norms before and after both parts.
Architecture read_pangu_ultra_moe(Fields& f)
{
    auto const b = read_backbone(f);
    LatentAttention latent;
    latent.q_rank = f.size_or_null("attention_q_lora_dim");
    latent.kv_rank = f.size("attention_kv_lora_dim");
    latent.nope_dim = f.size("attention_qk_dim");
    latent.rope_dim = f.size("attention_qk_rope_dim");
    int const norms = f.flag_or("sandwich_norm", true) ? 4 : 2;
    Layer const layer{
        latent_attention(b.hidden, b.heads, f.size("attention_v_dim"), latent), {}, 1.0 * norms * b.hidden};
    constexpr auto key = "num_dense_layers";
    return assemble(f, b, layer, key, f.count(key), true);
}

} // namespace

std::vector<HfReader> const& deepseek_readers()
{
    static std::vector<HfReader> const readers{
        {"bailing_moe", read_bailing_moe},        {"deepseek_v2", read_deepseek_v2}, {"deepseek_v3", read_deepseek_v3},
        {"deepseek_v32", read_deepseek_v32},      {"glm4_moe", read_glm4_moe},       {"kimi_k2", read_deepseek_v3},
        {"pangu_ultra_moe", read_pangu_ultra_moe}};
    return readers;
}

} // namespace trainfare
