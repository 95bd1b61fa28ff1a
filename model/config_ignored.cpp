// SPDX-License-Identifier: Apache-2.0
//
// Fields of a config.json that decide neither a size nor a FLOP. They are listed so that what remains, a new field or
// a misspelt one, can be shown to the user.
#include <algorithm>
#include <array>
#include <string_view>

#include "model/config_fields.hpp"

namespace trainfare {

namespace {

constexpr auto harmless = std::to_array<std::string_view>({
    "_attn_implementation",
    "_name_or_path",
    "activation_function",
    "architectures",
    "attn_output_multiplier",
    "auto_map",
    "aux_loss_alpha",
    "cache_implementation",
    "clip_qkv",
    "embedding_multiplier_scale",
    "ep_size",
    "hidden_act",
    "hidden_activation",
    "id2label",
    "initial_context_length",
    "initializer_range",
    "label2id",
    "layer_norm_epsilon",
    "max_attn_value",
    "max_position_embedding",
    "max_position_embeddings",
    "max_seq_len",
    "max_window_layers",
    "model_max_length",
    "n_ctx",
    "norm_epsilon",
    "norm_expert_weight",
    "norm_head",
    "norm_softmax",
    "norm_topk_prob",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "output_multiplier_scale",
    "output_router_logits",
    "partial_rotary_factor",
    "postnorm",
    "pretraining_tp",
    "qk_norm_type",
    "quantization_config",
    "query_pre_attn_scalar",
    "reorder_and_upcast_attn",
    "return_dict",
    "rms_norm_eps",
    "routed_scaling_factor",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "scoring_func",
    "seq_aux",
    "shared_moe_mode",
    "swiglu_limit",
    "task_specific_params",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "use_residual",
    "use_routing_bias",
    "vision_config",
    "z_loss_weight",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "moe_loss_weight",
});

constexpr auto harmless_starts =
    std::to_array<std::string_view>({"rope_", "rotary_", "layernorm_", "summary_", "router_"});
constexpr auto harmless_ends = std::to_array<std::string_view>({"_token_id", "_dropout", "_pdrop"});

bool is_harmless(std::string_view key)
{
    return std::find(harmless.begin(), harmless.end(), key) != harmless.end() ||
           std::any_of(harmless_starts.begin(), harmless_starts.end(), [&](auto s) { return key.starts_with(s); }) ||
           std::any_of(harmless_ends.begin(), harmless_ends.end(), [&](auto s) { return key.ends_with(s); });
}

/// Nested objects that a reader opened are searched, others count as one field.
void collect(ConfigReading const& reading, JsonValue const& object, std::string const& path,
             std::vector<std::string>& out)
{
    for (auto const& [key, value] : *object.object()) {
        bool const used = reading.used.contains(&value);
        if (used && value.object())
            collect(reading, value, path + key + ".", out);
        else if (!used && !is_harmless(key))
            out.push_back(path + key);
    }
}

} // namespace

std::vector<std::string> ConfigReading::unknown_fields() const
{
    std::vector<std::string> out;
    if (root && root->object()) collect(*this, *root, "", out);
    return out;
}

} // namespace trainfare
