// SPDX-License-Identifier: Apache-2.0
//
// A [model] table -> Architecture. Parameter counts come from model/parts.hpp, the formulas that config.json uses too.
#include "scenarios/model_toml.hpp"

#include <filesystem>

#include <fmt/format.h>

#include "model/hf_config.hpp"
#include "model/parts.hpp"
#include "scenarios/load.hpp"

namespace trainfare {

namespace {

constexpr int max_width = 10'000'000;
constexpr int max_layers = 10'000;

Attention read_attention(TableReader& in, int hidden)
{
    HeadLayout layout;
    layout.hidden = hidden;
    layout.heads = in.whole("heads", {}, 1, 100'000, "heads = 96");
    LatentAttention latent;
    latent.kv_rank = in.whole("kv_rank", 0, 0, max_width);
    if (latent.kv_rank > 0) {
        if (int const q_rank = in.whole("q_rank", 0, 0, max_width)) latent.q_rank = q_rank;
        latent.nope_dim = in.whole("nope_dim", {}, 1, max_width, "nope_dim = 128");
        latent.rope_dim = in.whole("rope_dim", {}, 1, max_width, "rope_dim = 64");
        int const v_dim = in.whole("v_dim", {}, 1, max_width, "v_dim = 128");
        return latent_attention(hidden, layout.heads, v_dim, latent);
    }
    layout.kv_heads = in.whole("kv_heads", layout.heads, 1, 100'000);
    if (layout.heads % layout.kv_heads)
        in.fail("kv_heads", fmt::format("= {} does not divide heads = {} (each key head serves as many query heads)",
                                        layout.kv_heads, layout.heads));
    if (!in.find("head_dim") && hidden % layout.heads)
        in.fail("head_dim",
                fmt::format("is missing and hidden = {} is not a multiple of heads = {}", hidden, layout.heads),
                "head_dim = 128");
    layout.head_dim = in.whole("head_dim", hidden / layout.heads, 1, max_width);
    bool const bias = in.flag("attention_bias", false);
    return softmax_attention(layout, {bias, bias});
}

FeedForward read_experts(TableReader& in, int hidden, int count)
{
    Experts experts;
    experts.count = count;
    experts.top_k = in.whole("top_k", {}, 1, 100'000, "top_k = 2");
    if (experts.top_k > count)
        in.fail("top_k", fmt::format("= {} is more than experts = {}", experts.top_k, count),
                fmt::format("top_k = {}", count));
    experts.width = in.whole("expert_ffn", {}, 1, max_width, "expert_ffn = 2048");
    experts.shared_width = in.whole("shared_ffn", 0, 0, max_width);
    experts.groups = in.whole("expert_groups", 1, 1, 100'000);
    experts.top_groups = in.whole("top_groups", experts.groups, 1, 100'000);
    if (count % experts.groups)
        in.fail("expert_groups", fmt::format("= {} does not divide experts = {}", experts.groups, count));
    if (experts.top_groups > experts.groups)
        in.fail("top_groups", fmt::format("= {} is more than expert_groups = {}", experts.top_groups, experts.groups));
    if (experts.top_k > experts.top_groups * (count / experts.groups))
        in.fail("top_groups",
                fmt::format("= {} groups hold fewer than top_k = {} experts", experts.top_groups, experts.top_k));
    MoeOptions options;
    options.gated = in.flag("gated", true);
    return moe_ffn(hidden, experts, options);
}

} // namespace

Architecture read_model_table(TableReader& in, std::string const& label)
{
    Architecture model;
    model.model_type = in.text("type", "toml");
    model.name = in.text("name", label);
    model.hidden = in.whole("hidden", {}, 1, max_width, "hidden = 12288");
    int const layers = in.whole("layers", {}, 1, max_layers, "layers = 70");
    model.vocab = in.whole("vocab", {}, 1, 100'000'000, "vocab = 150528");
    model.tied_embeddings = in.flag("tied_embeddings", false);
    model.max_positions = in.whole("learned_positions", 0, 0, 100'000'000);

    auto const attention = read_attention(in, model.hidden);
    int const window = in.whole("window", 0, 0, 100'000'000);
    int const full_every = in.whole("full_attention_every", 0, 0, max_layers);

    int const experts = in.whole("experts", 0, 0, 1'000'000);
    int const first_dense = in.whole("first_dense", experts > 0 ? 0 : layers, 0, layers);
    FeedForward moe, dense;
    if (experts > 0) moe = read_experts(in, model.hidden, experts);
    if (experts == 0 || first_dense > 0) {
        int const width = in.whole("ffn", {}, 1, max_width, "ffn = 32768");
        bool const gated = experts > 0 ? moe.gated : in.flag("gated", true);
        dense = dense_ffn(model.hidden, width, gated, in.flag("ffn_bias", false));
    }

    for (int i = 0; i < layers; ++i) {
        Layer layer;
        layer.attention = attention;
        bool const sees_all = full_every > 0 && (i + 1) % full_every == 0;
        if (window > 0 && !sees_all) layer.attention.window = window;
        layer.ffn = experts == 0 || i < first_dense ? dense : moe;
        layer.norm_parameters = 2.0 * model.hidden;
        model.layers.push_back(layer);
    }
    model.other_parameters = model.hidden + 1.0 * model.max_positions * model.hidden;
    model.mtp = mtp_modules(model, in.whole("mtp_modules", 0, 0, 100));
    return model;
}

Architecture load_model(std::string const& path)
{
    auto const text = read_text_file(path);
    auto const first = text.find_first_not_of(" \t\r\n");
    if (first != std::string::npos && text[first] == '{') return parse_hf_config(text, path);

    auto const root = parse_toml(text, path);
    TableReader::Log log;
    TableReader top{&root, "", log};
    top.find("version");
    auto const* table = top.find("model");
    if (!table)
        throw InputError(SourcePlace{path},
                         "is neither a config.json (it would begin with '{') nor a TOML file with a [model] table");
    top.finish();
    TableReader in{table, "model", log};
    in.find("card_active");
    auto model = read_model_table(in, std::filesystem::path{path}.stem().string());
    in.finish();
    return model;
}

} // namespace trainfare
