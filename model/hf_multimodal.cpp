// SPDX-License-Identifier: Apache-2.0
//
// Models that also see: the language model's sizes stand in text_config. The vision tower is not counted.
#include <fmt/core.h>

#include "model/hf_readers.hpp"

namespace trainfare {

namespace {

Fields open_text_config(Fields& f)
{
    if (!f.has("text_config"))
        f.reject("text_config",
                 "is missing (the language model's sizes stand in it, those outside belong to the vision "
                 "tower); take the published config.json");
    f.note("vision tower not counted");
    return f.inside("text_config");
}

/// Layers with rotary positions attend within chunks: all but every 4th unless the file says otherwise.
std::vector<bool> read_chunked_layers(Fields& t, int layers)
{
    std::vector<bool> chunked(static_cast<std::size_t>(layers));
    auto const types = t.words_per_layer("layer_types", layers, {"chunked_attention", "full_attention"});
    auto const rotary =
        t.is_empty_list("no_rope_layers") ? std::nullopt : t.whole_per_layer("no_rope_layers", layers, {0, 1});
    int const interval = t.count_or({"nope_layer_interval", "no_rope_layer_interval"}, 4);
    for (int i = 0; i < layers; ++i) {
        auto const at = static_cast<std::size_t>(i);
        if (types)
            chunked[at] = (*types)[at] == "chunked_attention";
        else if (rotary)
            chunked[at] = (*rotary)[at] == 1;
        else
            chunked[at] = interval == 0 || (i + 1) % interval != 0;
    }
    return chunked;
}

/// Every interleave_moe_layer_step-th layer unless moe_layers names them.
std::vector<bool> read_moe_layers(Fields& t, int layers)
{
    auto const named = t.is_empty_list("moe_layers") ? std::nullopt : t.layer_set("moe_layers", layers);
    int const step = t.size("interleave_moe_layer_step");
    if (named) return *named;
    std::vector<bool> moe(static_cast<std::size_t>(layers));
    for (int i = 0; i < layers; ++i) moe[static_cast<std::size_t>(i)] = (i + 1) % step == 0;
    return moe;
}

/// intermediate_size is the width of an expert and of the one shared expert that no field mentions; dense layers have
/// intermediate_size_mlp.
Architecture read_llama4(Fields& f)
{
    auto t = open_text_config(f);
    auto const b = read_backbone(t, f.flag_or("tie_word_embeddings", false));
    auto const heads = read_heads(t, b);
    bool const bias = t.flag_or("attention_bias", false);
    auto const chunk = t.optional_size("attention_chunk_size");
    auto const chunked = read_chunked_layers(t, b.layers);
    auto const is_moe = read_moe_layers(t, b.layers);
    int const width = t.size("intermediate_size");
    auto experts = read_experts(t, {"num_local_experts", "num_experts"}, {"num_experts_per_tok"}, width);
    experts.shared_width = width;
    auto const moe = moe_ffn(b.hidden, experts);
    auto const full = softmax_attention(heads, {bias, bias});
    t.ignore("use_qk_norm"); // has no weights here
    t.ignore("model_type");
    t.ignore("intermediate_size_mlp"); // unused where every layer is MoE

    auto model = empty_decoder(b);
    for (std::size_t i = 0; i < is_moe.size(); ++i) {
        auto attention = full;
        if (chunked[i] && chunk) {
            attention.window = chunk;
            attention.chunked = true;
        }
        model.layers.push_back(
            {attention, is_moe[i] ? moe : dense_ffn(b.hidden, t.size("intermediate_size_mlp")), 2.0 * b.hidden});
    }
    return model;
}

/// Multi-matrix factorisation attention: q through a shared low-rank projection, few wide key-value heads.
Attention read_factorised_attention(Fields& t, Backbone const& b)
{
    int const head_dim = t.size("head_dim");
    double const rank = t.size("share_q_dim"), q = 1.0 * b.heads * head_dim;
    auto attention = softmax_attention({b.hidden, b.heads, b.kv_heads, head_dim});
    add_matrix(attention, b.hidden * rank + rank * q - b.hidden * q);
    add_vectors(attention, rank);
    return attention;
}

Architecture read_step3(Fields& f)
{
    auto t = open_text_config(f);
    Backbone b;
    b.hidden = t.size("hidden_size");
    b.layers = read_layer_count(t, "num_hidden_layers");
    b.vocab = t.size("vocab_size");
    b.heads = t.size("num_attention_heads");
    b.kv_heads = t.size("num_attention_groups");
    b.tied = t.flag_or("tie_word_embeddings", f.flag_or("tie_word_embeddings", false));
    if (b.heads % b.kv_heads != 0)
        t.reject("num_attention_groups", fmt::format("does not divide num_attention_heads = {} (every group has the "
                                                     "same number of heads); correct one of them",
                                                     b.heads));
    auto const attention = read_factorised_attention(t, b);
    auto const is_moe = t.layer_set("moe_layers_enum", b.layers);
    if (!is_moe) t.reject("moe_layers_enum", "is missing (it names the MoE layers); write it as \"4,5,6\"");
    auto experts = read_experts(t, {"moe_num_experts"}, {"moe_top_k"}, t.size("moe_intermediate_size"));
    experts.shared_width = t.size("share_expert_dim");
    auto const moe = moe_ffn(b.hidden, experts);
    t.ignore("intermediate_size"); // unused where every layer is MoE
    t.ignore("model_type");

    auto model = empty_decoder(b);
    for (bool const sparse : *is_moe)
        model.layers.push_back(
            {attention, sparse ? moe : dense_ffn(b.hidden, t.size("intermediate_size")), 2.0 * b.hidden});
    return model;
}

} // namespace

std::vector<HfReader> const& multimodal_readers()
{
    static std::vector<HfReader> const readers{{"llama4", read_llama4}, {"step3_vl", read_step3}};
    return readers;
}

} // namespace trainfare
