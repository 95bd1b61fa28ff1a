// SPDX-License-Identifier: Apache-2.0
//
// What config.json files of most families have in common.
#include <algorithm>
#include <cstdint>

#include <fmt/core.h>

#include "model/hf_readers.hpp"

namespace trainfare {

int read_layer_count(Fields& f, std::string_view key)
{
    int const layers = f.size(key);
    if (layers > Fields::max_layers)
        f.reject(key, fmt::format("is above {} (no model is that deep); look for extra digits", Fields::max_layers));
    return layers;
}

Backbone read_backbone(Fields& f, bool tied_by_default)
{
    Backbone b;
    b.hidden = f.size("hidden_size");
    b.layers = read_layer_count(f, "num_hidden_layers");
    b.vocab = f.size("vocab_size");
    b.heads = f.size("num_attention_heads");
    b.kv_heads = f.size_or("num_key_value_heads", b.heads);
    b.tied = f.flag_or("tie_word_embeddings", tied_by_default);
    if (b.heads % b.kv_heads != 0)
        f.reject("num_key_value_heads", fmt::format("does not divide num_attention_heads = {} (every key-value head "
                                                    "serves the same number of query heads); correct one of them",
                                                    b.heads));
    return b;
}

HeadLayout read_heads(Fields& f, Backbone const& b, Fields::Names names)
{
    HeadLayout layout{b.hidden, b.heads, b.kv_heads, 0};
    auto const key = f.used_name(names);
    if (f.has(key)) {
        layout.head_dim = f.size(names);
        return layout;
    }
    f.ignore(key);
    if (b.hidden % b.heads != 0)
        f.reject("hidden_size", fmt::format("is not a multiple of num_attention_heads = {} and head_dim is not given "
                                            "(the width of a head cannot be told); add head_dim",
                                            b.heads));
    layout.head_dim = b.hidden / b.heads;
    return layout;
}

void check_top_k(Fields& f, std::string_view top_k_key, int top_k, std::string_view experts_key, int experts)
{
    if (top_k > experts)
        f.reject(top_k_key, fmt::format("exceeds {} = {} (a token cannot visit more experts than there are); lower it",
                                        experts_key, experts));
}

Experts read_experts(Fields& f, Fields::Names count_names, Fields::Names top_k_names, int width)
{
    Experts e;
    e.count = f.size(count_names);
    e.top_k = f.size(top_k_names);
    e.width = width;
    check_top_k(f, f.used_name(top_k_names), e.top_k, f.used_name(count_names), e.count);
    return e;
}

int shared_width(Fields& f, std::string_view count_key, int count, int width)
{
    auto const together = std::int64_t{count} * width;
    if (together > Fields::max_size)
        f.reject(count_key, fmt::format("makes the shared experts {} wide together (larger than any part of a model); "
                                        "look for extra digits",
                                        together));
    return static_cast<int>(together);
}

Architecture empty_decoder(Backbone const& b)
{
    Architecture model;
    model.hidden = b.hidden;
    model.vocab = b.vocab;
    model.tied_embeddings = b.tied;
    model.other_parameters = b.hidden;
    return model;
}

void read_mtp(Fields& f, Architecture& model, Fields::Names names)
{
    constexpr int most = 64;
    int const modules = f.count_or(names, 0);
    if (modules > most)
        f.reject(f.used_name(names),
                 fmt::format("is above {} (models in use have one to three); look for extra digits", most));
    model.mtp = mtp_modules(model, modules);
}

std::vector<bool> read_sliding_layers(Fields& f, int layers)
{
    std::vector<bool> sliding(static_cast<std::size_t>(layers));
    auto const types = f.words_per_layer("layer_types", layers, {"sliding_attention", "full_attention"});
    for (std::size_t i = 0; i < sliding.size(); ++i)
        sliding[i] = types ? (*types)[i] == "sliding_attention" : i % 2 == 0;
    return sliding;
}

void read_optional_window(Fields& f, Architecture& model)
{
    bool const on = f.flag_or("use_sliding_window", false);
    if (!on) {
        f.ignore("sliding_window");
        return;
    }
    int const window = f.size("sliding_window");
    int const first = f.count_or("max_window_layers", 0);
    for (auto i = static_cast<std::size_t>(first); i < model.layers.size(); ++i)
        model.layers[i].attention.window = window;
}

} // namespace trainfare
