// SPDX-License-Identifier: Apache-2.0
//
// One row a result: every input of any of them, then the results, so that independent columns come first.
#include <algorithm>

#include <fmt/format.h>

#include "calibrate/csv.hpp"
#include "scenarios/report.hpp"

namespace trainfare {

namespace {

using Columns = std::vector<std::pair<std::string, std::optional<double>>>;

void add(Columns& out, std::string const& name, std::optional<Interval> const& i, std::string const& unit)
{
    auto const part = [&](double Interval::*member) { return i ? std::optional<double>{(*i).*member} : std::nullopt; };
    out.emplace_back(name + unit, part(&Interval::value));
    out.emplace_back(name + "_low" + unit, part(&Interval::low));
    out.emplace_back(name + "_high" + unit, part(&Interval::high));
}

Columns results_of(Result const& r)
{
    auto const& p = r.projection;
    Columns out;
    out.emplace_back("fits", r.fits ? 1 : 0);
    add(out, "step_time", p.step_time_s, "_s");
    add(out, "days", p.days, "");
    add(out, "gpu_hours", p.gpu_hours, "");
    add(out, "energy", p.energy_kwh, "_kwh");
    add(out, "cost", p.cost_usd, "_usd");
    add(out, "tokens_per_gpu", p.tokens_per_gpu_second, "_s");
    out.emplace_back("mfu_causal", r.mfu_causal);
    out.emplace_back("memory_fullest_bytes", r.memory.fullest().total().value());
    out.emplace_back("memory_capacity_bytes", r.memory.capacity.value());
    for (std::size_t i = 0; i < r.causes.mean.size(); ++i)
        out.emplace_back(fmt::format("{}_s", name(static_cast<Cause>(i))), r.causes.mean[i]);
    return out;
}

/// As a table cell: text without its TOML quotes.
std::string cell(std::string const& value)
{
    bool const quoted = value.size() >= 2 && value.front() == '"' && value.back() == '"';
    return quoted ? value.substr(1, value.size() - 2) : value;
}

} // namespace

void write_csv(std::ostream& out, std::vector<Result> const& results)
{
    if (results.empty()) return;
    std::vector<std::string> inputs;
    for (auto const& r : results)
        for (auto const& line : r.scenario.resolved)
            if (std::find(inputs.begin(), inputs.end(), line.key) == inputs.end()) inputs.push_back(line.key);

    auto columns = inputs;
    columns.emplace_back("fidelity");
    for (auto const& [column, value] : results_of(results.front())) columns.push_back(column);
    CsvWriter csv{out, columns};
    for (auto const& r : results) {
        auto const& resolved = r.scenario.resolved;
        for (auto const& key : inputs) {
            auto const it =
                std::find_if(resolved.begin(), resolved.end(), [&](auto const& line) { return line.key == key; });
            csv.field(it == resolved.end() ? std::string{} : cell(it->value));
        }
        csv.field(name(r.fidelity));
        for (auto const& [column, value] : results_of(r)) csv.field(value);
        csv.end_row();
    }
}

} // namespace trainfare
