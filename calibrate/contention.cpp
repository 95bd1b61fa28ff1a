// SPDX-License-Identifier: Apache-2.0
//
// What running side by side costs, derived from timings of the same kernel alone and in a training trace.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
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

/// SMs that a row's kernel had, as a share of the part's.
double sm_share(Tables const& tables, OpRow const& row)
{
    auto const part = tables.accelerators.find(row.accelerator);
    if (part == tables.accelerators.end() || !part->second.sms) return 1;
    double const all = *part->second.sms;
    return row.sm_budget ? *row.sm_budget / all : (all - row.comm_sms) / all;
}

/// Small products are bound by memory, not by SMs: they say nothing about what losing SMs costs.
bool fills_the_chip(OpRow const& row)
{
    return (row.kind == OpKind::gemm || row.kind == OpKind::expert_gemm) && row.n > 0 && row.m * row.groups >= 4096 &&
           row.load_cv == 0;
}

using Kernel = std::tuple<std::string, OpKind, std::optional<Pass>, Precision, long, long, int, long, double>;

/// Rows of the same kernel; passes are told apart only where the timings are ours, published ones leave them out.
Kernel kernel_of(OpRow const& row)
{
    bool const memory = !is_matrix(row.kind);
    return {row.accelerator, row.kind, row.measured ? row.pass : std::nullopt, row.precision, row.n, row.k, row.groups,
            row.measured ? row.m : 0, memory ? row.bytes.value_or(Bytes{}).value() : 0};
}

/// Kernels timed both ways: rate beside over rate alone.
template <class Use, class Beside, class Rate>
LogMean both_ways(Tables const& tables, Use use, Beside is_beside, Rate rate)
{
    std::map<Kernel, LogMean> alone, beside;
    for (auto const& row : tables.ops)
        if (use(row)) (is_beside(row) ? beside : alone)[kernel_of(row)].add(rate(row));
    LogMean ratio;
    for (auto const& [kernel, rates] : beside)
        if (auto const other = alone.find(kernel); other != alone.end()) ratio.add(rates.mean() / other->second.mean());
    return ratio;
}

/// Matrix products beside communication, beyond what the lost SMs explain.
template <class Counts>
LogMean matrix_ratio(Tables const& tables, Counts counts, double exponent, bool measured)
{
    return both_ways(
        tables,
        [&](OpRow const& row) {
            return fills_the_chip(row) && !row.sm_budget && row.measured == measured && counts(row.accelerator);
        },
        [](OpRow const& row) { return row.comm_sms > 0; },
        [&](OpRow const& row) { return row.rate.value() / std::pow(sm_share(tables, row), exponent); });
}

/// Memory-bound kernels beside communication, measured ones only.
template <class Counts>
LogMean memory_ratio(Tables const& tables, Counts counts)
{
    return both_ways(
        tables,
        [&](OpRow const& row) {
            return !is_matrix(row.kind) && row.bytes && row.measured && !row.sm_budget && counts(row.accelerator);
        },
        [](OpRow const& row) { return row.comm_sms > 0; }, [](OpRow const& row) { return row.bandwidth->value(); });
}

/// Exponents that products confined to some SMs imply: log(rate ratio) / log(share). Measured ones only.
template <class Counts>
std::vector<double> sm_exponents(Tables const& tables, Counts counts)
{
    std::map<Kernel, LogMean> whole;
    for (auto const& row : tables.ops)
        if (fills_the_chip(row) && row.measured && row.comm_sms == 0 && counts(row.accelerator) &&
            sm_share(tables, row) == 1)
            whole[kernel_of(row)].add(row.rate.value());
    std::vector<double> exponents;
    for (auto const& row : tables.ops) {
        double const share = sm_share(tables, row);
        if (!fills_the_chip(row) || !row.sm_budget || share >= 1 || !row.measured || !counts(row.accelerator)) continue;
        if (auto const all = whole.find(kernel_of(row)); all != whole.end())
            exponents.push_back(std::log(row.rate.value() / all->second.mean()) / std::log(share));
    }
    return exponents;
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
    Contention c;
    if (auto const exponents = sm_exponents(tables, own); !exponents.empty()) {
        c.sm_exponent = std::accumulate(exponents.begin(), exponents.end(), 0.0) / double(exponents.size());
        c.sm_pairs = static_cast<int>(exponents.size());
    }
    auto exchange = exchange_ratio(tables, own);
    LogMean matrix;
    double extra_matrix = 0, extra_exchange = 0;
    for (bool const measured : {true, false})
        if (matrix.n == 0) matrix = matrix_ratio(tables, own, c.sm_exponent, measured);
    if (matrix.n == 0) extra_matrix = borrowed_spread;
    for (bool const measured : {true, false})
        if (matrix.n == 0) matrix = matrix_ratio(tables, any, c.sm_exponent, measured);
    if (exchange.n == 0) exchange = exchange_ratio(tables, any), extra_exchange = borrowed_spread;
    if (matrix.n > 0) {
        c.matrix = std::min(1.0, matrix.mean());
        c.matrix_spread = std::hypot(matrix.spread() / std::sqrt(matrix.n), extra_matrix);
        c.matrix_pairs = matrix.n;
    }
    if (auto const memory = memory_ratio(tables, own); memory.n > 0) {
        c.memory = std::min(1.0, memory.mean());
        c.memory_spread = memory.spread() / std::sqrt(memory.n);
        c.memory_pairs = memory.n;
    }
    if (exchange.n > 0) {
        c.exchange = std::max(1.0, exchange.mean());
        c.exchange_spread = std::hypot(exchange.spread() / std::sqrt(exchange.n), extra_exchange);
        c.exchange_pairs = exchange.n;
    }
    return c;
}

} // namespace trainfare
