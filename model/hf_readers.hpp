// SPDX-License-Identifier: Apache-2.0
//
// One reader per model_type of Hugging Face's config.json, and the pieces they share. A reader asks for the fields that
// its family is known to use: the same name means different things in different families (intermediate_size above all).
#pragma once

#include <string_view>
#include <vector>

#include "model/architecture.hpp"
#include "model/config_fields.hpp"
#include "model/parts.hpp"

namespace trainfare {

struct HfReader {
    std::string_view model_type;
    Architecture (*read)(Fields&);
};

std::vector<HfReader> const& dense_readers();      // hf_dense.cpp: llama, gpt2 and relatives
std::vector<HfReader> const& mixtral_readers();    // hf_mixtral.cpp: intermediate_size is the expert width
std::vector<HfReader> const& qwen_moe_readers();   // hf_qwen_moe.cpp
std::vector<HfReader> const& deepseek_readers();   // hf_deepseek.cpp: leading dense layers, shared experts, MTP
std::vector<HfReader> const& own_name_readers();   // hf_own_names.cpp: ernie, hunyuan, minimax, dbrx
std::vector<HfReader> const& multimodal_readers(); // hf_multimodal.cpp: llama4, step3_vl

// Shared by the readers (hf_common.cpp).

struct Backbone {
    int hidden = 0;
    int layers = 0;
    int vocab = 0;
    int heads = 0;
    int kv_heads = 0;
    bool tied = false;
};

/// The names most files use. @param tied_by_default where the family ties its tables unless the file says no
Backbone read_backbone(Fields&, bool tied_by_default = false);

/// head_dim under any of @p names, else hidden / heads where that is whole.
HeadLayout read_heads(Fields&, Backbone const&, Fields::Names names = {"head_dim"});

int read_layer_count(Fields&, std::string_view key);

/// Both under any name in use; a token cannot visit more experts than there are.
Experts read_experts(Fields&, Fields::Names count_names, Fields::Names top_k_names, int width);
void check_top_k(Fields&, std::string_view top_k_key, int top_k, std::string_view experts_key, int experts);

/// Width of @p count shared experts of @p width together.
int shared_width(Fields&, std::string_view count_key, int count, int width);

/// Everything but the layers: tables and the final norm.
Architecture empty_decoder(Backbone const&);

/// As many modules as the first of @p names says, built like the last layer.
void read_mtp(Fields&, Architecture&, Fields::Names names);

/// Which layers slide, from layer_types; without it every second layer from the first, as Gemma 2 and gpt-oss do.
std::vector<bool> read_sliding_layers(Fields&, int layers);

/// Qwen's window: off unless use_sliding_window, and then only from layer max_window_layers on.
void read_optional_window(Fields&, Architecture&);

} // namespace trainfare
