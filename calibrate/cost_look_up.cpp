// SPDX-License-Identifier: Apache-2.0
//
// Which rows say what an operation costs: its own shape, else the nearest shapes, else a class rate. Measured rows go before
// published ones, the part's own before those of its sibling on the same die.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

#include "calibrate/cost.hpp"
#include "calibrate/cost_words.hpp"
#include "calibrate/curve.hpp"

namespace trainfare {
namespace {

// Relative half-widths of 90 % intervals where fit.csv knows no better.
constexpr double interpolated_spread = 0.12;
constexpr double extrapolated_spread = 0.25;
constexpr double donor_spread = 0.05; // same die, other part (calibrate/tables/README.md, same_die_compute)

double log_ratio(double a, double b) { return std::log(a / b); }

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

/// Rows of just this pass, where there is one; else all that may stand in for it.
std::vector<OpRow const*> prefer_pass(std::vector<OpRow const*> rows, Pass wanted)
{
    if (wanted == Pass::recompute) wanted = Pass::forward;
    if (std::any_of(rows.begin(), rows.end(), [&](OpRow const* row) { return row->pass == wanted; }))
        std::erase_if(rows, [&](OpRow const* row) { return row->pass != wanted; });
    return rows;
}

/// Rows of the part itself take the place of a donor's of the same size.
void prefer_own(std::vector<OpRow const*>& rows, std::string const& own)
{
    auto const all = rows;
    std::erase_if(rows, [&](OpRow const* donated) {
        return donated->accelerator != own && std::any_of(all.begin(), all.end(), [&](OpRow const* row) {
                   return row->accelerator == own && row->m == donated->m && row->bytes == donated->bytes;
               });
    });
}

/// "ops.csv:1249": the folder differs from machine to machine, the table does not.
std::string short_place(SourcePlace place)
{
    place.file = place.file.substr(place.file.find_last_of('/') + 1);
    return place.text();
}

} // namespace

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

/// Half-width for a rate that no row states: what leaving out known rows showed (fit.csv), else what is usual.
double CostModel::guess_spread(Found const& found) const
{
    if (found.quality == Quality::exact) return 0;
    double const usual = found.quality == Quality::interpolated ? interpolated_spread : extrapolated_spread;
    for (auto const& fit : tables_->fits) {
        if (fit.accelerator != found.row->accelerator || fit.kind != found.row->kind || fit.pass != found.row->pass ||
            fit.precision != found.row->precision)
            continue;
        auto const seen = found.other_shape ? fit.shape_p90 : fit.size_p90;
        if (seen) return found.quality == Quality::interpolated ? *seen : std::max(*seen, usual);
    }
    return usual;
}

CostModel::Rate CostModel::finish(Found const& found, std::string const& how, bool words) const
{
    auto const& row = *found.row;
    Rate result;
    result.value = found.rate / found.undo;
    result.spread = std::max(found.spread, guess_spread(found));
    result.quality = found.quality;
    result.source = row.source;
    bool const donated = row.accelerator != gpu_.key;
    if (donated) result.spread = hypot_spread(result.spread, donor_spread);
    if (words)
        result.words = fmt::format("{}: {:.4g} T{}/s ({}, {}{})", how, result.value / 1e12,
                                   is_matrix(row.kind) ? "FLOP" : "B", name(found.quality), short_place(row.place),
                                   donated ? "; row of " + row.accelerator + ", same die" : "");
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
    auto const pass = op.pass == Pass::recompute ? Pass::forward : op.pass; // unlike a product's, the kernels differ
    std::vector<OpRow const*> fitting;
    for (auto const* row : rows_)
        if (row->kind == op.kind && serves(row->precision, op.precision) && row->pass == pass && row->causal &&
            row->seq > 0 && row->qk_dim == op.qk_dim && row->v_dim == op.v_dim)
            fitting.push_back(row);
    // Same head widths and mask; nearest in sequence length, then in heads x batch (how full the chip is).
    double best = std::numeric_limits<double>::infinity();
    std::vector<OpRow const*> rows;
    for (auto const* row : prefer_measured(fitting)) {
        double const parallel = double(std::max(row->batch, 1L)) * std::max(row->heads, 1);
        double const d = std::abs(log_ratio(double(row->seq), double(op.seq))) +
                         0.5 * std::abs(log_ratio(parallel, double(op.batch) * op.heads)) +
                         (row->comm_sms > 0 ? 1e-6 : 0);
        if (d < best - 1e-9) best = d, rows.clear();
        if (d < best + 1e-9) rows.push_back(row);
    }
    if (rows.empty()) return class_rate(op, rate_quantity(op), words);
    for (auto const* row : rows) // a curve over m has no meaning here: rows of one shape differ in nothing but the run
        if (row->m != rows.front()->m) return class_rate(op, rate_quantity(op), words);
    prefer_own(rows, gpu_.key);
    auto const merged = product_curve(rows).front();
    best +=
        std::abs(log_ratio(2 * op.keys, double(op.seq))); // a window, or chosen keys: rows are of the whole triangle
    Found found{std::exp(merged.log_rate), merged.spread, Quality::exact, merged.row, false, 1};
    found.quality = best < 1e-3            ? Quality::exact
                    : best < std::log(4.0) ? Quality::interpolated
                                           : Quality::extrapolated;
    found.undo = beside_factor(*merged.row);
    return finish(found,
                  fmt::format("timed {} for {}", rows.front()->comm_sms > 0 ? "beside communication" : "alone",
                              shape_words(op)),
                  words);
}

CostModel::Rate CostModel::matrix_rate(Op const& op, bool words) const
{
    std::vector<OpRow const*> alone, beside, others;
    for (auto const* row : rows_) {
        if (row->kind != op.kind || !serves(row->precision, op.precision) || !pass_serves(row->pass, op.pass)) continue;
        if (row->m == 0 || row->n == 0) continue;
        if (same_shape(*row, op)) (row->comm_sms > 0 ? beside : alone).push_back(row);
        if (row->comm_sms == 0) others.push_back(row);
    }
    for (auto* rows : {&alone, &beside}) { // rows timed beside communication serve where nothing was timed alone
        if (rows->empty()) continue;
        *rows = prefer_pass(prefer_measured(*rows), op.pass);
        prefer_own(*rows, gpu_.key);
        auto const r = read(product_curve(*rows), double(op.m));
        return finish({r.rate, r.spread, r.quality, r.row, false, beside_factor(*r.row)},
                      fmt::format("timed {} {}", rows == &alone ? "alone" : "beside communication", shape_words(op)),
                      words);
    }
    if (others.empty()) return class_rate(op, rate_quantity(op), words);

    // Nearest shapes by distance in log(n), log(k), log(groups): efficiency of big products varies slowly with shape.
    std::map<std::tuple<long, long, int>, std::vector<OpRow const*>> shapes;
    for (auto const* row : prefer_pass(prefer_measured(others), op.pass)) shapes[{row->n, row->k, row->groups}].push_back(row);
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
        sum += w * std::log(read(product_curve(*rows), double(op.m)).rate), weight += w;
    }
    auto const quality = near.front().first < std::log(4.0) ? Quality::interpolated : Quality::extrapolated;
    auto const* first = read(product_curve(*near.front().second), double(op.m)).row;
    return finish(
        {std::exp(sum / weight), 0, quality, first, true, 1},
        fmt::format("nearest {} shapes to {} (first n={} k={})", near.size(), shape_words(op), first->n, first->k),
        words);
}

CostModel::Rate CostModel::memory_rate(Op const& op, bool words) const
{
    auto const pass = op.pass == Pass::recompute ? Pass::forward : op.pass;
    std::vector<OpRow const*> rows, any_recipe;
    bool whole_attention = false; // a backward that was measured from outside holds its own sums and conversions
    for (auto const* row : rows_) {
        if (row->kind != op.kind || row->pass != pass || row->comm_sms > 0) continue;
        if (op.kind == OpKind::attention)
            whole_attention = whole_attention || row->measured;
        else if (row->bytes) {
            if (row->precision == op.precision) rows.push_back(row);
            if (row->precision == Precision::bf16) any_recipe.push_back(row);
        }
    }
    if (rows.empty()) rows = any_recipe; // kernels that the recipe does not change are timed once
    if (whole_attention) {
        Rate none;
        none.counted = true, none.quality = Quality::exact;
        if (words) none.words = "part of the measured backward of attention";
        return none;
    }
    if (rows.empty()) return class_rate(op, rate_quantity(op), words);
    rows = prefer_measured(rows);
    prefer_own(rows, gpu_.key);
    auto const r = read(memory_curve(rows), op.bytes.value());
    auto rate = finish({r.rate, r.spread, r.quality, r.row, false, 1},
                       fmt::format("timed alone for {:.4g} MB", op.bytes.value() / 1e6), words);
    rate.measured = true;
    return rate;
}

CostModel::Rate CostModel::look_up(Op const& op, bool words) const
{
    if (op.flops.value() == 0 || !is_matrix(op.kind)) return memory_rate(op, words);
    return op.kind == OpKind::attention ? attention_rate(op, words) : matrix_rate(op, words);
}

CostModel::Alone CostModel::alone(Op const& op) const
{
    auto const rate = look_up(op, false);
    return {rate.value, rate.quality};
}

} // namespace trainfare
