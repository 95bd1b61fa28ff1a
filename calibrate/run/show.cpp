// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/show.hpp"

#include <algorithm>
#include <cmath>
#include <map>
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
    for (auto const& row : rows) {
        if (row.point.group != Group::ceilings) continue;
        auto const& what = row.point.method;
        if (!timed(row))
            fmt::print(out, "  {:<16}{}: {}\n", what, row.status, row.note);
        else if (what == "gemm")
            fmt::print(out, "  {:<16}{:.4g} TFLOP/s in {}, {} cubed\n", what, row.tflops(),
                       name(row.point.op.precision), row.point.op.m);
        else if (row.moved > 0)
            fmt::print(out, "  {:<16}{:.4g} GB/s\n", what, row.moved_gbps());
        else
            fmt::print(out, "  {:<16}{:.2f} us\n", what, row.seconds() * 1e6);
    }
}

struct Tally {
    int points = 0, ok = 0, unsupported = 0, failed = 0;
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
        ++t.points, t.ok += row.status == "ok", t.unsupported += row.status == "unsupported";
        t.failed += row.status == "failed_check" || row.status == "oom";
        if (timed(row)) t.rates.push_back(matrix ? row.tflops() : row.moved_gbps());
    }
    fmt::print(out, "  {:<34}{:>7}{:>6}{:>13}{:>8}{:>22}{:>22}\n", "", "points", "ok", "unsupported", "failed", "best",
               "median");
    for (auto const& [key, t] : tallies) {
        auto const& [kind, pass, precision, matrix] = key;
        auto const text = [&](double rate) {
            return fmt::format("{:.4g} {} {:>6}", rate, matrix ? "TFLOP/s" : "GB/s",
                               share(rate, matrix ? ceilings.of(precision) : ceilings.copy));
        };
        fmt::print(out, "  {:<34}{:>7}{:>6}{:>13}{:>8}{:>22}{:>22}\n",
                   fmt::format("{} {} {}", name(kind), name(pass), name(precision)), t.points, t.ok, t.unsupported,
                   t.failed, t.rates.empty() ? "-" : text(*std::max_element(t.rates.begin(), t.rates.end())),
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

void show_rest(std::ostream& out, std::vector<Row> const& rows)
{
    for (auto const& row : rows)
        if (row.point.group == Group::sustained && timed(row))
            fmt::print(out, "  sustained mix   {:.4g} TFLOP/s; {}\n", row.tflops(), row.note);
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
        fmt::print(out, "  {:<16}{} x {}\n", problem.first, count, problem.second.substr(0, 120));
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
    fmt::print(out, "{}, {} rows\n\nCeilings\n", rows.front().accelerator, rows.size());
    show_ceilings(out, rows);
    fmt::print(out, "\nOperations, and how much of these ceilings they reach\n");
    show_operations(out, rows, ceilings);
    fmt::print(out, "\nKernels bound by memory, at their largest size\n");
    show_own_kernels(out, rows, ceilings);
    fmt::print(out, "\nBeside published figures\n");
    show_published(out, rows, published);
    fmt::print(out, "\nUnder conditions\n");
    show_conditions(out, rows);
    fmt::print(out, "\nThe run\n");
    show_rest(out, rows);
}

void show(std::ostream& out, ClosureReport const& r)
{
    auto const ms = [](double seconds) { return fmt::format("{:.3f} ms", seconds * 1e3); };
    auto const off = [](double predicted, double measured) {
        return fmt::format("{:+.1f} %", 100 * (predicted / measured - 1));
    };
    fmt::print(out, "The real step in {}\n  {:<26}{:>14}{:>12}{:>14}{:>14}\n", name(r.precision), "", "predicted",
               "operations", "other sizes", "not measured");
    for (auto const& line : r.classes)
        fmt::print(out, "  {:<26}{:>14}{:>12}{:>14}{:>14}\n", line.what, ms(line.predicted_s), line.parts, line.nearest,
                   line.missing);
    fmt::print(out, "  {:<26}{:>14}{:>14}{:>10}\n", "", "predicted", "measured", "error");
    fmt::print(out, "  {:<26}{:>14}{:>14}{:>10}\n", r.passes.what, ms(r.passes.predicted_s), ms(r.measured_passes_s),
               off(r.passes.predicted_s, r.measured_passes_s));
    fmt::print(out, "  {:<26}{:>14}{:>14}{:>10}\n", r.update.what, ms(r.update.predicted_s), ms(r.measured_update_s),
               off(r.update.predicted_s, r.measured_update_s));
    fmt::print(out, "  {:<26}{:>14}{:>14}{:>10}  {}\n", "step", ms(r.predicted_s()), ms(r.measured_s),
               off(r.predicted_s(), r.measured_s),
               r.closes()          ? "closes"
               : r.missing.empty() ? "does not close (5 %)"
                                   : "incomplete");
    for (auto const& what : r.missing) fmt::print(out, "  not measured: {}\n", what);
}

void show(std::ostream& out, std::vector<Point> const& points, Accelerator const& gpu, double measuring_s,
          double sustained_s)
{
    std::map<Group, std::pair<int, double>> groups;
    double all = 0;
    for (auto const& p : points) {
        double const s = seconds_guess(p, gpu, measuring_s, sustained_s);
        auto& [count, seconds] = groups[p.group];
        ++count, seconds += s, all += s;
    }
    fmt::print(out, "{:<12}{:>8}{:>10}\n", "group", "points", "seconds");
    for (auto const& [group, sum] : groups)
        fmt::print(out, "{:<12}{:>8}{:>10.0f}\n", name(group), sum.first, sum.second);
    fmt::print(out, "{:<12}{:>8}{:>10.0f}  ({:.0f} minutes, a guess for {})\nplan {}\n", "all", points.size(), all,
               std::ceil(all / 60), gpu.key, plan_hash(points));
}

} // namespace trainfare::measure
