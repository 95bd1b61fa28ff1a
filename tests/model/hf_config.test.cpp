// SPDX-License-Identifier: Apache-2.0
//
// Every shipped configuration against its counted size, and the traps that make families differ.
#include "model/hf_config.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

std::string const folder = std::string{TRAINFARE_SOURCE_DIR} + "/scenarios/models/";

Architecture shipped(std::string const& name) { return read_hf_config(folder + name + ".json"); }

/// The columns before the free text hold no quotes, so the first ones can be cut at commas.
std::vector<std::vector<std::string>> index_rows()
{
    std::ifstream in{folder + "INDEX.csv"};
    std::vector<std::vector<std::string>> rows;
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) {
        std::vector<std::string> cells(1);
        for (char const c : line) {
            if (c == ',')
                cells.emplace_back();
            else
                cells.back() += c;
        }
        rows.push_back(cells);
    }
    return rows;
}

int moe_layers(Architecture const& model)
{
    return static_cast<int>(
        std::count_if(model.layers.begin(), model.layers.end(), [](auto const& l) { return l.is_moe(); }));
}

std::string error_of(std::string const& path)
{
    try {
        read_hf_config(path);
    } catch (InputError const& error) {
        return error.what();
    }
    return "no error";
}

} // namespace

TEST_CASE("all shipped models count what INDEX.csv says, to three decimals of a billion", "[hf_config]")
{
    auto const rows = index_rows();
    REQUIRE(rows.size() == 51);
    for (auto const& row : rows) {
        INFO(row.at(0));
        auto const model = shipped(row.at(0));
        auto const count = count_parameters(model);
        CHECK(model.name == row.at(0));
        CHECK(model.model_type == row.at(3));
        CHECK((moe_layers(model) > 0) == (row.at(4) == "moe"));
        CHECK(count.total / 1e9 == Approx(std::stod(row.at(7))).margin(0.00051));
        CHECK(count.active / 1e9 == Approx(std::stod(row.at(8))).margin(0.00051));
    }
}

TEST_CASE("18 models count exactly as many parameters as their released weights", "[hf_config]")
{
    std::map<std::string, double> const released{{"gpt2", 124439808},
                                                 {"llama-3.1-8b", 8030261248},
                                                 {"llama-3.1-70b", 70553706496},
                                                 {"llama-3.1-405b", 405853388800},
                                                 {"llama-2-70b", 68976648192},
                                                 {"mixtral-8x7b", 46702792704},
                                                 {"qwen2.5-72b", 72706203648},
                                                 {"qwen3-30b-a3b", 30532122624},
                                                 {"qwen3-235b-a22b", 235093634560},
                                                 {"gemma-2-27b", 27227128320},
                                                 {"yi-34b", 34388917248},
                                                 {"baichuan2-13b", 13896668160},
                                                 {"gpt-oss-120b", 116829156672},
                                                 {"gpt-oss-20b", 20914757184},
                                                 {"olmoe-1b-7b", 6919161856},
                                                 {"phi-3.5-moe", 41873153344},
                                                 {"deepseek-v2-lite", 15706484224},
                                                 {"dbrx", 131596523520}};
    for (auto const& [model, parameters] : released) {
        INFO(model);
        CHECK(count_parameters(shipped(model)).total == parameters);
    }
}

TEST_CASE("no shipped model has a field that is unknown", "[hf_config]")
{
    for (auto const& entry : std::filesystem::directory_iterator{folder}) {
        if (entry.path().extension() != ".json") continue;
        INFO(entry.path().filename().string());
        for (auto const& note : read_hf_config(entry.path().string()).notes)
            CHECK_THAT(note, !Catch::Contains("unknown field"));
    }
}

TEST_CASE("every known model_type has a shipped model, and they are listed in order", "[hf_config]")
{
    auto const known = known_model_types();
    CHECK(std::is_sorted(known.begin(), known.end()));
    std::set<std::string> seen;
    for (auto const& row : index_rows()) seen.insert(row.at(3));
    CHECK(std::set<std::string>(known.begin(), known.end()) == seen);
}

TEST_CASE("dense layers stand where each family puts them", "[hf_config]")
{
    CHECK(moe_layers(shipped("deepseek-v3")) == 58);
    CHECK_FALSE(shipped("deepseek-v3").layers[2].is_moe());
    CHECK(shipped("deepseek-v3").layers[3].is_moe());
    CHECK(moe_layers(shipped("kimi-k2")) == 60);
    CHECK(moe_layers(shipped("llama-4-maverick")) == 24);
    CHECK_FALSE(shipped("llama-4-maverick").layers[0].is_moe());
    CHECK(shipped("llama-4-maverick").layers[0].ffn.width == 16384);
    CHECK_FALSE(shipped("step3").layers.back().is_moe());
    CHECK(moe_layers(shipped("ernie-4.5-300b-a47b")) == 51);
    CHECK(moe_layers(shipped("ling-plus")) == 88);
}

TEST_CASE("the width of a head is not hidden over heads where the file says so", "[hf_config]")
{
    CHECK(shipped("qwen3-235b-a22b").layers[0].attention.qk_dim == 128);
    CHECK(shipped("gpt-oss-120b").layers[0].attention.qk_dim == 64);
    CHECK(shipped("hunyuan-a13b").layers[0].attention.qk_dim == 128);
    CHECK(shipped("deepseek-v3").layers[0].attention.qk_dim == 192);
    CHECK(shipped("llama-2-70b").layers[0].attention.qk_dim == 128); // 8192 / 64
}

TEST_CASE("shared experts are one MLP of their widths together", "[hf_config]")
{
    CHECK(shipped("deepseek-v2").layers.back().ffn.experts->shared_width == 2 * 1536);
    CHECK(shipped("qwen2-57b-a14b").layers.back().ffn.experts->shared_width == 20480);
    CHECK(shipped("llama-4-scout").layers.back().ffn.experts->shared_width == 8192); // in no field at all
    CHECK(shipped("mixtral-8x7b").layers.back().ffn.experts->shared_width == 0);
    CHECK(shipped("snowflake-arctic").layers.back().ffn.residual_width == 7168);
}

TEST_CASE("device-limited routing is read with its groups", "[hf_config]")
{
    auto const v3 = *shipped("deepseek-v3").layers.back().ffn.experts;
    CHECK(v3.groups == 8);
    CHECK(v3.top_groups == 4);
    CHECK(shipped("deepseek-v2").layers.back().ffn.experts->top_groups == 3);
    CHECK(shipped("mixtral-8x7b").layers.back().ffn.experts->groups == 1);
}

TEST_CASE("multi-token-prediction modules are read and kept out of the total", "[hf_config]")
{
    CHECK(shipped("deepseek-v3").mtp.size() == 1);
    CHECK(shipped("deepseek-v3").mtp[0].is_moe());
    CHECK(shipped("moonlight-16b-a3b").mtp.empty());
    CHECK(shipped("minimax-m2").mtp.size() == 3);
    CHECK(count_parameters(shipped("glm-4.5")).mtp / 1e9 == Approx(3.988).margin(0.0006));
    CHECK(count_parameters(shipped("pangu-ultra-moe")).mtp / 1e9 == Approx(12.443).margin(0.0006));
}

TEST_CASE("windows and chunks are set on the layers that have them", "[hf_config]")
{
    auto const oss = shipped("gpt-oss-120b");
    CHECK(oss.layers[0].attention.window == 128);
    CHECK_FALSE(oss.layers[1].attention.window.has_value());
    auto const gemma = shipped("gemma-2-27b");
    CHECK(gemma.layers[0].attention.window == 4096);
    CHECK_FALSE(gemma.layers[1].attention.window.has_value());
    auto const scout = shipped("llama-4-scout");
    CHECK(scout.layers[0].attention.window == 8192);
    CHECK(scout.layers[0].attention.chunked);
    CHECK_FALSE(scout.layers[3].attention.window.has_value());
    // set, but switched off by use_sliding_window
    CHECK_FALSE(shipped("qwen2-57b-a14b").layers[0].attention.window.has_value());
}

TEST_CASE("linear layers are a kind of their own", "[hf_config]")
{
    auto const minimax = shipped("minimax-text-01");
    CHECK(minimax.layers[0].attention.kind == AttentionKind::lightning);
    CHECK(minimax.layers[7].attention.kind == AttentionKind::gqa);
    auto const next = shipped("qwen3-next-80b-a3b");
    CHECK(next.layers[0].attention.kind == AttentionKind::delta_net);
    CHECK(next.layers[0].attention.heads == 32);
    CHECK(next.layers[3].attention.kind == AttentionKind::gqa);
}

TEST_CASE("cross-layer attention shares keys and values between two layers", "[hf_config]")
{
    auto const model = shipped("hunyuan-large");
    CHECK(model.layers[0].attention.owns_kv);
    CHECK_FALSE(model.layers[1].attention.owns_kv);
    CHECK(shipped("hunyuan-a13b").layers[1].attention.owns_kv);
}

TEST_CASE("tables are tied where the family ties them by default", "[hf_config]")
{
    CHECK(shipped("gemma-2-27b").tied_embeddings);
    CHECK(shipped("gpt2").tied_embeddings);
    CHECK(shipped("gpt2").max_positions == 1024);
    CHECK_FALSE(shipped("step3").tied_embeddings);
    CHECK(shipped("hunyuan-a13b").tied_embeddings);
}

TEST_CASE("a missing file, a folder and a device are refused without hanging", "[hf_config]")
{
    CHECK_THAT(error_of("/nonexistent/config.json"), Catch::StartsWith("/nonexistent/config.json: no such file"));
    CHECK_THAT(error_of(folder), Catch::Contains("is not a file"));
    CHECK_THAT(error_of("/dev/zero"), Catch::StartsWith("/dev/zero: is not a file"));
}

TEST_CASE("a file called config.json is named after its folder", "[hf_config]")
{
    std::string const text = R"({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 9,
                                 "num_attention_heads": 2, "intermediate_size": 16})";
    CHECK(parse_hf_config(text, "models/tiny/config.json").name == "tiny");
    CHECK(parse_hf_config(text, "tiny-2.json").name == "tiny-2");
    CHECK(parse_hf_config(text, "config.json").name == "config");
}
