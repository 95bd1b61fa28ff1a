// SPDX-License-Identifier: Apache-2.0
//
// From calibrate/tables/*.csv to values. Every name in a row is checked here, so that a typing error is reported with
// its line and never becomes a row that silently fits nothing.
#include "calibrate/tables.hpp"

#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <numeric>

#include "calibrate/csv.hpp"

namespace trainfare {

namespace {

/// Enumerator of [0, last] with that name.
template <class Enum>
std::optional<Enum> enum_from(std::string_view text, Enum last)
{
    for (int i = 0; i <= static_cast<int>(last); ++i)
        if (auto const value = static_cast<Enum>(i); name(value) == text) return value;
    return {};
}

/// A row of a table, with the checks that all tables share.
class Row {
public:
    Row(CsvTable const& table, std::size_t index) : table_{&table}, index_{index} {}

    [[nodiscard]] SourcePlace place() const { return table_->place(index_); }
    [[nodiscard]] std::string text(std::string_view column) const { return table_->text(index_, column).value_or(""); }
    [[nodiscard]] std::string need_text(std::string_view column) const { return table_->need_text(index_, column); }

    [[nodiscard]] std::optional<double> positive(std::string_view column) const
    {
        auto const value = table_->number(index_, column);
        if (value && !(*value > 0 && *value < 1e18))
            throw InputError(place(),
                             fmt::format("column {}: {} is not between 0 and 1e18; correct it or leave it empty",
                                         column, shortest(*value)));
        return value;
    }

    [[nodiscard]] std::optional<long> count(std::string_view column, long most = 1'000'000'000'000) const
    {
        auto const value = table_->integer(index_, column);
        if (value && (*value < 0 || *value > most))
            throw InputError(place(),
                             fmt::format("column {}: {} is not between 0 and {}; correct it", column, *value, most));
        return value;
    }
    [[nodiscard]] std::optional<int> small(std::string_view column) const
    {
        auto const value = count(column, std::numeric_limits<int>::max());
        return value ? std::optional<int>{static_cast<int>(*value)} : std::nullopt;
    }
    [[nodiscard]] std::optional<bool> boolean(std::string_view column) const { return table_->boolean(index_, column); }

    template <class T>
    [[nodiscard]] T known(std::string_view column, std::optional<T> value) const
    {
        if (!value)
            throw InputError(place(),
                             fmt::format("column {}: {} is unknown; the allowed words are in the tables' README.md",
                                         column, printable(text(column))));
        return *value;
    }

    [[nodiscard]] std::string one_of(std::string_view column, std::initializer_list<std::string_view> words) const
    {
        auto const value = text(column);
        bool const found = std::find(words.begin(), words.end(), value) != words.end();
        return known(column, found ? std::optional{value} : std::nullopt);
    }

private:
    CsvTable const* table_;
    std::size_t index_;
};

template <class Quantity>
std::optional<Quantity> quantity(std::optional<double> value, Quantity unit)
{
    return value ? std::optional{*value * unit} : std::nullopt;
}

/// Rows of other tables name their source and their accelerator; both must exist.
class Names {
public:
    explicit Names(Tables const& tables) : tables_{&tables}
    {
        for (std::size_t i = 0; i < tables.sources.size(); ++i) by_id_[tables.sources[i].id] = static_cast<int>(i);
    }

    [[nodiscard]] int source(Row const& row) const
    {
        auto const found = by_id_.find(row.need_text("source_id"));
        if (found == by_id_.end())
            throw InputError(
                row.place(),
                fmt::format("source_id {} is not in sources.csv (every number names its source); add it there",
                            printable(row.text("source_id"))));
        return found->second;
    }

    void check_accelerator(Row const& row, std::string const& key) const
    {
        if (!tables_->accelerators.contains(key))
            throw InputError(
                row.place(),
                fmt::format("accelerator {} is not in hardware.csv; correct it or add it there", printable(key)));
    }

private:
    Tables const* tables_;
    std::map<std::string, int> by_id_;
};

template <class Use>
void each_row(std::string const& file, std::vector<std::string> const& required, Use use)
{
    auto const table = read_csv(file, required);
    for (std::size_t i = 0; i < table.rows(); ++i) use(Row{table, i});
}

Source source_from(Row const& row)
{
    return {row.need_text("source_id"),
            row.known("provenance", enum_from(row.text("provenance"), Provenance::assumed)),
            row.need_text("title"),
            row.text("url_or_file"),
            row.text("date"),
            row.text("measured_device"),
            row.text("note")};
}

/// Absent where the row lacks what every accelerator needs (memory size and bandwidth): such a row is for reading, not
/// for simulation.
std::optional<Accelerator> accelerator_from(Row const& row)
{
    Accelerator gpu;
    gpu.key = row.need_text("accelerator");
    gpu.bf16 = quantity(row.positive("dense_bf16_tflops"), units::TFLOPps);
    gpu.fp8 = quantity(row.positive("dense_fp8_tflops"), units::TFLOPps);
    gpu.fp4 = quantity(row.positive("dense_fp4_tflops"), units::TFLOPps);
    auto const memory = row.positive("hbm_gb");
    auto const bandwidth = row.positive("hbm_tb_per_s");
    if (!memory || !bandwidth) return {};
    gpu.memory = *memory * units::GB;
    gpu.memory_bandwidth = *bandwidth * units::TBps;
    // PCIe-only cards print a scale-up bandwidth of 0: they have none
    if (row.text("scale_up_gb_per_s_per_direction") != "0")
        gpu.scale_up = quantity(row.positive("scale_up_gb_per_s_per_direction"), units::GBps);
    gpu.scale_up_measured = quantity(row.positive("scale_up_measured_gb_per_s"), units::GBps);
    gpu.scale_up_gpus = row.small("scale_up_gpus").value_or(gpu.scale_up ? 8 : 1);
    gpu.nic = quantity(row.positive("nic_gbit_per_gpu"), units::Gbitps);
    gpu.tdp = quantity(row.positive("tdp_w"), units::W);
    gpu.sms = row.small("sm_count");
    if (auto const parent = row.text("restricted_variant_of"); !parent.empty()) gpu.variant_of = parent;
    gpu.source = row.text("source");
    return gpu;
}

OpRow op_from(Row const& row, Names const& names)
{
    OpRow op;
    op.source = names.source(row);
    op.accelerator = row.need_text("accelerator");
    names.check_accelerator(row, op.accelerator);
    op.kind = row.known("op", enum_from(row.text("op"), OpKind::dp_all_gather));
    if (auto const pass = row.text("pass"); !pass.empty()) op.pass = row.known("pass", enum_from(pass, Pass::update));
    op.precision = row.known("dtype", precision_from(row.text("dtype")));
    op.m = row.count("m").value_or(0), op.n = row.count("n").value_or(0), op.k = row.count("k").value_or(0);
    op.groups = row.small("groups").value_or(1);
    op.batch = row.count("batch").value_or(0), op.seq = row.count("seq").value_or(0);
    op.heads = row.small("heads").value_or(0), op.kv_heads = row.small("kv_heads").value_or(op.heads);
    op.qk_dim = row.small("d_qk").value_or(0), op.v_dim = row.small("d_v").value_or(0);
    op.causal = row.boolean("causal").value_or(true);
    op.comm_sms = row.small("comm_sms").value_or(0);
    op.rate = row.positive("tflops").value_or(0) * units::TFLOPps;
    op.bandwidth = quantity(row.positive("gbps"), units::GBps);
    op.time = quantity(row.positive("t_med_us"), units::us);
    if (is_matrix(op.kind) && !row.positive("tflops"))
        throw InputError(
            row.place(),
            "column tflops is empty (a matrix product is priced by it); fill it in or set a status other than ok");
    if (!is_matrix(op.kind) && !op.bandwidth)
        throw InputError(
            row.place(),
            "column gbps is empty (a memory-bound operation is priced by it); fill it in or set another status");
    op.place = row.place();
    return op;
}

CollRow coll_from(Row const& row, Names const& names)
{
    CollRow coll;
    coll.source = names.source(row);
    coll.accelerator = row.text("accelerator");
    if (!coll.accelerator.empty()) names.check_accelerator(row, coll.accelerator);
    coll.operation = row.one_of("op", {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast",
                                       "reduce", "p2p", "ep_dispatch", "ep_combine", "host_to_device"});
    coll.bw_kind = row.one_of("bw_kind", {"", "alg", "bus", "logical"});
    coll.network = row.text("network");
    coll.dtype = row.text("dtype");
    coll.ranks = row.small("ranks"), coll.nodes = row.small("nodes"), coll.sms = row.small("sms");
    coll.message = quantity(row.positive("bytes"), Bytes{1});
    coll.tokens = row.count("tokens"), coll.hidden = row.count("hidden"), coll.top_k = row.count("top_k");
    coll.bandwidth = quantity(row.positive("bw_gbps"), units::GBps);
    coll.time = quantity(row.positive("time_us"), units::us);
    if (!coll.bandwidth && !coll.time) throw InputError(row.place(), "has neither bw_gbps nor time_us; fill one in");
    if (coll.bandwidth && coll.bw_kind.empty())
        throw InputError(row.place(), "has bw_gbps but no bw_kind (kinds differ by 2x); write alg, bus or logical");
    coll.place = row.place();
    return coll;
}

RateRow rate_from(Row const& row, Names const& names)
{
    RateRow rate;
    rate.source = names.source(row);
    rate.accelerator = row.need_text("accelerator");
    if (rate.accelerator != "*") names.check_accelerator(row, rate.accelerator);
    rate.precision = row.need_text("precision");
    if (rate.precision != "*") static_cast<void>(row.known("precision", precision_from(rate.precision)));
    rate.quantity = row.need_text("quantity");
    auto const value = row.positive("value");
    if (!value) throw InputError(row.place(), "column value is empty; write a number");
    rate.value = *value;
    rate.unit = row.one_of("unit", {"peak", "hbm", "factor", "s"});
    if ((rate.unit == "peak" || rate.unit == "hbm") && rate.value > 1)
        throw InputError(row.place(), fmt::format("value {} is a share of {} and cannot exceed 1; correct it",
                                                  shortest(rate.value), rate.unit));
    rate.spread = row.text("spread") == "0" ? 0 : row.positive("spread").value_or(0);
    if (rate.spread >= 1)
        throw InputError(row.place(), "spread is a relative half-width and must stay below 1; correct it");
    rate.place = row.place();
    return rate;
}

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

Tables load_tables(std::string const& folder)
{
    if (!std::filesystem::is_directory(folder))
        throw InputError({folder}, "no such folder of calibration tables; set TRAINFARE_TABLES or check --tables");
    Tables tables;
    tables.folder = folder;
    auto const file = [&](char const* table) { return folder + "/" + table; };

    std::map<std::string, int> ids;
    each_row(file("sources.csv"), {"source_id", "provenance", "title"}, [&](Row const& row) {
        tables.sources.push_back(source_from(row));
        if (!ids.emplace(tables.sources.back().id, 0).second)
            throw InputError(row.place(), "source_id appears twice; rename one");
    });
    each_row(file("hardware.csv"), {"accelerator", "dense_bf16_tflops", "hbm_gb", "hbm_tb_per_s"}, [&](Row const& row) {
        auto gpu = accelerator_from(row);
        if (gpu && !tables.accelerators.emplace(gpu->key, *gpu).second)
            throw InputError(row.place(), "accelerator appears twice; rename one");
    });
    Names const names{tables};
    each_row(
        file("ops.csv"), {"source_id", "accelerator", "op", "dtype", "tflops", "gbps", "status"}, [&](Row const& row) {
            if (row.one_of("status", {"ok", "unsupported", "oom", "failed_check", "skipped", "superseded"}) == "ok")
                tables.ops.push_back(op_from(row, names));
        });
    each_row(file("coll.csv"), {"source_id", "op", "bw_gbps", "bw_kind"},
             [&](Row const& row) { tables.collectives.push_back(coll_from(row, names)); });
    std::map<std::array<std::string, 3>, int> seen;
    each_row(file("rates.csv"), {"source_id", "accelerator", "precision", "quantity", "value", "unit", "spread"},
             [&](Row const& row) {
                 tables.rates.push_back(rate_from(row, names));
                 auto const& rate = tables.rates.back();
                 if (!seen.emplace(std::array{rate.accelerator, rate.precision, rate.quantity}, 0).second)
                     throw InputError(row.place(),
                                      "repeats accelerator, precision and quantity of a row above; keep one");
             });
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
