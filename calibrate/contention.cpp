// SPDX-License-Identifier: Apache-2.0
//
// What running side by side costs, derived from timings of the same kernel alone and in a training trace.
#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "calibrate/cost.hpp"
#include "model/routing.hpp"

namespace trainfare {
namespace {

struct LogMean { // geometric mean and relative half-width of a 90 % interval of single values
    double sum = 0, squares = 0;
    int n = 0;
    void add(double ratio) { sum += std::log(ratio), squares += std::log(ratio) * std::log(ratio), ++n; }
    [[nodiscard]] double mean() const { return std::exp(sum / n); }
    [[nodiscard]] double spread() const
    {
        if (n < 2) return 0.1;
        double const variance = std::max(0.0, (squares - sum * sum / n) / (n - 1));
        return 1.645 * std::sqrt(variance);
    }
};

/// All accelerators of one die: the part itself, what it was cut from, and its siblings.
bool same_die(Tables const& tables, std::string const& a, std::string const& b)
{
    auto root = [&](std::string const& key) {
        auto const found = tables.accelerators.find(key);
        return found != tables.accelerators.end() && found->second.variant_of &&
                       found->second.sms == tables.accelerator(*found->second.variant_of).sms
                   ? *found->second.variant_of
                   : key;
    };
    return root(a) == root(b);
}

/// Products timed both ways, of the accelerators that @p counts.
template <class Counts>
LogMean matrix_ratio(Tables const& tables, Counts counts)
{
    using Shape = std::tuple<std::string, OpKind, Precision, long, long, int>;
    std::map<Shape, LogMean> alone, beside;
    for (auto const& row : tables.ops) {
        bool const matrix = row.kind == OpKind::gemm || row.kind == OpKind::expert_gemm;
        // Small products are bound by memory, not by SMs: they say nothing about what losing SMs costs.
        if (!matrix || row.n == 0 || row.m * row.groups < 4096 || !counts(row.accelerator)) continue;
        auto const part = tables.accelerators.find(row.accelerator);
        auto const sms = part == tables.accelerators.end() ? std::nullopt : part->second.sms;
        double const share = row.comm_sms > 0 && sms ? double(*sms - row.comm_sms) / *sms : 1.0;
        Shape const shape{row.accelerator, row.kind, row.precision, row.n, row.k, row.groups};
        (row.comm_sms > 0 ? beside : alone)[shape].add(row.rate.value() / share);
    }
    LogMean ratio;
    for (auto const& [shape, rates] : beside)
        if (auto const other = alone.find(shape); other != alone.end()) ratio.add(rates.mean() / other->second.mean());
    return ratio;
}

/// Expert exchanges: a trace row states a time; the benchmark of the same size states logical bandwidth and gets its
/// time from the same bytes, so the ratio needs only that both moved the same tokens.
template <class Counts>
LogMean exchange_ratio(Tables const& tables, Counts counts)
{
    LogMean ratio;
    for (auto const& trace : tables.collectives) {
        if (!trace.time || !trace.sms || *trace.sms == 0 || !trace.tokens || !trace.hidden || !trace.ranks) continue;
        if (trace.operation != "ep_dispatch" && trace.operation != "ep_combine") continue;
        for (auto const& bench : tables.collectives) {
            if (bench.operation != trace.operation || bench.ranks != trace.ranks || bench.tokens != trace.tokens ||
                bench.hidden != trace.hidden || bench.bw_kind != "logical" || !bench.bandwidth || bench.sms)
                continue;
            if (!counts(bench.accelerator) || bench.accelerator != trace.accelerator) continue;
            // 8 of 256 experts in 4 of 8 groups: the routing of both the trace and the benchmark.
            Experts const routing{256, 8, 0, 0, 8, 4, 0};
            double const copies = expected_reach(routing, *trace.ranks, bench.nodes.value_or(1)).domains;
            double const element = trace.operation == "ep_dispatch" ? 1 + 4.0 / 128 : 2;
            double const bytes = copies * double(*trace.tokens) * double(*trace.hidden) * element;
            ratio.add(trace.time->value() / (bytes / bench.bandwidth->value()));
        }
    }
    return ratio;
}

constexpr double borrowed_spread = 0.1; // of a factor that was found on another accelerator: assumed

} // namespace

Contention derive_contention(Tables const& tables, Accelerator const& gpu)
{
    auto const own = [&](std::string const& key) { return same_die(tables, key, gpu.key); };
    auto const any = [](std::string const&) { return true; };
    auto matrix = matrix_ratio(tables, own), exchange = exchange_ratio(tables, own);
    Contention c;
    double extra_matrix = 0, extra_exchange = 0;
    if (matrix.n == 0) matrix = matrix_ratio(tables, any), extra_matrix = borrowed_spread;
    if (exchange.n == 0) exchange = exchange_ratio(tables, any), extra_exchange = borrowed_spread;
    if (matrix.n > 0) {
        c.matrix = std::min(1.0, matrix.mean());
        c.matrix_spread = std::hypot(matrix.spread() / std::sqrt(matrix.n), extra_matrix);
        c.matrix_pairs = matrix.n;
    }
    if (exchange.n > 0) {
        c.exchange = std::max(1.0, exchange.mean());
        c.exchange_spread = std::hypot(exchange.spread() / std::sqrt(exchange.n), extra_exchange);
        c.exchange_pairs = exchange.n;
    }
    return c;
}

} // namespace trainfare
