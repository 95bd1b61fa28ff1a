// SPDX-License-Identifier: Apache-2.0
//
// Dense decoders: Llama and its relatives, and GPT-2.
#include "model/hf_readers.hpp"

namespace trainfare {

namespace {

struct DenseTraits {
    bool tied = false;
    bool qkv_bias = false; // where no field says so
    bool qk_norm = false;
    int norms = 2; // vectors of hidden size a layer
};

Architecture dense_decoder(Fields& f, DenseTraits const& traits)
{
    auto const b = read_backbone(f, traits.tied);
    auto const heads = read_heads(f, b);
    bool const bias = f.flag_or("attention_bias", false);

    Layer layer;
    layer.attention = softmax_attention(heads, {bias || traits.qkv_bias, bias});
    if (traits.qk_norm) add_vectors(layer.attention, 1.0 * (heads.heads + heads.kv_heads) * heads.head_dim);
    layer.ffn = dense_ffn(b.hidden, f.size("intermediate_size"), true, f.flag_or("mlp_bias", false));
    layer.norm_parameters = 1.0 * traits.norms * b.hidden;

    auto model = empty_decoder(b);
    model.layers.assign(static_cast<std::size_t>(b.layers), layer);
    return model;
}

Architecture read_llama(Fields& f) { return dense_decoder(f, {}); }

Architecture read_olmo2(Fields& f) { return dense_decoder(f, {.qk_norm = true}); }

/// q, k and v have a bias that no field mentions.
Architecture read_qwen2(Fields& f)
{
    auto model = dense_decoder(f, {.qkv_bias = true});
    read_optional_window(f, model);
    return model;
}

/// Tied unless the file says no; every second layer slides; norms before and after both parts.
Architecture read_gemma2(Fields& f)
{
    auto model = dense_decoder(f, {.tied = true, .norms = 4});
    int const window = f.size({"sliding_window", "sliding_window_size"});
    auto const sliding = read_sliding_layers(f, static_cast<int>(model.layers.size()));
    for (std::size_t i = 0; i < sliding.size(); ++i)
        if (sliding[i]) model.layers[i].attention.window = window;
    return model;
}

/// Names of its own, biases everywhere, LayerNorm (two vectors), learned positions.
Architecture read_gpt2(Fields& f)
{
    Backbone b;
    b.hidden = f.size("n_embd");
    b.layers = read_layer_count(f, "n_layer");
    b.vocab = f.size("vocab_size");
    b.heads = b.kv_heads = f.size("n_head");
    b.tied = f.flag_or("tie_word_embeddings", true);
    if (b.hidden % b.heads != 0)
        f.reject("n_embd", "is not a multiple of n_head = " + std::to_string(b.heads) +
                               " (heads share it evenly); correct one of them");
    auto const width = f.optional_size("n_inner");
    if (!width && 4 * b.hidden > Fields::max_size)
        f.reject("n_embd", "is too large for the inner width 4 x n_embd (larger than any part of a model); look for "
                           "extra digits");

    Layer layer;
    layer.attention = softmax_attention({b.hidden, b.heads, b.heads, b.hidden / b.heads}, {true, true});
    layer.ffn = dense_ffn(b.hidden, width.value_or(4 * b.hidden), false, true);
    layer.norm_parameters = 4.0 * b.hidden;

    auto model = empty_decoder(b);
    model.max_positions = f.size("n_positions");
    model.other_parameters = (2.0 + model.max_positions) * b.hidden;
    model.layers.assign(static_cast<std::size_t>(b.layers), layer);
    return model;
}

} // namespace

std::vector<HfReader> const& dense_readers()
{
    static std::vector<HfReader> const readers{{"baichuan", read_llama}, {"gemma2", read_gemma2},
                                               {"gpt2", read_gpt2},      {"llama", read_llama},
                                               {"olmo2", read_olmo2},    {"qwen2", read_qwen2}};
    return readers;
}

} // namespace trainfare
