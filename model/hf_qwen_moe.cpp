// SPDX-License-Identifier: Apache-2.0
//
// Qwen's MoE families: moe_intermediate_size is the expert width, intermediate_size that of the dense layers, if any.
#include <fmt/core.h>

#include "model/hf_readers.hpp"

namespace trainfare {

namespace {

struct QwenSizes {
    Backbone backbone;
    HeadLayout heads;
};

QwenSizes read_sizes(Fields& f)
{
    QwenSizes s;
    s.backbone = read_backbone(f);
    s.heads = read_heads(f, s.backbone);
    return s;
}

/// Layers named in mlp_only_layers, and those between the sparse steps, are dense.
Architecture assemble(Fields& f, QwenSizes const& s, std::vector<Attention> const& attention)
{
    auto const& b = s.backbone;
    auto experts = read_experts(f, {"num_experts", "num_local_experts", "n_routed_experts"},
                                {"num_experts_per_tok", "experts_per_token"}, f.size("moe_intermediate_size"));
    experts.shared_width = f.count_or("shared_expert_intermediate_size", 0);
    auto const moe = moe_ffn(b.hidden, experts, {.shared_gate = experts.shared_width > 0});
    auto const dense_only =
        f.layer_set("mlp_only_layers", b.layers).value_or(std::vector<bool>(static_cast<std::size_t>(b.layers)));
    int const step = f.size_or("decoder_sparse_step", 1);
    f.ignore("intermediate_size"); // unused where no layer is dense

    auto model = empty_decoder(b);
    for (int i = 0; i < b.layers; ++i) {
        auto const at = static_cast<std::size_t>(i);
        bool const dense = dense_only[at] || (i + 1) % step != 0;
        model.layers.push_back(
            {attention[at], dense ? dense_ffn(b.hidden, f.size("intermediate_size")) : moe, 2.0 * b.hidden});
    }
    return model;
}

std::vector<Attention> in_all_layers(Attention const& a, Backbone const& b)
{
    return std::vector<Attention>(static_cast<std::size_t>(b.layers), a);
}

/// q, k and v have a bias that no field mentions.
Architecture read_qwen2_moe(Fields& f)
{
    auto const s = read_sizes(f);
    auto model = assemble(f, s, in_all_layers(softmax_attention(s.heads, {.qkv = true}), s.backbone));
    read_optional_window(f, model);
    return model;
}

Architecture read_qwen3_moe(Fields& f)
{
    auto const s = read_sizes(f);
    auto attention = softmax_attention(s.heads, {.qkv = f.flag_or("attention_bias", false)});
    add_vectors(attention, 2.0 * s.heads.head_dim); // norms of q and k, shared by the heads
    auto model = assemble(f, s, in_all_layers(attention, s.backbone));
    read_optional_window(f, model);
    return model;
}

/// Which layers are softmax attention: layer_types, else every full_attention_interval-th.
std::vector<bool> read_full_layers(Fields& f, int layers)
{
    std::vector<bool> full(static_cast<std::size_t>(layers));
    auto const types = f.words_per_layer("layer_types", layers, {"linear_attention", "full_attention"});
    int const interval = types ? f.size_or("full_attention_interval", 1) : f.size("full_attention_interval");
    for (int i = 0; i < layers; ++i) {
        auto const at = static_cast<std::size_t>(i);
        full[at] = types ? (*types)[at] == "full_attention" : (i + 1) % interval == 0;
    }
    return full;
}

Attention read_delta_net(Fields& f, int hidden)
{
    DeltaNetSizes s;
    s.key_heads = f.size("linear_num_key_heads");
    s.value_heads = f.size("linear_num_value_heads");
    s.key_dim = f.size("linear_key_head_dim");
    s.value_dim = f.size("linear_value_head_dim");
    s.conv_width = f.size("linear_conv_kernel_dim");
    if (s.value_heads % s.key_heads != 0)
        f.reject("linear_num_key_heads",
                 fmt::format("does not divide linear_num_value_heads = {} (every key head serves "
                             "the same number of value heads); correct one of them",
                             s.value_heads));
    return gated_delta_net(hidden, s);
}

/// Gated DeltaNet between the softmax layers, whose q projection is twice as wide for an output gate.
Architecture read_qwen3_next(Fields& f)
{
    auto const s = read_sizes(f);
    auto softmax = softmax_attention(s.heads, {.qkv = f.flag_or("attention_bias", false)});
    add_matrix(softmax, 1.0 * s.backbone.hidden * s.heads.heads * s.heads.head_dim);
    add_vectors(softmax, 2.0 * s.heads.head_dim);
    auto const linear = read_delta_net(f, s.backbone.hidden);
    std::vector<Attention> attention;
    for (bool const full : read_full_layers(f, s.backbone.layers)) attention.push_back(full ? softmax : linear);
    f.flag_or("use_sliding_window", false);
    f.note("the published model has a multi-token-prediction module that its file does not mention; not counted");
    return assemble(f, s, attention);
}

} // namespace

std::vector<HfReader> const& qwen_moe_readers()
{
    static std::vector<HfReader> const readers{
        {"qwen2_moe", read_qwen2_moe}, {"qwen3_moe", read_qwen3_moe}, {"qwen3_next", read_qwen3_next}};
    return readers;
}

} // namespace trainfare
