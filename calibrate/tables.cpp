// SPDX-License-Identifier: Apache-2.0
//
// From folders of CSV files to values: the tables themselves, and measurements that are laid over them.
#include "calibrate/tables.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "calibrate/table_rows.hpp"

namespace trainfare {

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b)
{
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0]++;
        for (std::size_t j = 0; j < b.size(); ++j) {
            auto const kept = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({kept, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

std::string lower(std::string_view text)
{
    std::string out{text.substr(0, 40)};
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
}

} // namespace

std::string_view name(Provenance provenance)
{
    switch (provenance) {
    case Provenance::measured: return "measured";
    case Provenance::imported: return "imported";
    case Provenance::published: return "published";
    case Provenance::derived: return "derived";
    case Provenance::assumed: return "assumed";
    }
    return "?";
}

Accelerator const& Tables::accelerator(std::string const& key) const
{
    if (auto const found = accelerators.find(key); found != accelerators.end()) return found->second;
    auto const wanted = lower(key);
    std::vector<std::pair<std::size_t, std::string>> near; // what begins with the key first, then by edits
    for (auto const& [known, gpu] : accelerators)
        near.emplace_back(!wanted.empty() && lower(known).starts_with(wanted) ? 0 : edit_distance(wanted, lower(known)),
                          known);
    std::sort(near.begin(), near.end());
    std::string names;
    for (std::size_t i = 0; i < near.size() && i < 4; ++i) names += (i == 0 ? "" : ", ") + near[i].second;
    throw InputError(fmt::format("accelerator {} has no complete row in {}/hardware.csv; nearest: {}", printable(key),
                                 folder, names));
}

RateRow const* Tables::rate(std::string const& accelerator, Precision precision, std::string_view quantity) const
{
    auto const find = [&](std::string_view gpu, std::string_view recipe) -> RateRow const* {
        for (auto const& row : rates)
            if (row.accelerator == gpu && row.precision == recipe && row.quantity == quantity) return &row;
        return nullptr;
    };
    auto const recipe = name(precision);
    for (auto const& [gpu, kind] : {std::pair<std::string_view, std::string_view>{accelerator, recipe},
                                    {accelerator, "*"},
                                    {"*", recipe},
                                    {"*", "*"}})
        if (auto const* row = find(gpu, kind)) return row;
    return nullptr;
}

namespace {

using Ids = std::map<std::string, int>;

void load_sources(Tables& tables, std::string const& file, Ids& ids)
{
    each_row(file, {"source_id", "provenance", "title"}, [&](Row const& row) {
        tables.sources.push_back(source_from(row));
        if (!ids.emplace(tables.sources.back().id, static_cast<int>(tables.sources.size()) - 1).second)
            throw InputError(row.place(), "source_id appears twice; rename one");
    });
}

void load_ops(Tables& tables, std::string const& file, Names const& names)
{
    each_row(file, {"source_id", "accelerator", "op", "dtype", "tflops", "gbps", "status"}, [&](Row const& row) {
        if (row.one_of("status", {"ok", "unsupported", "oom", "failed_check", "skipped", "superseded"}) == "ok")
            tables.ops.push_back(op_from(row, names));
    });
}

void load_collectives(Tables& tables, std::string const& file, Names const& names)
{
    each_row(file, {"source_id", "op", "bw_gbps", "bw_kind"}, [&](Row const& row) {
        // a column of measurements only: absent is ok, and so is a table without it
        if (row.one_of("status", {"", "ok", "unsupported", "oom", "failed_check", "skipped", "superseded"}).size() <= 2)
            tables.collectives.push_back(coll_from(row, names));
    });
}

/// Measurements laid over the tables.
void load_measured(Tables& tables, std::filesystem::path const& folder, Ids& ids, Names& names)
{
    auto const file = [&](char const* table) -> std::optional<std::string> {
        auto const path = folder / table;
        return std::filesystem::exists(path) ? std::optional{path.string()} : std::nullopt;
    };
    auto const sources = file("sources.csv");
    if (!sources)
        throw InputError({folder.string()}, "holds no sources.csv (every measurement names its source); give a folder "
                                            "that trainfare-calibrate wrote");
    auto const before = tables.sources.size();
    load_sources(tables, *sources, ids);
    for (auto i = before; i < tables.sources.size(); ++i) names.add(tables.sources[i].id, static_cast<int>(i));
    if (auto const ops = file("ops.csv")) load_ops(tables, *ops, names);
    if (auto const collectives = file("coll.csv")) load_collectives(tables, *collectives, names);
}

} // namespace

Tables load_tables(std::string const& folder, std::vector<std::string> const& measured)
{
    if (!std::filesystem::is_directory(folder))
        throw InputError({folder}, "no such folder of calibration tables; set TRAINFARE_TABLES or check --tables");
    Tables tables;
    tables.folder = folder;
    auto const file = [&](char const* table) { return folder + "/" + table; };

    Ids ids;
    load_sources(tables, file("sources.csv"), ids);
    each_row(file("hardware.csv"), {"accelerator", "dense_bf16_tflops", "hbm_gb", "hbm_tb_per_s"}, [&](Row const& row) {
        auto gpu = accelerator_from(row);
        if (gpu && !tables.accelerators.emplace(gpu->key, *gpu).second)
            throw InputError(row.place(), "accelerator appears twice; rename one");
    });
    Names names{tables};
    load_ops(tables, file("ops.csv"), names);
    load_collectives(tables, file("coll.csv"), names);
    std::map<std::array<std::string, 3>, int> seen;
    each_row(file("rates.csv"), {"source_id", "accelerator", "precision", "quantity", "value", "unit", "spread"},
             [&](Row const& row) {
                 tables.rates.push_back(rate_from(row, names));
                 auto const& rate = tables.rates.back();
                 if (!seen.emplace(std::array{rate.accelerator, rate.precision, rate.quantity}, 0).second)
                     throw InputError(row.place(),
                                      "repeats accelerator, precision and quantity of a row above; keep one");
             });
    if (std::filesystem::exists(file("fit.csv")))
        each_row(file("fit.csv"), {"accelerator", "op", "dtype", "size_p90", "shape_p90"},
                 [&](Row const& row) { tables.fits.push_back(fit_from(row, names)); });

    std::vector<std::filesystem::path> folders;
    if (std::filesystem::is_directory(file("measured")))
        for (auto const& entry : std::filesystem::directory_iterator{file("measured")})
            if (entry.is_directory()) folders.push_back(entry.path());
    std::sort(folders.begin(), folders.end());
    folders.insert(folders.end(), measured.begin(), measured.end());
    for (auto const& one : folders) {
        if (!std::filesystem::is_directory(one))
            throw InputError({one.string()}, "no such folder of measurements; give one that trainfare-calibrate wrote");
        load_measured(tables, one, ids, names);
    }
    return tables;
}

std::string default_tables_folder()
{
    if (char const* const chosen = std::getenv("TRAINFARE_TABLES"); chosen != nullptr && *chosen != '\0') return chosen;
    std::error_code error;
    auto const program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error) {
        auto const installed = program.parent_path().parent_path() / "share/trainfare/tables";
        if (std::filesystem::is_directory(installed, error)) return installed.string();
    }
    return TRAINFARE_SOURCE_DIR "/calibrate/tables";
}

} // namespace trainfare
