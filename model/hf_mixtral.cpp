// SPDX-License-Identifier: Apache-2.0
//
// MoE families in the manner of Mixtral: one routed expert width for every layer, and intermediate_size is that width.
#include <fmt/core.h>

#include "model/hf_readers.hpp"

namespace trainfare {

namespace {

Fields::Names const expert_names{"num_local_experts", "num_experts", "n_routed_experts"};
Fields::Names const top_k_names{"num_experts_per_tok", "experts_per_token"};

/// What stands in the file under the same name in the whole group.
struct Common {
    Backbone backbone;
    HeadLayout heads;
    int width = 0;
    Layer layer; // attention and norms
};

Common read_common(Fields& f, bool tied_by_default, int norms)
{
    Common c;
    c.backbone = read_backbone(f, tied_by_default);
    c.heads = read_heads(f, c.backbone);
    c.width = f.size("intermediate_size");
    bool const bias = f.flag_or("attention_bias", false);
    c.layer.attention = softmax_attention(c.heads, {bias, bias});
    c.layer.norm_parameters = 1.0 * norms * c.backbone.hidden;
    return c;
}

Architecture assemble(Fields& f, Common const& c, FeedForward const& moe, int every = 1)
{
    auto model = empty_decoder(c.backbone);
    auto const window = f.optional_size("sliding_window");
    for (int i = 0; i < c.backbone.layers; ++i) {
        auto layer = c.layer;
        layer.attention.window = window;
        layer.ffn = (i + 1) % every == 0 ? moe : dense_ffn(c.backbone.hidden, c.width);
        model.layers.push_back(layer);
    }
    return model;
}

void add_full_qk_norm(Common& c)
{
    add_vectors(c.layer.attention, 1.0 * (c.heads.heads + c.heads.kv_heads) * c.heads.head_dim);
}

Architecture read_mixtral(Fields& f)
{
    auto const c = read_common(f, false, 2);
    return assemble(f, c, moe_ffn(c.backbone.hidden, read_experts(f, expert_names, top_k_names, c.width)));
}

Architecture read_grok1(Fields& f)
{
    auto const c = read_common(f, true, 4);
    return assemble(f, c, moe_ffn(c.backbone.hidden, read_experts(f, expert_names, top_k_names, c.width)));
}

Architecture read_olmoe(Fields& f)
{
    auto c = read_common(f, false, 2);
    add_full_qk_norm(c);
    return assemble(f, c, moe_ffn(c.backbone.hidden, read_experts(f, expert_names, top_k_names, c.width)));
}

/// LayerNorm (two vectors) and, where the file says so, a bias on the head.
Architecture read_phimoe(Fields& f)
{
    auto const c = read_common(f, false, 4);
    auto model = assemble(f, c, moe_ffn(c.backbone.hidden, read_experts(f, expert_names, top_k_names, c.width)));
    model.other_parameters += c.backbone.hidden + (f.flag_or("lm_head_bias", false) ? c.backbone.vocab : 0);
    return model;
}

/// Biases in router and experts that no field mentions, one attention sink a head, windows on some layers.
Architecture read_gpt_oss(Fields& f)
{
    auto c = read_common(f, false, 2);
    add_vectors(c.layer.attention, c.heads.heads);
    auto const experts = read_experts(f, expert_names, top_k_names, c.width);
    auto model = assemble(f, c, moe_ffn(c.backbone.hidden, experts, {.router_bias = true, .expert_bias = true}));
    auto const sliding = read_sliding_layers(f, c.backbone.layers);
    for (std::size_t i = 0; i < sliding.size(); ++i) {
        if (!sliding[i])
            model.layers[i].attention.window.reset();
        else if (!model.layers[i].attention.window)
            model.layers[i].attention.window = f.size("sliding_window");
    }
    return model;
}

/// Softmax attention in every layer, although the file has the list of the earlier linear models.
Architecture read_minimax_m2(Fields& f)
{
    auto c = read_common(f, false, 2);
    f.whole_per_layer("attn_type_list", c.backbone.layers, {1});
    if (f.flag_or("use_qk_norm", false)) add_full_qk_norm(c);
    auto experts = read_experts(f, expert_names, top_k_names, c.width);
    experts.shared_width = f.count_or("shared_intermediate_size", 0);
    auto model = assemble(f, c, moe_ffn(c.backbone.hidden, experts, {.router_bias = true}));
    int const deep = f.size_or("mtp_transformer_layers", 1);
    if (deep != 1) f.reject("mtp_transformer_layers", "is not 1 (only modules of one layer are known); write 1");
    if (f.flag_or("use_mtp", false))
        read_mtp(f, model, {"num_mtp_modules"});
    else
        f.ignore("num_mtp_modules");
    return model;
}

/// An always-on MLP of width hidden_size runs beside the experts.
Architecture read_arctic(Fields& f)
{
    auto const c = read_common(f, false, 3);
    int const residual = f.flag_or("parallel_attn_mlp_res", false) ? c.backbone.hidden : 0;
    auto const experts = read_experts(f, expert_names, top_k_names, c.width);
    return assemble(f, c, moe_ffn(c.backbone.hidden, experts, {.residual_width = residual}),
                    f.size_or("moe_layer_frequency", 1));
}

/// num_experts is a list of one; the published code fixes top-2 and a router of two layers.
Architecture read_skywork(Fields& f)
{
    auto const c = read_common(f, false, 2);
    Experts e;
    e.count = f.size_in_list("num_experts");
    if (!f.has("num_experts_per_tok"))
        f.note("warning: num_experts_per_tok is not in the file; 2 is used, which the published code of skywork fixes");
    e.top_k = f.size_or("num_experts_per_tok", 2);
    e.width = c.width;
    check_top_k(f, "num_experts_per_tok", e.top_k, "num_experts", e.count);
    MoeOptions options;
    if (f.flag_or("moe_2layer_gate", true)) options.router_matrix = 8.0 * e.count * (c.backbone.hidden + e.count);
    return assemble(f, c, moe_ffn(c.backbone.hidden, e, options), f.size_or("moe_expert_interval", 1));
}

} // namespace

std::vector<HfReader> const& mixtral_readers()
{
    static std::vector<HfReader> const readers{
        {"arctic", read_arctic},   {"gpt_oss", read_gpt_oss}, {"grok-1", read_grok1},  {"minimax_m2", read_minimax_m2},
        {"mixtral", read_mixtral}, {"olmoe", read_olmoe},     {"phimoe", read_phimoe}, {"skywork", read_skywork}};
    return readers;
}

} // namespace trainfare
