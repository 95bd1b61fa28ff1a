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

} // namespace

Contention derive_contention(Tables const& tables, Accelerator const& gpu)
{
    using Shape = std::tuple<OpKind, Precision, long, long, int>;
    std::map<Shape, LogMean> alone, beside;
    for (auto const& row : tables.ops) {
        bool const matrix = row.kind == OpKind::gemm || row.kind == OpKind::expert_gemm;
        // Small products are bound by memory, not by SMs: they say nothing about what losing SMs costs.
        if (!matrix || row.n == 0 || row.m * row.groups < 4096 || !same_die(tables, row.accelerator, gpu.key)) continue;
        double const share = row.comm_sms > 0 && gpu.sms ? double(*gpu.sms - row.comm_sms) / *gpu.sms : 1.0;
        (row.comm_sms > 0 ? beside : alone)[{row.kind, row.precision, row.n, row.k, row.groups}].add(row.rate.value() / share);
    }
    Contention c;
    LogMean matrix;
    for (auto const& [shape, rates] : beside)
        if (auto const other = alone.find(shape); other != alone.end())
            matrix.add(rates.mean() / other->second.mean());
    if (matrix.n > 0) {
        c.matrix = std::min(1.0, matrix.mean());
        c.matrix_spread = matrix.spread() / std::sqrt(matrix.n);
        c.matrix_pairs = matrix.n;
    }

    // Exchanges: a trace row states a time; the benchmark of the same size states logical bandwidth and gets its time from
    // the same bytes, so the ratio needs only that both moved the same tokens.
    LogMean exchange;
    for (auto const& trace : tables.collectives) {
        if (!trace.time || !trace.sms || *trace.sms == 0 || !trace.tokens || !trace.hidden || !trace.ranks) continue;
        if (trace.operation != "ep_dispatch" && trace.operation != "ep_combine") continue;
        for (auto const& bench : tables.collectives) {
            if (bench.operation != trace.operation || bench.ranks != trace.ranks || bench.tokens != trace.tokens ||
                bench.hidden != trace.hidden || bench.bw_kind != "logical" || !bench.bandwidth || bench.sms)
                continue;
            if (!same_die(tables, bench.accelerator, gpu.key) || bench.accelerator != trace.accelerator) continue;
            // 8 of 256 experts in 4 of 8 groups: the routing of both the trace and the benchmark.
            Experts const routing{256, 8, 0, 0, 8, 4, 0};
            double const copies = expected_reach(routing, *trace.ranks, bench.nodes.value_or(1)).domains;
            double const element = trace.operation == "ep_dispatch" ? 1 + 4.0 / 128 : 2;
            double const bytes = copies * double(*trace.tokens) * double(*trace.hidden) * element;
            exchange.add(trace.time->value() / (bytes / bench.bandwidth->value()));
        }
    }
    if (exchange.n > 0) {
        c.exchange = std::max(1.0, exchange.mean());
        c.exchange_spread = exchange.spread() / std::sqrt(exchange.n);
        c.exchange_pairs = exchange.n;
    }
    return c;
}

} // namespace trainfare
