// SPDX-License-Identifier: Apache-2.0
//
// Scenarios side by side: what differs in the answer, which causes make the difference, and which inputs differ.
#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include "model/text_units.hpp"
#include "scenarios/report.hpp"
#include "scenarios/report_words.hpp"
#include "scenarios/text_table.hpp"

namespace trainfare {

namespace {

using Results = std::vector<Result const*>;

constexpr std::size_t most_columns = 3; // more would not fit the width: blocks, each beginning with the first scenario
constexpr std::size_t label_width = 24, difference_width = 12, gap = 2;

/// Columns left for each of @p n scenarios, beside a label and n - 1 differences.
std::size_t name_width(std::size_t n) { return (report_width - label_width - difference_width * (n - 1)) / n - gap; }

struct Line {
    std::string what;
    std::optional<double> (*value)(Result const&); // absent: not known
    std::string (*show)(double);
};

std::string as_number(double v) { return plain(v); }
std::string as_dollars(double v) { return format(Dollars{v}); }
std::string as_bytes(double v) { return format(Bytes{v}); }
std::string as_share(double v) { return percent(v); }
std::string as_count(double v) { return format_count(v); }

using Value = std::optional<double>;

Value energy_mwh(Result const& r)
{
    return r.projection.energy_kwh ? Value{r.projection.energy_kwh->value * 1e-3} : std::nullopt;
}

std::vector<Line> const& lines()
{
    static std::vector<Line> const all{
        {"step, s", [](Result const& r) -> Value { return r.projection.step_time_s.value; }, as_number},
        {"training, days", [](Result const& r) -> Value { return r.projection.days.value; }, as_number},
        {"GPU-hours", [](Result const& r) -> Value { return r.projection.gpu_hours.value; }, as_count},
        {"energy, MWh", energy_mwh, as_number},
        {"cost, low", [](Result const& r) -> Value { return r.projection.cost_usd.low; }, as_dollars},
        {"cost", [](Result const& r) -> Value { return r.projection.cost_usd.value; }, as_dollars},
        {"cost, high", [](Result const& r) -> Value { return r.projection.cost_usd.high; }, as_dollars},
        {"USD per GPU-hour", [](Result const& r) -> Value { return r.scenario.price.value / units::usd_per_gpu_hour; },
         as_number},
        {"MFU, causal", [](Result const& r) -> Value { return r.mfu_causal; }, as_share},
        {"memory, fullest GPU", [](Result const& r) -> Value { return r.memory.fullest().total().value(); }, as_bytes},
        {"memory, usable", [](Result const& r) -> Value { return r.memory.capacity.value(); }, as_bytes},
        {"NVLink payload, GB/s", [](Result const& r) -> Value { return r.scenario.cluster.scale_up / units::GBps; },
         as_number},
        {"NIC payload, GB/s", [](Result const& r) -> Value { return r.scenario.cluster.nic / units::GBps; }, as_number},
    };
    return all;
}

std::string difference(Value first, Value other)
{
    if (first == other) return "=";
    return !first || !other || *first == 0 ? "-" : signed_percent(*other / *first - 1);
}

void header(TextTable& table, Results const& block, std::string const& what)
{
    std::vector<std::string> cells{what, cut_front(block.front()->scenario.name, name_width(block.size()))};
    for (std::size_t i = 1; i < block.size(); ++i) {
        cells.push_back(cut_front(block[i]->scenario.name, name_width(block.size())));
        cells.emplace_back("difference");
    }
    table.row(cells);
}

void print_block(std::ostream& out, Results const& block)
{
    std::string const align = "lr" + std::string(2 * (block.size() - 1), 'r');
    TextTable table{align};
    header(table, block, "");
    std::vector<std::string> fits{"fits in memory", block.front()->fits ? "yes" : "NO"};
    for (std::size_t i = 1; i < block.size(); ++i) {
        fits.emplace_back(block[i]->fits ? "yes" : "NO");
        fits.emplace_back("");
    }
    table.row(fits);
    for (auto const& line : lines()) {
        auto const show = [&](Value const& v) { return v ? line.show(*v) : std::string("-"); };
        auto const first = line.value(*block.front());
        std::vector<std::string> cells{line.what, show(first)};
        for (std::size_t i = 1; i < block.size(); ++i) {
            auto const value = line.value(*block[i]);
            cells.push_back(show(value));
            cells.push_back(difference(first, value));
        }
        table.row(cells);
    }
    table.print(out, 0);

    out << "\nWhy: the step by cause, s\n";
    TextTable causes{align};
    header(causes, block, "");
    for (std::size_t c = 0; c < block.front()->causes.mean.size(); ++c) {
        double const first = block.front()->causes.mean[c];
        std::vector<std::string> cells{std::string(name(static_cast<Cause>(c))), fmt::format("{:.3f}", first)};
        for (std::size_t i = 1; i < block.size(); ++i) {
            double const value = block[i]->causes.mean[c];
            cells.push_back(fmt::format("{:.3f}", value));
            cells.push_back(fmt::format("{:+.3f}", value - first));
        }
        causes.row(cells);
    }
    causes.print(out, 0);
    out << '\n';
}

std::string input(Result const& r, std::string const& key)
{
    auto const& all = r.scenario.resolved;
    auto const it = std::find_if(all.begin(), all.end(), [&](auto const& line) { return line.key == key; });
    return it == all.end() ? "-" : it->value;
}

bool is_a_description(std::string const& key)
{
    return key == "name" || key == "tables" || key.ends_with(".provenance") || key == "assumptions.source";
}

std::vector<std::string> differing_inputs(Results const& all)
{
    std::vector<std::string> keys;
    for (auto const* r : all)
        for (auto const& line : r->scenario.resolved)
            if (!is_a_description(line.key) && std::find(keys.begin(), keys.end(), line.key) == keys.end())
                keys.push_back(line.key);
    auto const same = [&](std::string const& key) {
        return std::all_of(all.begin(), all.end(),
                           [&](auto const* r) { return input(*r, key) == input(*all.front(), key); });
    };
    keys.erase(std::remove_if(keys.begin(), keys.end(), same), keys.end());
    return keys;
}

void print_inputs(std::ostream& out, Results const& block, std::vector<std::string> const& keys)
{
    if (keys.empty()) {
        out << "No input differs.\n";
        return;
    }
    out << "Inputs that differ\n";
    TextTable table{"l" + std::string(block.size(), 'l')};
    std::size_t longest = 0;
    for (auto const& key : keys) longest = std::max(longest, key.size());
    std::size_t const width = (report_width - std::min<std::size_t>(longest, 50)) / block.size() - gap;
    for (auto const& key : keys) {
        std::vector<std::string> cells{key};
        for (auto const* r : block) cells.push_back(cut(input(*r, key), width));
        table.row(cells);
    }
    table.print(out, 0);
}

/// "B: the step is 0.51 s shorter, mostly compute (-0.32 s); it costs 1.74 x: GPU-hours x 0.974, price x 1.78".
std::string why(Result const& a, Result const& b)
{
    double const step = b.projection.step_time_s.value - a.projection.step_time_s.value;
    std::vector<std::pair<double, std::size_t>> parts;
    for (std::size_t c = 0; c < a.causes.mean.size(); ++c) parts.emplace_back(b.causes.mean[c] - a.causes.mean[c], c);
    std::stable_sort(parts.begin(), parts.end(),
                     [](auto const& x, auto const& y) { return std::abs(x.first) > std::abs(y.first); });
    std::string causes;
    for (std::size_t i = 0; i < 3; ++i)
        if (std::abs(parts[i].first) >= 0.0005)
            causes += fmt::format("{}{} {:+.3f} s", causes.empty() ? ": " : ", ",
                                  name(static_cast<Cause>(parts[i].second)), parts[i].first);
    std::string text = fmt::format("{}: the step is {} s {}{}", b.scenario.name, plain(std::abs(step), 3),
                                   step < 0 ? "shorter" : "longer", causes);
    auto const ratio = [](double x, double y) { return x > 0 ? plain(y / x, 3) : std::string("-"); };
    text += fmt::format(". Cost x {} = GPU-hours x {}, price x {}",
                        ratio(a.projection.cost_usd.value, b.projection.cost_usd.value),
                        ratio(a.projection.gpu_hours.value, b.projection.gpu_hours.value),
                        ratio(a.scenario.price.value.value(), b.scenario.price.value.value()));
    for (auto const& slope : a.slopes)
        if (slope.resource == "NVLink")
            text += fmt::format(". 10 % more NVLink, for {}: {}", a.scenario.name,
                                slope.words.empty() ? signed_percent(slope.step_change) + " of the step" : slope.words);
    return text + ".";
}

/// An export-limited part and what it was cut from: their kernels cost the same here.
bool same_die(Result const& a, Result const& b)
{
    auto const& x = a.scenario.cluster.gpu;
    auto const& y = b.scenario.cluster.gpu;
    return x.key == y.key || ((x.variant_of == y.key || y.variant_of == x.key) && x.sms && x.sms == y.sms);
}

} // namespace

void print_comparison(std::ostream& out, std::vector<Result> const& results)
{
    if (results.empty()) return;
    Results all;
    for (auto const& r : results) all.push_back(&r);
    auto const keys = differing_inputs(all);
    for (std::size_t begin = 1; begin == 1 || begin < all.size(); begin += most_columns - 1) {
        Results block{all.front()};
        for (std::size_t i = begin; i < all.size() && i < begin + most_columns - 1; ++i) block.push_back(all[i]);
        print_block(out, block);
        print_inputs(out, block, keys);
        out << '\n';
    }
    for (std::size_t i = 1; i < all.size(); ++i) print_wrapped(out, "- ", why(*all.front(), *all[i]));
    for (auto const* r : all) // what each level of the network has to carry: why more of one of them may not matter
        if (!r->topology.empty() && r->topology.front().starts_with("one combine"))
            print_wrapped(out, "- ", r->scenario.name + ", " + r->topology.front());
    bool const one_die = std::all_of(all.begin(), all.end(), [&](Result const* r) {
        return r->scenario.model.name == all.front()->scenario.model.name && same_die(*r, *all.front());
    });
    if (all.size() > 1 && one_die)
        print_wrapped(
            out, "- ",
            "The same kernel costs stand behind all columns, so a difference is surer than either column's interval.");
}

} // namespace trainfare
