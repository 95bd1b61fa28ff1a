// SPDX-License-Identifier: Apache-2.0
//
// The wording of every refusal: file, line, field, value, why, and what to do. Each case changes one field of a shipped
// model.
#include "model/config_fields.hpp"

#include <fstream>
#include <iterator>

#include "model/error.hpp"
#include "model/hf_config.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

std::string text_of(std::string const& model)
{
    std::ifstream in{std::string{TRAINFARE_SOURCE_DIR} + "/scenarios/models/" + model + ".json"};
    return {std::istreambuf_iterator<char>{in}, {}};
}

/// Where the value of @p key ends: at the comma or line end that is outside of its brackets.
std::size_t end_of_value(std::string const& text, std::size_t at)
{
    int depth = 0;
    bool quoted = false;
    for (;; ++at) {
        char const c = text.at(at);
        if (c == '"') quoted = !quoted;
        if (quoted) continue;
        if (depth == 0 && (c == ',' || c == '\n' || c == '}')) return at;
        if (c == '[' || c == '{') ++depth;
        if (c == ']' || c == '}') --depth;
    }
}

/// A shipped model with one field changed, or added at the front where it does not have it.
std::string with(std::string const& model, std::string const& key, std::string const& value)
{
    auto text = text_of(model);
    auto const quoted = '"' + key + "\": ";
    auto const at = text.find(quoted);
    if (at == std::string::npos) return "{" + quoted + value + ',' + text.substr(1);
    auto const begin = at + quoted.size();
    return text.replace(begin, end_of_value(text, begin) - begin, value);
}

std::string without(std::string const& model, std::string const& key)
{
    auto text = text_of(model);
    auto const at = text.find('"' + key + "\": ");
    return text.replace(at + 1, key.size(), "_name_or_path"); // a field that nobody reads
}

std::string error_of(std::string const& text)
{
    try {
        parse_hf_config(text, "x.json");
    } catch (InputError const& error) {
        return error.what();
    }
    return "no error";
}

void expect(std::string const& error, std::string const& begin, std::string const& rest = "")
{
    CHECK_THAT(error, Catch::StartsWith("x.json"));
    CHECK_THAT(error, Catch::Contains(begin));
    CHECK_THAT(error, Catch::Contains(rest));
    CHECK_THAT(error, Catch::Contains("("));   // why it matters
    CHECK_THAT(error, Catch::Contains("); ")); // what to try
}

} // namespace

TEST_CASE("top-k above the experts names both fields and the line", "[config_fields]")
{
    CHECK(error_of(with("deepseek-v3", "num_experts_per_tok", "257")) ==
          "x.json:30: num_experts_per_tok = 257 exceeds n_routed_experts = 256 (a token cannot visit more experts than "
          "there are); lower it");
}

TEST_CASE("top-k above the experts is refused in every family", "[config_fields]")
{
    auto const reason = "a token cannot visit more experts than there are";
    expect(error_of(with("mixtral-8x7b", "num_experts_per_tok", "9")),
           "num_experts_per_tok = 9 exceeds num_local_experts = 8", reason);
    expect(error_of(with("qwen3-30b-a3b", "num_experts_per_tok", "129")), "exceeds num_experts = 128", reason);
    expect(error_of(with("pangu-ultra-moe", "num_experts_per_tok", "300")), "exceeds num_routed_experts = 256", reason);
    expect(error_of(with("ernie-4.5-300b-a47b", "moe_k", "65")), "moe_k = 65 exceeds moe_num_experts = 64", reason);
    expect(error_of(with("hunyuan-large", "moe_topk", "17")), "moe_topk = 17 exceeds num_experts = 16", reason);
    expect(error_of(with("dbrx", "moe_top_k", "17")), "ffn_config.moe_top_k = 17 exceeds moe_num_experts = 16", reason);
    expect(error_of(with("skywork-moe", "num_experts_per_tok", "17")), "exceeds num_experts = 16", reason);
    expect(error_of(with("step3", "moe_top_k", "49")), "text_config.moe_top_k = 49 exceeds moe_num_experts = 48",
           reason);
    expect(error_of(with("minimax-m1", "num_experts_per_tok", "33")), "exceeds num_local_experts = 32", reason);
}

TEST_CASE("an unknown model_type lists the known ones and the other way to write a model", "[config_fields]")
{
    auto const error = error_of(with("llama-3.1-8b", "model_type", "\"llama5\""));
    expect(error, "model_type = \"llama5\" is not known", "fields mean different things in different families");
    for (auto const& type : known_model_types()) CHECK_THAT(error, Catch::Contains(type));
    CHECK_THAT(error, Catch::Contains("TOML [model] table"));
}

TEST_CASE("a missing, null or numeric model_type is never taken for llama", "[config_fields]")
{
    expect(error_of(without("llama-3.1-8b", "model_type")), "x.json: model_type is missing", "known: arctic");
    expect(error_of(with("llama-3.1-8b", "model_type", "null")), "model_type = null names no family", "known: arctic");
    expect(error_of(with("llama-3.1-8b", "model_type", "7")), "model_type = 7 is not text", "write it in quotes");
}

TEST_CASE("a needed size that is missing is named", "[config_fields]")
{
    for (auto const* key :
         {"hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "intermediate_size",
          "moe_intermediate_size", "n_routed_experts", "num_experts_per_tok", "q_lora_rank", "kv_lora_rank",
          "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "first_k_dense_replace"})
        expect(error_of(without("deepseek-v3", key)), std::string{"x.json: "} + key + " is missing",
               "take the config.json published with the weights");
    expect(error_of(without("qwen3-next-80b-a3b", "full_attention_interval")), "full_attention_interval is missing");
    expect(error_of(without("gpt-oss-120b", "sliding_window")), "sliding_window is missing");
    expect(error_of(without("minimax-m1", "attn_type_list")), "attn_type_list is missing", "which layers are linear");
    expect(error_of(without("step3", "moe_layers_enum")), "text_config.moe_layers_enum is missing",
           "names the MoE layers");
    expect(error_of(without("dbrx", "ffn_config")), "ffn_config is missing");
}

TEST_CASE("a size of the wrong kind is refused with its value", "[config_fields]")
{
    auto const hidden = [](std::string const& value) { return error_of(with("deepseek-v3", "hidden_size", value)); };
    expect(hidden("null"), "hidden_size = null where a number is needed", "null is no size");
    expect(hidden("0"), "hidden_size = 0 is below 1", "the published file");
    expect(hidden("-7168"), "hidden_size = -7168 is below 1");
    expect(hidden("0.02"), "hidden_size = 0.02 is not a whole number", "shuffled copies");
    expect(hidden("false"), "hidden_size = false is not a number", "without quotes");
    expect(hidden("\"7168\""), "hidden_size = \"7168\" is not a number", "without quotes");
    expect(hidden("[7168]"), "hidden_size = [1 values] is not a number");
    expect(hidden("2147483648"), "hidden_size = 2147483648 is above 16777216", "extra digits");
    expect(hidden("99999999999999999999999"), "hidden_size = 1e+23 is above 16777216", "extra digits");
    expect(hidden("18446744073709551615"), "hidden_size = 1.8446744073709552e+19 is above");
    expect(hidden("-9223372036854775808"), "is below 1");
}

TEST_CASE("a whole number written as a float is taken", "[config_fields]")
{
    CHECK(parse_hf_config(with("deepseek-v3", "hidden_size", "7168.0"), "x").hidden == 7168);
    CHECK(parse_hf_config(with("deepseek-v3", "hidden_size", "7.168e3"), "x").hidden == 7168);
}

TEST_CASE("a depth that would fill the memory is refused", "[config_fields]")
{
    expect(error_of(with("llama-3.1-8b", "num_hidden_layers", "1001")), "num_hidden_layers = 1001 is above 1000");
    expect(error_of(with("deepseek-v3", "num_nextn_predict_layers", "65")),
           "num_nextn_predict_layers = 65 is above 64");
    expect(error_of(with("deepseek-v3", "n_shared_experts", "16777216")),
           "n_shared_experts = 16777216 makes the shared");
    expect(error_of(with("llama-3.1-405b", "head_dim", "16777216")), "128 heads of width 16777216");
    expect(error_of(with("llama-3.1-8b", "head_dim", "1e300")), "head_dim = 1e+300 is above");
}

TEST_CASE("heads must divide among keys and values, and the hidden size among heads", "[config_fields]")
{
    expect(error_of(with("llama-3.1-8b", "num_key_value_heads", "7")),
           "num_key_value_heads = 7 does not divide num_attention_heads = 32", "same number of query heads");
    expect(error_of(with("llama-3.1-8b", "num_key_value_heads", "64")), "num_key_value_heads = 64 does not divide");
    expect(error_of(with("llama-3.1-8b", "hidden_size", "4097")),
           "hidden_size = 4097 is not a multiple of num_attention_heads = 32 and head_dim is not given",
           "add head_dim");
    expect(error_of(with("gpt2", "n_embd", "769")), "n_embd = 769 is not a multiple of n_head = 12");
    expect(error_of(with("dbrx", "kv_n_heads", "7")), "attn_config.kv_n_heads = 7 does not divide n_heads = 48");
    expect(error_of(with("dbrx", "d_model", "6145")), "d_model = 6145 is not a multiple of n_heads = 48");
    expect(error_of(with("qwen3-next-80b-a3b", "linear_num_key_heads", "15")),
           "linear_num_key_heads = 15 does not divide linear_num_value_heads = 32");
    expect(error_of(with("step3", "num_attention_groups", "3")), "num_attention_groups = 3 does not divide");
    CHECK(error_of(with("qwen3-30b-a3b", "hidden_size", "2049")) == "no error"); // head_dim is given
}

TEST_CASE("a list over layers must have one entry for each", "[config_fields]")
{
    expect(error_of(with("hunyuan-a13b", "moe_topk", "[8, 8]")), "moe_topk = [2 values] does not fit the 32 layers");
    expect(error_of(with("hunyuan-a13b", "num_hidden_layers", "31")),
           "moe_topk = [32 values] does not fit the 31 layers");
    expect(error_of(with("gpt-oss-20b", "num_hidden_layers", "25")), "layer_types = [24 values] does not fit");
    expect(error_of(with("minimax-m1", "attn_type_list", "[0, 1]")), "attn_type_list = [2 values] does not fit");
    expect(error_of(with("skywork-moe", "num_experts", "[16, 8]")),
           "num_experts = [2 values] does not hold one number");
    expect(error_of(with("llama-4-scout", "no_rope_layers", "[1]")), "text_config.no_rope_layers = [1 values]");
}

TEST_CASE("an entry of a list is named by its index", "[config_fields]")
{
    std::string const two = R"({"model_type": "gpt_oss", "num_hidden_layers": 2, "hidden_size": 64, "vocab_size": 10,
        "num_attention_heads": 4, "intermediate_size": 32, "num_local_experts": 4, "num_experts_per_tok": 2,
        "sliding_window": 16, "layer_types": ["full_attention",
        "linear"]})";
    CHECK(error_of(two) == "x.json:4: layer_types[1] = \"linear\" is not a kind of layer this model has (known: "
                           "sliding_attention, full_attention); compare with the published file");
}

TEST_CASE("layer kinds that a family does not have are refused", "[config_fields]")
{
    std::string const minimax = R"({"model_type": "minimax_text_01", "num_hidden_layers": 2, "hidden_size": 64,
        "vocab_size": 10, "num_attention_heads": 4, "intermediate_size": 32, "num_local_experts": 4,
        "num_experts_per_tok": 2, "attn_type_list": [0, KIND]})";
    auto const kind = [&](std::string const& value) {
        auto text = minimax;
        return error_of(text.replace(text.find("KIND"), 4, value));
    };
    CHECK(kind("1") == "no error");
    expect(kind("2"), "attn_type_list[1] = 2 is not a kind of layer this model has (known: 0, 1)");
    expect(kind("0.5"), "attn_type_list[1] = 0.5 is not a whole number");
    expect(kind("true"), "attn_type_list[1] = true is not a number");
    auto m2 = text_of("minimax-m2");
    m2.replace(m2.find("    1,"), 6, "    0,");
    expect(error_of(m2), "attn_type_list[0] = 0 is not a kind of layer this model has (known: 1)");
    expect(error_of(with("qwen3-next-80b-a3b", "layer_types", "7")), "layer_types = 7 is not a list");
}

TEST_CASE("layers named by index must exist, once each, as whole numbers", "[config_fields]")
{
    auto const only = [](std::string const& value) {
        return error_of(with("qwen3-30b-a3b", "mlp_only_layers", value));
    };
    CHECK(only("[0, 47]") == "no error");
    expect(only("[0, 48]"), "mlp_only_layers = [2 values] names layer 48, which does not exist",
           "the layers are 0 to 47");
    expect(only("[3, 3]"), "names layer 3 twice");
    expect(only("[1.5]"), "mlp_only_layers[0] = 1.5 is not a whole number");
    expect(only("[-1]"), "mlp_only_layers[0] = -1 is below 0");
    expect(only("[true]"), "mlp_only_layers[0] = true is not a number");
    expect(only("3"), "mlp_only_layers = 3 is not a list of layer numbers");

    auto const named = [](std::string const& value) { return error_of(with("step3", "moe_layers_enum", value)); };
    CHECK(named("\"4, 5,60\"") == "no error");
    expect(named("\"4,5,61\""), "text_config.moe_layers_enum = \"4,5,61\" names layer 61", "0 to 60");
    expect(named("\"4,-1\""), "names layer -1");
    expect(named("\"4,4\""), "names layer 4 twice");
    for (auto const* bad : {"\"4,x\"", "\"4,5.5\"", "\"4,,5\"", "\"4,\"", "\"\"", "\"4 5\"", "\"99999999999\""})
        expect(named(bad), "is not a list of layer numbers", "whole numbers between commas");

    expect(error_of(with("ernie-4.5-300b-a47b", "moe_layer_end_index", "54")), "moe_layer_end_index = 54 names a layer",
           "0 to 53");
    expect(error_of(with("ernie-4.5-300b-a47b", "moe_layer_start_index", "54")),
           "moe_layer_start_index = 54 is beyond");
    expect(error_of(with("ernie-4.5-300b-a47b", "moe_layer_start_index", "1.5")), "is not a whole number");
    CHECK(error_of(with("ernie-4.5-300b-a47b", "moe_layer_end_index", "-1")) == "no error");
    expect(error_of(with("deepseek-v3", "first_k_dense_replace", "62")),
           "first_k_dense_replace = 62 exceeds num_hidden_layers");

    auto const listed = [](std::string const& value) { // no shipped file has the list: put it before another field
        auto text = text_of("llama-4-maverick");
        return error_of(text.insert(text.find("\"attention_chunk_size\""), "\"moe_layers\": " + value + ", "));
    };
    CHECK(listed("[1, 3]") == "no error");
    expect(listed("[48]"), "text_config.moe_layers = [1 values] names layer 48");
    expect(listed("[1, 1]"), "names layer 1 twice");
}

TEST_CASE("multimodal models need their text_config", "[config_fields]")
{
    expect(error_of(without("llama-4-scout", "text_config")), "x.json: text_config is missing", "vision tower");
    expect(error_of(without("step3", "text_config")), "x.json: text_config is missing", "vision tower");
    expect(error_of(with("step3", "text_config", "[1]")), "text_config = [1 values] is not an object");
    expect(error_of(with("step3", "text_config", "null")), "text_config = null is missing");
}

TEST_CASE("two names of one field must agree", "[config_fields]")
{
    expect(error_of(with("deepseek-v3", "num_experts", "128")), "num_experts = 128 contradicts n_routed_experts = 256",
           "two names of one field must agree");
    CHECK(error_of(with("deepseek-v3", "num_experts", "256")) == "no error");
    expect(error_of(with("gpt-oss-120b", "experts_per_token", "8")),
           "experts_per_token = 8 contradicts num_experts_per_tok = 4");
    expect(error_of(with("ling-lite", "n_shared_experts", "1")),
           "num_shared_experts = 2 contradicts n_shared_experts = 1");
    expect(error_of(with("gemma-2-27b", "sliding_window_size", "512")),
           "sliding_window_size = 512 contradicts sliding_window = 4096");
    expect(error_of(with("hunyuan-a13b", "head_dim", "64")), "head_dim = 64 contradicts attention_head_dim = 128");
}

TEST_CASE("routing groups must be possible", "[config_fields]")
{
    expect(error_of(with("deepseek-v3", "n_group", "7")), "n_group = 7 does not divide the 256 experts");
    expect(error_of(with("deepseek-v3", "topk_group", "9")), "topk_group = 9 exceeds n_group = 8");
    expect(error_of(with("deepseek-v3", "num_experts_per_tok", "129")),
           "num_experts_per_tok = 129 exceeds the 128 experts in");
}

TEST_CASE("a switch that is not true or false is refused", "[config_fields]")
{
    expect(error_of(with("llama-3.1-8b", "tie_word_embeddings", "1")), "tie_word_embeddings = 1 is not true or false");
    expect(error_of(with("minimax-m2", "use_mtp", "\"yes\"")), "use_mtp = \"yes\" is not true or false");
}

TEST_CASE("skywork without a top-k is read with a warning", "[config_fields]")
{
    auto const model = parse_hf_config(text_of("skywork-moe"), "x");
    CHECK(model.layers[0].ffn.experts->top_k == 2);
    CHECK(model.notes.at(0) ==
          "warning: num_experts_per_tok is not in the file; 2 is used, which the published code of "
          "skywork fixes");
    CHECK(parse_hf_config(with("skywork-moe", "num_experts_per_tok", "4"), "x").notes.empty());
}

TEST_CASE("unknown fields become one note, harmless ones none", "[config_fields]")
{
    auto const text = with("llama-4-scout", "num_expert", "3");
    CHECK(parse_hf_config(text, "x").notes.back() == "1 unknown field ignored: \"num_expert\"");
    auto nested = text_of("dbrx");
    nested.replace(nested.find("\"kv_n_heads\""), 1, "\"new\": 1, \"");
    CHECK(parse_hf_config(nested, "x").notes.back() == "1 unknown field ignored: \"attn_config.new\"");
    std::string many = "{";
    for (int i = 0; i < 30; ++i) many += "\"field" + std::to_string(i) + "\": 0, ";
    auto const note = parse_hf_config(many + text_of("gpt2").substr(1), "x").notes.back();
    CHECK_THAT(note, Catch::StartsWith("30 unknown fields ignored: ") && Catch::EndsWith(", ..."));
}

TEST_CASE("a text that is JSON but no object is refused", "[config_fields]")
{
    CHECK_THAT(error_of("[1, 2]"), Catch::StartsWith("x.json:1: [2 values] instead of an object"));
    CHECK_THAT(error_of("7"), Catch::StartsWith("x.json:1: 7 instead of an object"));
    CHECK_THAT(error_of("{}"), Catch::StartsWith("x.json: model_type is missing"));
}

TEST_CASE("every truncation of a configuration is refused in words", "[config_fields]")
{
    auto text = text_of("deepseek-v3");
    text.resize(text.find_last_of('}'));
    for (std::size_t length = 0; length <= text.size(); length += 7)
        CHECK_THAT(error_of(text.substr(0, length)), Catch::StartsWith("x.json:"));
}
