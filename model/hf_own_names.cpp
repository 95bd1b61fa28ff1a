// SPDX-License-Identifier: Apache-2.0
//
// Families whose config.json has field names or per-layer lists of its own: ERNIE, Hunyuan, MiniMax-01, DBRX.
#include <fmt/core.h>

#include "model/hf_readers.hpp"

namespace trainfare {

namespace {

/// Last MoE layer: the field counts from 0, and -1 means the last of all.
int read_last_moe_layer(Fields& f, int layers)
{
    constexpr auto key = "moe_layer_end_index";
    if (!f.has(key) || f.is_minus_one(key)) {
        f.ignore(key);
        return layers - 1;
    }
    int const last = f.count(key);
    if (last >= layers)
        f.reject(key, fmt::format("names a layer that does not exist (the layers are 0 to {}); lower it", layers - 1));
    return last;
}

Architecture read_ernie45_moe(Fields& f)
{
    auto const b = read_backbone(f, true);
    auto const heads = read_heads(f, b);
    bool const bias = f.flag_or("use_bias", false);
    int const width = f.size("moe_intermediate_size");
    auto experts = read_experts(f, {"moe_num_experts"}, {"moe_k"}, width);
    constexpr auto shared_key = "moe_num_shared_experts";
    experts.shared_width = shared_width(f, shared_key, f.count_or(shared_key, 0), width);
    auto const moe = moe_ffn(b.hidden, experts, {.router_bias = true});
    int const first = f.count("moe_layer_start_index"), last = read_last_moe_layer(f, b.layers);
    int const every = f.size_or("moe_layer_interval", 1);
    if (first > last)
        f.reject("moe_layer_start_index", fmt::format("is beyond the last MoE layer, {} (no layer would be MoE); lower "
                                                      "it",
                                                      last));
    f.ignore("intermediate_size"); // unused where no layer is dense

    auto model = empty_decoder(b);
    auto const attention = softmax_attention(heads, {bias, bias});
    for (int i = 0; i < b.layers; ++i) {
        bool const sparse = first <= i && i <= last && (i + 1) % every == 0;
        model.layers.push_back(
            {attention, sparse ? moe : dense_ffn(b.hidden, f.size("intermediate_size"), true, bias), 2.0 * b.hidden});
    }
    return model;
}

/// Numbers of experts may be lists over layers; with use_cla only every cla_share_factor-th layer has keys and values.
Architecture read_hunyuan(Fields& f)
{
    auto const b = read_backbone(f);
    auto const heads = read_heads(f, b, {"attention_head_dim", "head_dim"});
    bool const bias = f.flag_or("attention_bias", false);
    int const width = f.size("intermediate_size");
    int const experts = f.size("num_experts");
    auto const top_k = f.counts_per_layer("moe_topk", b.layers, 0);
    auto const expert_width = f.counts_per_layer("moe_intermediate_size", b.layers, width);
    auto const shared = f.counts_per_layer("num_shared_expert", b.layers, 1);
    bool const has_shared = f.flag_or("use_mixed_mlp_moe", false);
    int const cla_factor = f.size_or("cla_share_factor", 1);
    int const kv_every = f.flag_or("use_cla", false) ? cla_factor : 1;

    auto attention = softmax_attention(heads, {bias, bias});
    if (f.flag_or("use_qk_norm", false)) add_vectors(attention, 2.0 * heads.head_dim);
    auto model = empty_decoder(b);
    for (int i = 0; i < b.layers; ++i) {
        auto const at = static_cast<std::size_t>(i);
        if (top_k[at] == 0)
            f.reject("moe_topk", fmt::format("gives layer {} no expert (every layer of this family is MoE); write how "
                                             "many a token visits",
                                             i));
        if (expert_width[at] == 0)
            f.reject("moe_intermediate_size", fmt::format("gives layer {} experts of no width (every layer of this "
                                                          "family is MoE); write their inner width",
                                                          i));
        check_top_k(f, "moe_topk", top_k[at], "num_experts", experts);
        Experts e;
        e.count = experts;
        e.top_k = top_k[at];
        e.width = expert_width[at];
        e.shared_width = has_shared ? shared_width(f, "num_shared_expert", shared[at], width) : 0;
        model.layers.push_back({i % kv_every == 0 ? attention : without_kv(attention, b.hidden, {.qkv = bias}),
                                moe_ffn(b.hidden, e), 2.0 * b.hidden});
    }
    return model;
}

/// attn_type_list: 0 lightning attention, 1 softmax attention.
Architecture read_minimax_01(Fields& f)
{
    auto const b = read_backbone(f);
    auto const heads = read_heads(f, b);
    auto const kinds = f.whole_per_layer("attn_type_list", b.layers, {0, 1});
    if (!kinds)
        f.reject("attn_type_list", "is missing (it says which layers are linear); take the published config.json");
    auto const experts =
        read_experts(f, {"num_local_experts", "num_experts"}, {"num_experts_per_tok"}, f.size("intermediate_size"));
    auto const shared = f.counts_per_layer("shared_intermediate_size", b.layers, 0);
    auto softmax = softmax_attention(heads);
    softmax.window = f.optional_size("sliding_window");

    auto model = empty_decoder(b);
    for (std::size_t i = 0; i < kinds->size(); ++i) {
        auto e = experts;
        e.shared_width = shared[i];
        model.layers.push_back(
            {(*kinds)[i] == 1 ? softmax : lightning_attention(heads), moe_ffn(b.hidden, e), 2.0 * b.hidden});
    }
    return model;
}

/// Sizes stand in two nested objects, under the names of MosaicML's llm-foundry.
Architecture read_dbrx(Fields& f)
{
    auto attention = f.inside("attn_config");
    auto ffn = f.inside("ffn_config");
    Backbone b;
    b.hidden = f.size("d_model");
    b.layers = read_layer_count(f, "n_layers");
    b.vocab = f.size("vocab_size");
    b.heads = f.size("n_heads");
    b.kv_heads = attention.size("kv_n_heads");
    b.tied = f.flag_or("tie_word_embeddings", false);
    if (b.heads % b.kv_heads != 0)
        attention.reject("kv_n_heads", fmt::format("does not divide n_heads = {} (every key-value head serves the same "
                                                   "number of query heads); correct one of them",
                                                   b.heads));
    if (b.hidden % b.heads != 0)
        f.reject("d_model", fmt::format("is not a multiple of n_heads = {} (heads share it evenly); correct one of "
                                        "them",
                                        b.heads));
    auto const experts = read_experts(ffn, {"moe_num_experts"}, {"moe_top_k"}, ffn.size("ffn_hidden_size"));

    auto model = empty_decoder(b);
    Layer const layer{softmax_attention({b.hidden, b.heads, b.kv_heads, b.hidden / b.heads}),
                      moe_ffn(b.hidden, experts), 2.0 * b.hidden};
    model.layers.assign(static_cast<std::size_t>(b.layers), layer);
    return model;
}

} // namespace

std::vector<HfReader> const& own_name_readers()
{
    static std::vector<HfReader> const readers{{"dbrx", read_dbrx},
                                               {"ernie4_5_moe", read_ernie45_moe},
                                               {"hunyuan", read_hunyuan},
                                               {"hunyuan_v1_moe", read_hunyuan},
                                               {"minimax_m1", read_minimax_01},
                                               {"minimax_text_01", read_minimax_01}};
    return readers;
}

} // namespace trainfare
