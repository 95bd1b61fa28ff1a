// SPDX-License-Identifier: Apache-2.0
//
// Scenario files: includes first, then the file, then --set; read section by section; then every rule of plan and
// cluster is checked at once, each broken one with the place of its key.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "model/hf_config.hpp"
#include "model/text_units.hpp"
#include "scenarios/estimate.hpp"
#include "scenarios/load.hpp"
#include "scenarios/model_toml.hpp"
#include "scenarios/scenario_sections.hpp"

namespace trainfare {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_depth = 8;
constexpr std::size_t max_includes = 64;

struct Found {
    fs::path path;
    std::string label; // as messages name it
};

/// Beside the file that names it, else in the shipped folder.
Found find_file(std::string const& name, fs::path const& folder, std::string const& folder_label)
{
    std::error_code error;
    if (fs::path{name}.is_absolute()) return {name, name};
    if (auto const beside = folder / name; fs::exists(beside, error))
        return {beside, (fs::path{folder_label} / name).lexically_normal().string()};
    if (auto const shipped = fs::path{shipped_folder()} / name; fs::exists(shipped, error)) return {shipped, name};
    return {};
}

/// Reads files and remembers where each label lies, so that a path inside a file is relative to that file.
class FileReader {
public:
    Setting read(Found const& file)
    {
        std::error_code error;
        auto const real = fs::weakly_canonical(file.path, error);
        if (std::find(chain_.begin(), chain_.end(), real) != chain_.end())
            throw InputError(SourcePlace{file.label}, "includes itself (directly or through another file)");
        chain_.push_back(real);
        folders_[file.label] = file.path.parent_path();
        auto own = parse_toml(read_text_file(file.path.string()), file.label);
        Setting merged;
        merged.place.file = file.label;
        for (auto const& included : includes_of(own)) merge(merged, read(included));
        merged.place.file = file.label;
        drop(merged, "name"); // an include does not name the scenario
        drop(own, "include");
        merge(merged, own);
        chain_.pop_back();
        return merged;
    }

    [[nodiscard]] Found find(Setting const& s) const
    {
        auto const it = folders_.find(s.place.file); // --set: the working directory
        auto const folder = it == folders_.end() ? fs::path{} : it->second;
        auto found = find_file(s.text, folder, fs::path{s.place.file}.parent_path().string());
        if (found.path.empty())
            throw InputError(s.place,
                             fmt::format("cannot find \"{}\" (looked {} and in the shipped files, {}); check the name",
                                         s.text.substr(0, 200), it == folders_.end() ? "here" : "beside this file",
                                         "trainfare --help says where they are"));
        return found;
    }

    [[nodiscard]] std::vector<std::string> const& included() const { return included_; }

    static void drop(Setting& table, std::string const& key)
    {
        auto const it = std::find(table.keys.begin(), table.keys.end(), key);
        if (it == table.keys.end()) return;
        table.items.erase(table.items.begin() + (it - table.keys.begin()));
        table.keys.erase(it);
    }

private:
    std::vector<Found> includes_of(Setting const& own)
    {
        auto const* include = own.find("include");
        if (!include) return {};
        std::vector<Setting> names = include->kind == Setting::Kind::text ? std::vector{*include} : include->items;
        if (include->kind != Setting::Kind::text && include->kind != Setting::Kind::array)
            throw InputError(include->place,
                             "include is not a file name or a list of them; try include = \"clusters/h800-2048.toml\"");
        std::vector<Found> out;
        for (auto const& one : names) {
            if (one.kind != Setting::Kind::text)
                throw InputError(include->place, "include holds something that is not a file name");
            if (chain_.size() >= max_depth)
                throw InputError(one.place, fmt::format("includes are nested more than {} deep", max_depth));
            if (included_.size() >= max_includes)
                throw InputError(one.place, fmt::format("more than {} files are included", max_includes));
            out.push_back(find(one));
            included_.push_back(out.back().label);
        }
        return out;
    }

    std::vector<fs::path> chain_;
    std::map<std::string, fs::path> folders_;
    std::vector<std::string> included_;
};

/// A section, or an empty one placed at the file, so that a missing key is reported there.
Setting section(Setting const& root, std::string const& key)
{
    if (auto const* found = root.find(key)) return *found;
    Setting empty;
    empty.place.file = root.place.file;
    return empty;
}

void read_model(Scenario& scenario, Setting const& root, FileReader const& files)
{
    auto const table = section(root, "model");
    TableReader in{&table, "model", scenario.resolved};
    auto const type = in.find("type");
    if (type && type->text != "toml")
        in.fail("type",
                fmt::format("= {} is not \"toml\" (a config.json states its own type)", show(*type).substr(0, 60)),
                "config = \"models/deepseek-v3.json\"");
    auto const* config = in.find("config");
    if (type && config)
        in.fail("config", "is given beside type = \"toml\" (which of them is the model?)", "one of the two");
    if (type) {
        scenario.model = read_model_table(in, scenario.name);
    } else {
        in.text("config", {}, "config = \"models/deepseek-v3.json\", or type = \"toml\" with sizes");
        auto const found = files.find(*config);
        scenario.model_file = found.label;
        scenario.model = load_model(found.path.string());
    }
    if (auto const active = in.quantity(
            "card_active", [](std::string_view t) { return parse_count(t, {}, "parameters"); }, "\"37B\""))
        scenario.card_active_parameters = *active;
    in.finish();
}

/// "plan.pp = 3 ..." is about plan.pp, "cluster.faults[2].factor" about cluster.fault.2: the place of the deepest key
/// there is.
SourcePlace place_of_rule(Setting const& root, std::string const& rule)
{
    Setting const* node = &root;
    SourcePlace place{};
    std::string part;
    for (char const c : rule) {
        bool const inside = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
        if (inside) {
            part += c;
            continue;
        }
        if (!part.empty()) {
            std::size_t index = 0;
            bool const number =
                std::from_chars(part.data(), part.data() + part.size(), index).ptr == part.data() + part.size();
            if (part == "faults") part = "fault";
            if (number)
                node = index < node->items.size() ? &node->items[index] : nullptr;
            else
                node = node->find(part);
            if (!node) break;
            place = node->place;
            part.clear();
        }
        if (c != '.' && c != '[' && c != ']') break;
    }
    return place;
}

void check_rules(Scenario const& scenario, Setting const& root)
{
    auto rules = check_plan(scenario.plan, scenario.model, scenario.cluster.gpus);
    auto const more = check_cluster(scenario.cluster);
    rules.insert(rules.end(), more.begin(), more.end());
    auto const& gpu = scenario.cluster.gpu;
    auto const precision = scenario.plan.precision;
    auto const format = gemm_dtype(precision);
    bool const micro = precision == Precision::mxfp8 || precision == Precision::nvfp4; // scaled inside the tensor cores
    if ((format == DType::fp8 && !gpu.fp8) || (format == DType::fp4 && !gpu.fp4) || (micro && !gpu.fp4))
        rules.push_back(
            fmt::format("plan.precision = {} is no format of {} (its tensor cores cannot multiply it); try {}",
                        name(precision), gpu.key, gpu.fp8 ? "fp8_block or bf16" : "bf16"));
    if (scenario.plan.tp > scenario.cluster.domain)
        rules.push_back(fmt::format(
            "plan.tp = {} is more than cluster.domain = {} GPUs (tensor parallelism is priced inside one NVLink "
            "domain); try {}",
            scenario.plan.tp, scenario.cluster.domain, scenario.cluster.domain));
    for (std::size_t i = 0; i < scenario.run.phases.size(); ++i)
        if (auto const from = scenario.run.phases[i].ramp_from; from && *from > scenario.plan.global_batch)
            rules.push_back(fmt::format(
                "run.phase.{}.ramp_from = {} is more than plan.global_batch = {} (the ramp grows to it); try {}", i,
                *from, scenario.plan.global_batch, std::max(1, scenario.plan.global_batch / 4)));
    std::string all;
    for (auto const& rule : rules) {
        auto place = place_of_rule(root, rule);
        if (place.file.empty()) place.file = scenario.file;
        all += (all.empty() ? "" : "\n") + place.text() + ": " + rule;
    }
    if (!all.empty()) throw InputError(all);
}

} // namespace

Scenario load_scenario(std::string const& path, std::vector<std::string> const& overrides)
{
    FileReader files;
    auto root = files.read({path, path == "-" ? "standard input" : path});
    for (auto const& one : overrides) apply_override(root, one);

    Scenario out;
    out.file = root.place.file;
    TableReader top{&root, "", out.resolved};
    for (auto const* section : {"model", "cluster", "plan", "run", "prices", "assumptions"}) top.find(section);
    out.version = top.whole("version", {}, 1, 1, "version = 1 (the first line of a scenario)");
    out.name = top.text("name", path == "-" ? "standard input" : fs::path{path}.stem().string());
    out.tables = top.text("tables", "");
    out.measured = top.text("measured", "");
    top.finish();
    out.includes = files.included();

    auto const tables = scenario_tables(out);
    read_model(out, root, files);
    auto const read = [&](char const* key, auto reader) {
        auto const table = section(root, key);
        TableReader in{&table, key, out.resolved};
        return reader(in);
    };
    out.cluster = read("cluster", [&](TableReader& in) { return read_cluster(in, tables, out.resolved); });
    out.plan = read("plan", [&](TableReader& in) { return read_plan(in, out.model, out.cluster.gpus); });
    out.run = read("run", [&](TableReader& in) { return read_run(in, tables, out.resolved); });
    out.price = read("prices", [](TableReader& in) { return read_prices(in); });
    out.assumptions = read("assumptions", [](TableReader& in) { return read_assumptions(in); });
    check_rules(out, root);
    return out;
}

} // namespace trainfare
