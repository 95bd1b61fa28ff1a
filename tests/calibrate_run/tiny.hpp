// SPDX-License-Identifier: Apache-2.0
//
// A model of DeepSeek-V3's family that a host measures in seconds, and a folder that goes away again.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "calibrate/run/points.hpp"
#include "model/hf_config.hpp"

namespace trainfare::measure {

inline Request tiny_request()
{
    Request r;
    r.model = parse_hf_config(
        R"({"model_type": "deepseek_v3", "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 128,
        "intermediate_size": 256, "kv_lora_rank": 64, "max_position_embeddings": 4096, "moe_intermediate_size": 128, "n_group": 2,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 2, "num_experts_per_tok": 2,
        "num_hidden_layers": 3, "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "q_lora_rank": 64, "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16, "rms_norm_eps": 1e-06, "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
        "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 32, "vocab_size": 512})",
        "tiny.json");
    r.ep = 4, r.seq = 32, r.sms = 32;
    r.sizes = host_sizes();
    return r;
}

class Folder {
public:
    explicit Folder(std::string const& name)
        : path_{std::filesystem::temp_directory_path() / ("trainfare-" + name + "-" + std::to_string(::getpid()))}
    {
        std::filesystem::remove_all(path_);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(Folder const&) = delete;
    Folder& operator=(Folder const&) = delete;

    [[nodiscard]] std::string path() const { return path_.string(); }
    [[nodiscard]] std::string file(char const* name) const { return (path_ / name).string(); }
    [[nodiscard]] std::string text(char const* name) const
    {
        std::ostringstream out;
        out << std::ifstream{file(name), std::ios::binary}.rdbuf();
        return out.str();
    }
    void write(char const* name, std::string const& text) const
    {
        std::filesystem::create_directories(path_);
        std::ofstream{file(name), std::ios::binary} << text;
    }

private:
    std::filesystem::path path_;
};

} // namespace trainfare::measure
