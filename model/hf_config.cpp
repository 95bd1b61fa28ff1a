// SPDX-License-Identifier: Apache-2.0
//
// From a file to an Architecture: find the reader of its model_type, run it, check what no single field can tell.
#include "model/hf_config.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/core.h>

#include "model/error.hpp"
#include "model/hf_readers.hpp"
#include "model/json_tree.hpp"

namespace trainfare {

namespace {

/// Sorted by name.
std::vector<HfReader> all_readers()
{
    std::vector<HfReader> all;
    for (auto const* family : {&dense_readers(), &mixtral_readers(), &qwen_moe_readers(), &deepseek_readers(),
                               &own_name_readers(), &multimodal_readers()})
        all.insert(all.end(), family->begin(), family->end());
    std::sort(all.begin(), all.end(), [](auto const& a, auto const& b) { return a.model_type < b.model_type; });
    return all;
}

std::string known_list()
{
    std::string out;
    for (auto const& type : known_model_types()) out += (out.empty() ? "" : ", ") + type;
    return out;
}

HfReader find_reader(Fields& f)
{
    auto const advice = "known: " + known_list() +
                        "; for any other model, or one without a config.json, write its sizes in a TOML [model] table "
                        "with type = \"toml\"";
    auto const type = f.optional_text("model_type");
    if (!type)
        f.reject("model_type", (f.is_present("model_type") ? "names no family" : "is missing") +
                                   (" (fields mean different things in different families); " + advice));
    for (auto const& reader : all_readers())
        if (reader.model_type == *type) return reader;
    f.reject("model_type",
             "is not known (fields mean different things in different families, so none is assumed); " + advice);
}

/// Layers whose products of two sizes would leave the range that the rest of the program counts in.
void check_widths(Fields const& f, Architecture const& model)
{
    constexpr double widest = 1 << 30;
    for (auto const& layer : model.layers) {
        auto const& a = layer.attention;
        if (1.0 * a.heads * std::max(a.qk_dim, a.v_dim) > widest)
            f.reject("model_type",
                     fmt::format("has {} heads of width {} (larger than any model); look for extra digits "
                                 "in the attention's sizes",
                                 a.heads, std::max(a.qk_dim, a.v_dim)));
    }
}

std::string unknown_note(std::vector<std::string> const& fields)
{
    constexpr std::size_t most = 20;
    std::string out = fmt::format("{} unknown field{} ignored: ", fields.size(), fields.size() == 1 ? "" : "s");
    for (std::size_t i = 0; i < std::min(most, fields.size()); ++i) out += (i == 0 ? "" : ", ") + shown({fields[i], 0});
    return fields.size() > most ? out + ", ..." : out;
}

/// Files called config.json are named after their folder.
std::string name_from(std::string const& label)
{
    std::filesystem::path const path{label};
    auto const folder = path.parent_path().filename().string();
    return path.filename() == "config.json" && !folder.empty() ? folder : path.stem().string();
}

std::string read_text(std::string const& path)
{
    std::error_code error;
    auto const status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status))
        throw InputError({path, 0, 0}, "no such file (the model's sizes come from it); give the path of a config.json");
    if (!std::filesystem::is_regular_file(status))
        throw InputError({path, 0, 0},
                         "is not a file (folders and devices cannot be read); give the config.json itself");
    if (std::filesystem::file_size(path, error) > max_json_bytes)
        throw InputError({path, 0, 0}, fmt::format("is larger than {} MiB (a config.json has a few kB); give the "
                                                   "configuration, not the weights",
                                                   max_json_bytes >> 20));
    std::ifstream in{path, std::ios::binary};
    if (!in) throw InputError({path, 0, 0}, "cannot be opened (check its permissions); make it readable");
    return {std::istreambuf_iterator<char>{in}, {}};
}

} // namespace

Architecture parse_hf_config(std::string const& text, std::string const& label)
{
    auto const root = parse_json(text, label);
    if (!root.object())
        throw InputError(
            {label, root.line, 0},
            fmt::format("{} instead of an object (a config.json is {{ ... }}); give a config.json", shown(root)));
    ConfigReading reading;
    reading.label = label;
    reading.root = &root;
    Fields fields{reading, root};
    auto const reader = find_reader(fields);
    auto model = reader.read(fields);
    check_widths(fields, model);
    model.name = name_from(label);
    model.model_type = reader.model_type;
    model.notes = reading.notes;
    if (auto const unknown = reading.unknown_fields(); !unknown.empty()) model.notes.push_back(unknown_note(unknown));
    return model;
}

Architecture read_hf_config(std::string const& path) { return parse_hf_config(read_text(path), path); }

std::vector<std::string> known_model_types()
{
    std::vector<std::string> types;
    for (auto const& reader : all_readers()) types.emplace_back(reader.model_type);
    return types;
}

} // namespace trainfare
