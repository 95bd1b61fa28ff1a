// SPDX-License-Identifier: Apache-2.0
#include "calibrate/fit.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include "calibrate/csv.hpp"

namespace trainfare {
namespace {

/// The operation that a row timed.
Op op_of(OpRow const& row)
{
    Op op;
    op.kind = row.kind, op.pass = row.pass.value_or(Pass::forward), op.name = "fit";
    op.precision = row.precision;
    op.m = row.m, op.n = row.n, op.k = row.k, op.groups = row.groups;
    op.batch = std::max(1L, row.batch), op.seq = row.seq;
    op.heads = row.heads, op.kv_heads = row.kv_heads, op.qk_dim = row.qk_dim, op.v_dim = row.v_dim;
    op.keys = static_cast<double>(row.seq) / 2;
    if (is_matrix(row.kind)) op.flops = Flops{1}; // any: only the rate is asked for
    op.bytes = row.bytes.value_or(Bytes{1});
    return op;
}

/// Kernels below which a 90th percentile is no more than the worst of a handful.
constexpr int percentile_needs = 8;

double rate_of(OpRow const& row) { return is_matrix(row.kind) ? row.rate.value() : row.bandwidth->value(); }

using Shape = std::tuple<long, long, int, int, int, int>; // what a curve holds fixed
Shape shape_of(OpRow const& row)
{
    if (row.kind == OpKind::attention) return {0, 0, 0, row.heads, row.qk_dim, row.v_dim};
    return {row.n, row.k, row.groups, 0, 0, 0};
}
double size_of(OpRow const& row)
{
    if (row.kind == OpKind::attention) return static_cast<double>(row.batch * row.seq);
    return is_matrix(row.kind) ? static_cast<double>(row.m) : row.bytes->value();
}

/// Products of fewer rows are inference: they wait for the weights, and say nothing about training's.
constexpr long training_rows = 512;

bool usable(OpRow const& row)
{
    if (row.kind != OpKind::attention && is_matrix(row.kind) && row.m * row.groups < training_rows) return false;
    return row.comm_sms == 0 && !row.sm_budget && row.load_cv == 0 && (is_matrix(row.kind) || row.bytes);
}

LeftOut summary(std::vector<double> errors)
{
    std::sort(errors.begin(), errors.end());
    LeftOut out;
    out.kernels = static_cast<int>(errors.size());
    for (double const e : errors) out.mean += e / static_cast<double>(errors.size());
    auto const rank = static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(errors.size())));
    out.p90 = errors[rank - 1];
    return out;
}

/// Errors of predicting each kernel of a line from the line's other rows, without those that @p same calls the same.
/// Predictions that reach outside what was timed are flagged as such and have a spread of their own; they do not count here.
template <class Same>
std::optional<LeftOut> leave_out(Tables const& tables, Accelerator const& gpu, std::vector<OpRow> const& rows, Same same)
{
    Tables rest = tables; // the line's rows alone: no sibling of the same die, no other pass may help out
    rest.fits.clear();
    std::vector<double> errors;
    std::set<std::pair<Shape, double>> done;
    for (auto const& row : rows) {
        if (!done.emplace(shape_of(row), size_of(row)).second) continue; // repeats of one kernel are left out together
        rest.ops.clear();
        for (auto const& other : rows)
            if (!same(other, row)) rest.ops.push_back(other);
        if (rest.ops.empty()) continue;
        auto const alone = CostModel{rest, gpu}.alone(op_of(row));
        if (alone.quality == Quality::class_rate || alone.quality == Quality::extrapolated) continue;
        errors.push_back(std::abs(alone.rate / rate_of(row) - 1));
    }
    if (errors.empty()) return std::nullopt;
    return summary(std::move(errors));
}

FitLine line_of(Tables const& tables, std::vector<OpRow> const& rows)
{
    auto const& first = rows.front();
    auto const& gpu = tables.accelerator(first.accelerator);
    FitLine line{first.accelerator, first.kind, first.pass, first.precision, static_cast<int>(rows.size()), {}, {}};
    // A size is left out where its shape has others; a shape where there are other shapes.
    std::map<Shape, std::set<double>> sizes;
    for (auto const& row : rows) sizes[shape_of(row)].insert(size_of(row));
    std::vector<OpRow> several;
    for (auto const& row : rows)
        if (sizes[shape_of(row)].size() > 1) several.push_back(row);
    if (!several.empty())
        line.one_size = leave_out(tables, gpu, several, [](OpRow const& a, OpRow const& b) {
            return shape_of(a) == shape_of(b) && size_of(a) == size_of(b);
        });
    if (sizes.size() > 1 && is_matrix(first.kind))
        line.one_shape = leave_out(tables, gpu, rows,
                                   [](OpRow const& a, OpRow const& b) { return shape_of(a) == shape_of(b); });
    return line;
}

/// Uneven groups against even ones of the same product: rate over rate.
FitFactor uneven_experts(Tables const& tables, std::string const& accelerator)
{
    std::map<std::tuple<Pass, Precision, long, long, long, int>, std::pair<std::vector<double>, std::vector<double>>> both;
    for (auto const& row : tables.ops) {
        if (row.kind != OpKind::expert_gemm || row.accelerator != accelerator || !row.measured || row.comm_sms > 0)
            continue;
        auto& [even, uneven] =
            both[{row.pass.value_or(Pass::forward), row.precision, row.m, row.n, row.k, row.groups}];
        (row.load_cv > 0 ? uneven : even).push_back(row.rate.value());
    }
    std::vector<double> ratios;
    for (auto const& [key, rates] : both)
        if (!rates.first.empty())
            for (double const rate : rates.second) ratios.push_back(rate / rates.first.front());
    FitFactor factor{"uneven experts", 1, 0, static_cast<int>(ratios.size()),
                     "rate of a grouped product whose experts have unequal rows, over equal ones; for information"};
    if (ratios.empty()) return factor;
    std::sort(ratios.begin(), ratios.end());
    factor.value = ratios[ratios.size() / 2];
    factor.spread = (ratios.back() - ratios.front()) / 2;
    return factor;
}

} // namespace

FitReport fit(Tables const& tables, std::string const& accelerator)
{
    std::map<std::tuple<std::string, OpKind, int, Precision>, std::vector<OpRow>> lines;
    for (auto const& row : tables.ops)
        if (usable(row) && (accelerator.empty() || row.accelerator == accelerator) &&
            tables.accelerators.contains(row.accelerator))
            lines[{row.accelerator, row.kind, row.pass ? static_cast<int>(*row.pass) : -1, row.precision}].push_back(row);
    FitReport report;
    for (auto const& [key, rows] : lines) {
        // A line with measured rows is read from them alone (CostModel), so it is judged by them alone.
        auto used = rows;
        if (std::any_of(used.begin(), used.end(), [](OpRow const& row) { return row.measured; }))
            std::erase_if(used, [](OpRow const& row) { return !row.measured; });
        report.lines.push_back(line_of(tables, used));
    }
    if (!accelerator.empty()) {
        auto const c = derive_contention(tables, tables.accelerator(accelerator));
        report.factors = {
            {"SM share exponent", c.sm_exponent, 0, c.sm_pairs, "products confined to a share s of the SMs run at s^x"},
            {"step factor", c.matrix, c.matrix_spread, c.matrix_pairs,
             "products beside communication, beyond the SMs lost"},
            {"memory factor", c.memory, c.memory_spread, c.memory_pairs, "memory-bound kernels beside communication"},
            {"exchange factor", c.exchange, c.exchange_spread, c.exchange_pairs,
             "time of dispatch and combine beside compute, over alone"},
            uneven_experts(tables, accelerator)};
    }
    return report;
}

void print(std::ostream& out, FitReport const& report)
{
    fmt::print(out, "Error of a look-up, found by leaving timed kernels out (mean and 90th percentile)\n");
    fmt::print(out, "  {:<16} {:<13} {:<10} {:<10} {:>5} {:>22} {:>22}\n", "accelerator", "op", "pass", "dtype", "rows",
               "one size left out", "one shape left out");
    auto const cell = [](std::optional<LeftOut> const& e) {
        return e ? fmt::format("{:.1f} % {:.1f} % of {}", 100 * e->mean, 100 * e->p90, e->kernels) : std::string{"-"};
    };
    for (auto const& line : report.lines)
        fmt::print(out, "  {:<16} {:<13} {:<10} {:<10} {:>5} {:>22} {:>22}\n", line.accelerator, name(line.kind),
                   line.pass ? name(*line.pass) : "any", name(line.precision), line.rows, cell(line.one_size),
                   cell(line.one_shape));
    if (report.factors.empty()) return;
    fmt::print(out, "\nFactors between a kernel alone and in a step\n");
    for (auto const& f : report.factors)
        fmt::print(out, "  {:<18} {}  {}\n", f.name,
                   f.pairs > 0 ? fmt::format("{:.3f} +- {:.3f} from {} pairs", f.value, f.spread, f.pairs)
                               : std::string{"not measured, 1 is used"},
                   f.words);
}

std::string to_csv(FitReport const& report)
{
    std::ostringstream text;
    CsvWriter csv{text,
                  {"accelerator", "op", "pass", "dtype", "rows", "size_kernels", "size_mean", "size_p90", "shape_kernels",
                   "shape_mean", "shape_p90"}};
    auto const rounded = [](double share) { return std::round(share * 1e4) / 1e4; };
    auto const fields = [&](std::optional<LeftOut> const& e) {
        if (!e) {
            csv.field("").field("").field("");
            return;
        }
        csv.field(static_cast<long>(e->kernels)).field(rounded(e->mean));
        if (e->kernels >= percentile_needs)
            csv.field(std::max(1e-4, rounded(e->p90)));
        else
            csv.field("");
    };
    for (auto const& line : report.lines) {
        if (!line.one_size && !line.one_shape) continue;
        csv.field(line.accelerator).field(name(line.kind)).field(line.pass ? name(*line.pass) : "");
        csv.field(name(line.precision)).field(static_cast<long>(line.rows));
        fields(line.one_size);
        fields(line.one_shape);
        csv.end_row();
    }
    return text.str();
}

} // namespace trainfare
