// SPDX-License-Identifier: Apache-2.0
#include "calibrate/cost.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

namespace trainfare {
namespace {

// Relative half-widths of 90 % intervals, by how a rate was found. `exact` is the scatter between releases of one
// kernel.
constexpr double interpolated_spread = 0.12; // leave-one-out error of nearest-shape look-ups on the shipped tables
constexpr double extrapolated_spread = 0.25;
constexpr double donor_spread = 0.05; // same die, other part (calibrate/tables/README.md, same_die_compute)

double log_ratio(double a, double b) { return std::log(a / b); }

double hypot_spread(double a, double b) { return std::sqrt(a * a + b * b); }

/// Rows are (rows per group): a curve of one shape over m.
struct Point {
    double log_m = 0, log_rate = 0, spread = 0;
    OpRow const* row = nullptr; // the last of those merged
};

/// Points of one shape, rows of equal m merged to their geometric mean; spread is half the range of what was merged.
std::vector<Point> curve(std::vector<OpRow const*> rows)
{
    std::sort(rows.begin(), rows.end(), [](OpRow const* a, OpRow const* b) {
        return a->m != b->m ? a->m < b->m : a->place.line < b->place.line;
    });
    std::vector<Point> points;
    for (std::size_t i = 0; i < rows.size();) {
        std::size_t j = i;
        double sum = 0, low = std::numeric_limits<double>::infinity(), high = 0;
        for (; j < rows.size() && rows[j]->m == rows[i]->m; ++j) {
            double const rate = rows[j]->rate.value();
            sum += std::log(rate), low = std::min(low, rate), high = std::max(high, rate);
        }
        auto const n = static_cast<double>(j - i);
        points.push_back(
            {std::log(double(rows[i]->m)), sum / n, std::max(0.05, (high - low) / (high + low)), rows[j - 1]});
        i = j;
    }
    return points;
}

struct Read {
    double rate = 0, spread = 0;
    Quality quality = Quality::exact;
    OpRow const* row = nullptr; // the nearest of those read
};

/// Log-log linear along m; outside the measured rows the end point's rate serves, flagged.
Read read(std::vector<Point> const& points, double m)
{
    double const x = std::log(m);
    auto const at = [](Point const& p, Quality q) { return Read{std::exp(p.log_rate), p.spread, q, p.row}; };
    auto const near = [&](Point const& p) { return std::abs(p.log_m - x) < std::log(1.02); };
    for (auto const& p : points)
        if (near(p)) return at(p, Quality::exact);
    if (x < points.front().log_m) return at(points.front(), Quality::extrapolated);
    if (x > points.back().log_m)
        return at(points.back(),
                  x < points.back().log_m + std::log(2.0) ? Quality::interpolated : Quality::extrapolated);
    std::size_t i = 1;
    while (points[i].log_m < x) ++i;
    auto const& a = points[i - 1];
    auto const& b = points[i];
    double const t = (x - a.log_m) / (b.log_m - a.log_m);
    return {std::exp(a.log_rate + t * (b.log_rate - a.log_rate)), std::max(a.spread, b.spread), Quality::interpolated,
            t < 0.5 ? a.row : b.row};
}

bool same_shape(OpRow const& row, Op const& op) { return row.n == op.n && row.k == op.k && row.groups == op.groups; }

/// Precisions whose kernels are timed in one table column.
bool serves(Precision row, Precision wanted)
{
    return row == wanted || (row == Precision::fp8_tensor && wanted == Precision::fp8_block) ||
           (row == Precision::fp16 && wanted == Precision::bf16);
}

bool pass_serves(std::optional<Pass> row, Pass wanted)
{
    if (wanted == Pass::recompute) wanted = Pass::forward;
    if (!row) return wanted != Pass::wgrad;
    return *row == wanted || (wanted == Pass::dgrad && *row == Pass::forward);
}

/// Rows of the part itself take the place of a donor's at the same number of rows.
void prefer_own(std::vector<OpRow const*>& rows, std::string const& own)
{
    auto const all = rows;
    std::erase_if(rows, [&](OpRow const* donated) {
        return donated->accelerator != own && std::any_of(all.begin(), all.end(), [&](OpRow const* row) {
                   return row->accelerator == own && row->m == donated->m;
               });
    });
}

/// "ops.csv:1249": the folder differs from machine to machine, the table does not.
std::string short_place(SourcePlace place)
{
    place.file = place.file.substr(place.file.find_last_of('/') + 1);
    return place.text();
}

std::string quantity(Op const& op)
{
    if (op.kind == OpKind::attention && op.flops.value() == 0) return "attention.conversion";
    auto const pass = op.pass == Pass::recompute ? Pass::forward : op.pass;
    return fmt::format("{}.{}", name(op.kind), name(pass));
}

std::string shape_words(Op const& op)
{
    if (op.kind == OpKind::attention)
        return fmt::format("{} x {} tokens, {} heads, {}/{} wide", op.batch, op.seq, op.heads, op.qk_dim, op.v_dim);
    if (op.groups > 1) return fmt::format("{} groups of m={} n={} k={}", op.groups, op.m, op.n, op.k);
    return fmt::format("m={} n={} k={}", op.m, op.n, op.k);
}

} // namespace

std::string_view name(Quality q)
{
    switch (q) {
    case Quality::exact: return "exact";
    case Quality::interpolated: return "interpolated";
    case Quality::extrapolated: return "extrapolated";
    case Quality::class_rate: return "class rate";
    }
    return "";
}

CostModel::CostModel(Tables const& tables, Accelerator const& gpu, bool strict, WhatIf what_if)
    : tables_{&tables}, gpu_{gpu}, strict_{strict}, what_if_{what_if}, contention_{derive_contention(tables, gpu)}
{
    // An export-limited part and its parent share the die where SM counts agree (H800 and H100): either's rows serve
    // the other.
    if (gpu.variant_of && gpu.sms && tables.accelerator(*gpu.variant_of).sms == gpu.sms) donor_ = *gpu.variant_of;
    for (auto const& [key, other] : tables.accelerators)
        if (other.variant_of == gpu.key && other.sms == gpu.sms && gpu.sms) donor_ = key;
    for (auto const& row : tables.ops)
        if (row.accelerator == gpu.key || row.accelerator == donor_) rows_.push_back(&row);
    auto const* gap = tables.rate(gpu.key, Precision::bf16, "launch.gap");
    gap_ = Seconds{gap ? gap->value : 2e-6};
}

double CostModel::peak(Precision p) const
{
    auto const dtype = gemm_dtype(p);
    auto const wide = gpu_.bf16.value_or(FlopRate{0}).value();
    if (dtype == DType::fp4) return gpu_.fp4.value_or(gpu_.fp8.value_or(FlopRate{wide})).value();
    if (dtype == DType::fp8) return gpu_.fp8.value_or(FlopRate{wide}).value();
    return dtype == DType::fp32 ? wide / 2 : wide; // TF32 runs at half the 16-bit rate
}

CostModel::Rate CostModel::class_rate(Op const& op, std::string_view key, bool words) const
{
    // "norm.dgrad" on this part, else "norm"; else either on the same-die donor; else for all parts ("*").
    auto const whole = key.substr(0, key.find('.'));
    auto const find = [&](std::string const& part, bool own) -> RateRow const* {
        for (auto const quantity : {key, whole})
            if (auto const* row = tables_->rate(part, op.precision, quantity); row && (row->accelerator != "*") == own)
                return row;
        return nullptr;
    };
    std::string via;
    auto const* row = find(gpu_.key, true);
    if (!row && !donor_.empty())
        if (row = find(donor_, true); row) via = donor_;
    if (!row) row = find(gpu_.key, false);
    if (!row)
        throw InputError(
            {tables_->folder + "/rates.csv", 0, 0},
            fmt::format("no rate for {} in {} on {} (its time cannot be estimated); add a row for {} or for *", key,
                        name(op.precision), gpu_.key, gpu_.key));
    Rate rate;
    bool const hbm = row->unit == "hbm", matrix = op.flops.value() > 0;
    if (row->unit != (matrix ? "peak" : "hbm"))
        throw InputError(row->place,
                         fmt::format("{} has unit {}, but {}; give its share of {}", row->quantity, row->unit,
                                     matrix ? "a matrix product is priced by its FLOPs" : "it is priced by its bytes",
                                     matrix ? "peak FLOP/s (unit peak)" : "HBM bandwidth (unit hbm)"));
    if (matrix && !gpu_.bf16)
        throw InputError(
            {tables_->folder + "/hardware.csv", 0, 0},
            fmt::format("{} has no dense_bf16_tflops (a share of peak gives no time); fill it in", gpu_.key));
    rate.value = row->value * (hbm ? gpu_.memory_bandwidth.value() : peak(op.precision));
    rate.spread = via.empty() ? row->spread : hypot_spread(row->spread, donor_spread);
    rate.source = row->source;
    if (words)
        rate.words = fmt::format("class rate {}: {:.3g} of {} = {:.4g} T{}/s ({}{})", key, row->value,
                                 hbm ? "HBM bandwidth" : "peak", rate.value / 1e12, hbm ? "B" : "FLOP",
                                 short_place(row->place), via.empty() ? "" : "; row of " + via + ", same die");
    return rate;
}

CostModel::Rate CostModel::finish(double rate, double spread, Quality quality, OpRow const& row, double undo,
                                  std::string const& how, bool words) const
{
    Rate result{rate / undo, spread, quality, row.source, {}};
    if (quality == Quality::interpolated) result.spread = std::max(spread, interpolated_spread);
    if (quality == Quality::extrapolated) result.spread = std::max(spread, extrapolated_spread);
    bool const donated = row.accelerator != gpu_.key;
    if (donated) result.spread = hypot_spread(result.spread, donor_spread);
    if (words)
        result.words = fmt::format("{}: {:.4g} TFLOP/s ({}, {}{})", how, result.value / 1e12, name(quality),
                                   short_place(row.place), donated ? "; row of " + row.accelerator + ", same die" : "");
    return result;
}

/// What a row timed beside communication says about the kernel alone: its own factors are taken out again.
double CostModel::beside_factor(OpRow const& row) const
{
    if (row.comm_sms == 0 || !gpu_.sms) return 1;
    return contention_.matrix * (*gpu_.sms - row.comm_sms) / *gpu_.sms;
}

CostModel::Rate CostModel::attention_rate(Op const& op, bool words) const
{
    // Same head widths and mask; nearest in sequence length, then in heads x batch (how full the chip is).
    double best = std::numeric_limits<double>::infinity();
    std::vector<OpRow const*> rows;
    for (auto const* row : rows_) {
        auto const pass =
            op.pass == Pass::recompute ? Pass::forward : op.pass; // unlike a product's, the kernels differ
        if (row->kind != op.kind || !serves(row->precision, op.precision) || row->pass != pass) continue;
        if (row->qk_dim != op.qk_dim || row->v_dim != op.v_dim || !row->causal || row->seq == 0) continue;
        double const parallel = double(std::max(row->batch, 1L)) * std::max(row->heads, 1);
        double const d = std::abs(log_ratio(double(row->seq), double(op.seq))) +
                         0.5 * std::abs(log_ratio(parallel, double(op.batch) * op.heads)) +
                         (row->comm_sms > 0 ? 1e-6 : 0);
        if (d < best - 1e-9) best = d, rows.clear();
        if (d < best + 1e-9) rows.push_back(row);
    }
    if (rows.empty()) return class_rate(op, quantity(op), words);
    for (auto const* row : rows) // a curve over m has no meaning here: rows of one shape differ in nothing but the run
        if (row->m != rows.front()->m) return class_rate(op, quantity(op), words);
    prefer_own(rows, gpu_.key);
    auto const merged = curve(rows).front();
    best +=
        std::abs(log_ratio(2 * op.keys, double(op.seq))); // a window, or chosen keys: rows are of the whole triangle
    auto const quality = best < 1e-3            ? Quality::exact
                         : best < std::log(4.0) ? Quality::interpolated
                                                : Quality::extrapolated;
    return finish(
        std::exp(merged.log_rate), merged.spread, quality, *merged.row, beside_factor(*merged.row),
        fmt::format("timed {} for {}", rows.front()->comm_sms > 0 ? "beside communication" : "alone", shape_words(op)),
        words);
}

CostModel::Rate CostModel::matrix_rate(Op const& op, bool words) const
{
    if (op.kind == OpKind::attention) return attention_rate(op, words);
    std::vector<OpRow const*> alone, beside;
    std::map<std::tuple<long, long, int>, std::vector<OpRow const*>> shapes;
    for (auto const* row : rows_) {
        if (row->kind != op.kind || !serves(row->precision, op.precision) || !pass_serves(row->pass, op.pass)) continue;
        if (row->m == 0 || row->n == 0) continue;
        if (same_shape(*row, op)) (row->comm_sms > 0 ? beside : alone).push_back(row);
        if (row->comm_sms == 0) shapes[{row->n, row->k, row->groups}].push_back(row);
    }
    for (auto* rows : {&alone, &beside}) { // rows timed beside communication serve where nothing was timed alone
        if (rows->empty()) continue;
        prefer_own(*rows, gpu_.key);
        auto const r = read(curve(*rows), double(op.m));
        return finish(r.rate, r.spread, r.quality, *r.row, beside_factor(*r.row),
                      fmt::format("timed {} {}", rows == &alone ? "alone" : "beside communication", shape_words(op)),
                      words);
    }
    if (shapes.empty()) return class_rate(op, quantity(op), words);

    // Nearest shapes by distance in log(n), log(k), log(groups): efficiency of big products varies slowly with shape.
    std::vector<std::pair<double, std::vector<OpRow const*> const*>> near;
    for (auto const& [shape, rows] : shapes) {
        auto const [n, k, groups] = shape;
        double const d = std::abs(log_ratio(double(n), double(op.n))) + std::abs(log_ratio(double(k), double(op.k))) +
                         2 * std::abs(log_ratio(groups, op.groups));
        near.emplace_back(d, &rows);
    }
    std::sort(near.begin(), near.end(), [](auto const& a, auto const& b) {
        return a.first != b.first ? a.first < b.first : a.second->front()->place.line < b.second->front()->place.line;
    });
    near.resize(std::min<std::size_t>(near.size(), 3));
    double weight = 0, sum = 0;
    for (auto const& [distance, rows] : near) {
        double const w = 1 / (0.1 + distance);
        sum += w * std::log(read(curve(*rows), double(op.m)).rate), weight += w;
    }
    auto const quality = near.front().first < std::log(4.0) ? Quality::interpolated : Quality::extrapolated;
    auto const& first = *read(curve(*near.front().second), double(op.m)).row;
    return finish(
        std::exp(sum / weight), 0, quality, first, 1,
        fmt::format("nearest {} shapes to {} (first n={} k={})", near.size(), shape_words(op), first.n, first.k),
        words);
}

Cost CostModel::price(Op const& op, Conditions conditions, bool words) const
{
    Cost cost;
    double const gap = gap_.value() * op.kernels;
    if (is_communication(op.kind)) return cost; // priced from links, not from this table
    bool const matrix = is_matrix(op.kind) && op.flops.value() > 0;
    if (gpu_.sms && conditions.comm_sms >= *gpu_.sms)
        throw InputError(fmt::format("plan.comm_sms = {} leaves none of the {} SMs of {} to compute; try 20",
                                     conditions.comm_sms, *gpu_.sms, gpu_.key));
    auto rate = matrix ? matrix_rate(op, words) : class_rate(op, quantity(op), words);
    if (strict_ && rate.quality == Quality::class_rate && matrix)
        throw MissingCalibration(
            fmt::format("{} {} ({}) has no measured row for {} (--strict refuses class rates); import or "
                        "measure it, or drop --strict",
                        name(op.kind), op.name, shape_words(op), gpu_.key));
    double seconds = 0;
    if (matrix) {
        double const contention = contention_.matrix;
        double share = 1;
        if (conditions.comm_sms > 0 && gpu_.sms) share = double(*gpu_.sms - conditions.comm_sms) / *gpu_.sms;
        double const rated = op.flops.value() / (rate.value * share * contention * what_if_.flops);
        double const floor = op.bytes.value() / (gpu_.memory_bandwidth.value() * what_if_.hbm);
        seconds = std::max(rated, floor);
        if (words)
            rate.words += fmt::format("\nx {:.3f} of the SMs x {:.3f} in a training step ({} kernels timed both ways)",
                                      share, contention, contention_.matrix_pairs);
        rate.spread = hypot_spread(rate.spread, contention_.matrix_spread);
    } else {
        seconds = op.bytes.value() / (rate.value * what_if_.hbm);
    }
    double const scale = what_if_.by_class[static_cast<std::size_t>(class_of(op))];
    double const launch = what_if_.by_class[static_cast<std::size_t>(OpClass::launch)];
    cost.time = Seconds{seconds * scale + gap * launch};
    cost.spread = rate.spread;
    cost.quality = rate.quality;
    cost.source = rate.source;
    if (words)
        cost.derivation = fmt::format("{}\n{:.4g} GFLOP, {:.4g} MB; + {} x {:.3g} us launch gap = {:.4g} us",
                                      rate.words, op.flops.value() / 1e9, op.bytes.value() / 1e6, op.kernels,
                                      gap_.value() * 1e6, cost.time.value() * 1e6);
    return cost;
}

Cost CostModel::cost(Op const& op, Conditions conditions) const { return price(op, conditions, false); }
Cost CostModel::explain(Op const& op, Conditions conditions) const { return price(op, conditions, true); }

} // namespace trainfare
