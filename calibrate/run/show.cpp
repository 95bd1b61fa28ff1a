// SPDX-License-Identifier: Apache-2.0
//
// What a folder of measurements holds, as tables of at most 110 columns.
#include "calibrate/run/show.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ostream.h>

namespace trainfare::measure {

namespace {

double median(std::vector<double> x)
{
    std::sort(x.begin(), x.end());
    return quantile(x, 0.5);
}

bool timed(Row const& row) { return row.status == "ok" && row.timing.median > 0; }

struct Ceilings {
    double bf16 = 0, fp8 = 0, copy = 0; // TFLOP/s, GB/s; 0: not measured

    explicit Ceilings(std::vector<Row> const& rows)
    {
        for (auto const& row : rows) {
            if (row.point.group != Group::ceilings || !timed(row)) continue;
            if (row.point.method == "hbm_copy") copy = row.moved_gbps();
            if (row.point.method == "gemm")
                (gemm_dtype(row.point.op.precision) == DType::fp8 ? fp8 : bf16) = row.tflops();
        }
    }
    [[nodiscard]] double of(Precision p) const { return gemm_dtype(p) == DType::fp8 ? fp8 : bf16; }
};

std::string share(double value, double ceiling)
{
    return ceiling > 0 ? fmt::format("{:.0f} %", 100 * value / ceiling) : "-";
}

void show_ceilings(std::ostream& out, std::vector<Row> const& rows)
{
    std::vector<Row const*> found;
    for (auto const& row : rows)
        if (row.point.group == Group::ceilings) found.push_back(&row);
    std::stable_sort(found.begin(), found.end(),
                     [](Row const* a, Row const* b) { return a->point.method < b->point.method; });
    for (auto const* row : found) {
        auto const& what = row->point.method;
        if (!timed(*row))
            fmt::print(out, "  {:<16}{}: {}\n", what, row->status, row->note);
        else if (what == "gemm")
            fmt::print(out, "  {:<16}{:>9.4g} TFLOP/s in {}, {} cubed\n", what, row->tflops(),
                       name(row->point.op.precision), row->point.op.m);
        else if (row->moved > 0)
            fmt::print(out, "  {:<16}{:>9.4g} GB/s\n", what, row->moved_gbps());
        else
            fmt::print(out, "  {:<16}{:>9.3g} us\n", what, row->seconds() * 1e6);
    }
}

struct Tally {
    int points = 0, ok = 0;
    std::vector<double> rates;
};

void show_operations(std::ostream& out, std::vector<Row> const& rows, Ceilings const& ceilings)
{
    std::map<std::tuple<OpKind, Pass, Precision, bool>, Tally> tallies;
    for (auto const& row : rows) {
        if (!row.point.plain()) continue;
        auto const& op = row.point.op;
        bool const matrix = op.flops.value() > 0;
        auto& t = tallies[{op.kind, op.pass, op.precision, matrix}];
        ++t.points, t.ok += row.status == "ok";
        if (timed(row)) t.rates.push_back(matrix ? row.tflops() : row.moved_gbps());
    }
    fmt::print(out, "  {:<34}{:>7}{:>6}{:>27}{:>27}\n", "", "points", "ok", "best", "median");
    for (auto const& [key, t] : tallies) {
        auto const& [kind, pass, precision, matrix] = key;
        auto const text = [&](double rate) {
            return fmt::format("{:.4g} {} {:>6}", rate, matrix ? "TFLOP/s" : "GB/s",
                               share(rate, matrix ? ceilings.of(precision) : ceilings.copy));
        };
        fmt::print(out, "  {:<34}{:>7}{:>6}{:>27}{:>27}\n",
                   fmt::format("{} {} {}", name(kind), name(pass), name(precision)), t.points, t.ok,
                   t.rates.empty() ? "-" : text(*std::max_element(t.rates.begin(), t.rates.end())),
                   t.rates.empty() ? "-" : text(median(t.rates)));
    }
}

void show_own_kernels(std::ostream& out, std::vector<Row> const& rows, Ceilings const& ceilings)
{
    std::map<std::string, Row const*> largest;
    for (auto const& row : rows)
        if (row.point.group == Group::memory && timed(row))
            if (auto& at = largest[row.point.method]; at == nullptr || row.moved > at->moved) at = &row;
    for (auto const& [method, row] : largest)
        fmt::print(out, "  {:<26}{:>7.4g} GB/s {:>7} of copying, {:.4g} MB in {:.4g} us\n", method, row->moved_gbps(),
                   share(row->moved_gbps(), ceilings.copy), row->moved / 1e6, row->timing.median * 1e6);
}

/// Measured rows beside the published one of the same shape.
void show_published(std::ostream& out, std::vector<Row> const& rows, Tables const& published)
{
    for (auto const& theirs : published.ops) {
        auto const& id = published.sources[static_cast<std::size_t>(theirs.source)].id;
        bool const product = id.starts_with("deepgemm") && theirs.kind != OpKind::attention,
                   kernel = id.starts_with("cudnn");
        if ((!product && !kernel) || theirs.comm_sms > 0) continue;
        for (auto const& row : rows) {
            auto const& op = row.point.op;
            if (!row.point.plain() || !timed(row) || op.kind != theirs.kind) continue;
            bool const same_product = product && op.precision == theirs.precision && op.pass == Pass::forward &&
                                      op.n == theirs.n && op.k == theirs.k && op.groups == theirs.groups &&
                                      op.m == theirs.m;
            bool const same_kernel = kernel && op.pass == theirs.pass && op.seq == theirs.seq &&
                                     op.heads == theirs.heads && op.qk_dim == theirs.qk_dim && op.v_dim == theirs.v_dim;
            if (!same_product && !same_kernel) continue;
            fmt::print(out, "  {:<58}{:>6.0f} of {:.0f} TFLOP/s, {} ({} on {})\n", row.point.what().substr(0, 57),
                       row.tflops(), theirs.rate.value() / 1e12, share(row.tflops(), theirs.rate.value() / 1e12), id,
                       theirs.accelerator);
        }
    }
}

/// What a share of the SMs, or a neighbour, leaves of the rate alone: medians over operations.
void show_conditions(std::ostream& out, std::vector<Row> const& rows)
{
    std::map<std::string, Row const*> whole;
    for (auto const& row : rows)
        if (row.point.plain() && timed(row)) {
            Point bare = row.point;
            whole.emplace(bare.what(), &row);
        }
    std::map<std::tuple<int, int, bool>, std::vector<double>> kept;
    std::map<int, std::vector<double>> neighbours;
    for (auto const& row : rows) {
        auto const& p = row.point;
        if ((p.group != Group::sms && p.group != Group::contention) || !timed(row)) continue;
        Point bare = p;
        bare.sm_budget = bare.comm_sms = 0;
        auto const alone = whole.find(bare.what());
        if (alone == whole.end()) continue;
        kept[{p.comm_sms, p.sm_budget, p.op.flops.value() > 0}].push_back(alone->second->timing.median /
                                                                          row.timing.median);
        if (row.bg_gbps) neighbours[p.comm_sms].push_back(*row.bg_gbps);
    }
    for (auto const& [key, ratios] : kept) {
        auto const& [comm_sms, budget, matrix] = key;
        auto const where =
            comm_sms > 0 ? fmt::format("beside {} SMs that copy", comm_sms) : fmt::format("on {} SMs", budget);
        auto const beside = comm_sms > 0 && neighbours.contains(comm_sms)
                                ? fmt::format(", the copy {:.0f} GB/s", median(neighbours[comm_sms]))
                                : "";
        fmt::print(out, "  {:<28}{:<20}x{:.3f} of alone (median of {}{})\n", where,
                   matrix ? "products" : "bound by memory", median(ratios), ratios.size(), beside);
    }
}

/// Other libraries, and sums in any order, beside what the step runs.
void show_variants(std::ostream& out, std::vector<Row> const& rows)
{
    std::map<std::string, Row const*> usual;
    for (auto const& row : rows)
        if (row.point.plain() && timed(row)) usual.emplace(row.point.what(), &row);
    for (auto const& row : rows) {
        if (row.point.variant.empty() || row.point.repeat > 0 || !timed(row)) continue;
        Point bare = row.point;
        bare.variant.clear();
        auto const found = usual.find(bare.what());
        if (found == usual.end()) continue;
        fmt::print(out, "  {:<66} x{:.3f} of {}'s time\n", row.point.what(),
                   row.timing.median / found->second->timing.median, found->second->impl);
    }
}

/// Lines of at most 110 columns, those after the first indented.
std::string wrapped(std::string const& text, std::size_t indent)
{
    constexpr std::size_t width = 110;
    std::string out, line;
    std::istringstream words{text};
    for (std::string word; words >> word;) {
        if (!line.empty() && indent + line.size() + 1 + word.size() > width)
            out += line + "\n" + std::string(indent, ' '), line.clear();
        line += (line.empty() ? "" : " ") + word;
    }
    return out + line;
}

void show_rest(std::ostream& out, std::vector<Row> const& rows)
{
    for (auto const& row : rows)
        if (row.point.group == Group::sustained && timed(row))
            fmt::print(out, "  {}\n",
                       wrapped(fmt::format("sustained mix: {:.4g} TFLOP/s; {}", row.tflops(), row.note), 18));
    if (auto const d = drifts(rows); !d.empty()) {
        std::vector<double> away;
        for (double const x : d) away.push_back(std::abs(x - 1));
        fmt::print(out, "  drift           {} points repeated at the end: {:+.2f} % in the median, {:.2f} % at most\n",
                   d.size(), 100 * (median(d) - 1), 100 * *std::max_element(away.begin(), away.end()));
    }
    std::map<std::pair<std::string, std::string>, int> problems;
    for (auto const& row : rows)
        if (row.status != "ok") ++problems[{row.status, row.point.method + ": " + row.note}];
    for (auto const& [problem, count] : problems)
        fmt::print(out, "  {:<16}{}\n", problem.first, wrapped(fmt::format("{} x {}", count, problem.second), 18));
}

} // namespace

std::vector<double> drifts(std::vector<Row> const& rows)
{
    std::map<std::string, double> first;
    for (auto const& row : rows)
        if (row.point.group < Group::sms && timed(row)) first.emplace(row.point.what(), row.timing.median);
    std::vector<double> out;
    for (auto const& row : rows) {
        if (row.point.group != Group::drift || !timed(row)) continue;
        Point bare = row.point;
        bare.repeat = 0;
        if (auto const before = first.find(bare.what()); before != first.end())
            out.push_back(row.timing.median / before->second);
    }
    return out;
}

void show(std::ostream& out, std::vector<Row> const& rows, Tables const& published)
{
    if (rows.empty()) {
        fmt::print(out, "No rows yet.\n");
        return;
    }
    Ceilings const ceilings{rows};
    fmt::print(out, "{}: {} rows\n", rows.front().accelerator, rows.size());
    auto const section = [&](char const* title, auto const& print) {
        std::ostringstream text;
        print(text);
        if (!text.str().empty()) fmt::print(out, "\n{}\n{}", title, text.str());
    };
    section("Ceilings", [&](std::ostream& o) { show_ceilings(o, rows); });
    section("Operations, and how much of these ceilings they reach",
            [&](std::ostream& o) { show_operations(o, rows, ceilings); });
    section("Kernels bound by memory, at their largest size",
            [&](std::ostream& o) { show_own_kernels(o, rows, ceilings); });
    section("Beside published figures", [&](std::ostream& o) { show_published(o, rows, published); });
    section("Under conditions", [&](std::ostream& o) { show_conditions(o, rows); });
    section("By other libraries, or with sums in any order", [&](std::ostream& o) { show_variants(o, rows); });
    section("The run", [&](std::ostream& o) { show_rest(o, rows); });
}

} // namespace trainfare::measure
