// SPDX-License-Identifier: Apache-2.0
#include "calibrate/cost.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "calibrate/cost_words.hpp"

namespace trainfare {

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

std::string rate_quantity(Op const& op)
{
    if (op.kind == OpKind::attention && op.flops.value() == 0) return "attention.conversion";
    auto const pass = op.pass == Pass::recompute ? Pass::forward : op.pass;
    return fmt::format("{}.{}", name(op.kind), name(pass));
}

std::string shape_words(Op const& op)
{
    if (op.flops.value() == 0) return fmt::format("{:.4g} MB", op.bytes.value() / 1e6);
    if (op.kind == OpKind::attention)
        return fmt::format("{} x {} tokens, {} heads, {}/{} wide", op.batch, op.seq, op.heads, op.qk_dim, op.v_dim);
    if (op.groups > 1) return fmt::format("{} groups of m={} n={} k={}", op.groups, op.m, op.n, op.k);
    return fmt::format("m={} n={} k={}", op.m, op.n, op.k);
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
        if ((row.accelerator == gpu.key || row.accelerator == donor_) && !row.sm_budget && row.load_cv == 0)
            rows_.push_back(&row);
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

Cost CostModel::price(Op const& op, Conditions conditions, bool words) const
{
    Cost cost;
    if (is_communication(op.kind)) return cost; // priced from links, not from this table
    bool const matrix = is_matrix(op.kind) && op.flops.value() > 0;
    if (gpu_.sms && conditions.comm_sms >= *gpu_.sms)
        throw InputError(fmt::format("plan.comm_sms = {} leaves none of the {} SMs of {} to compute; try 20",
                                     conditions.comm_sms, *gpu_.sms, gpu_.key));
    auto rate = look_up(op, words);
    if (strict_ && rate.quality == Quality::class_rate)
        throw MissingCalibration(
            fmt::format("{} {} ({}) has no measured row for {} (--strict refuses class rates); import or "
                        "measure it, or drop --strict",
                        name(op.kind), op.name, shape_words(op), gpu_.key));
    // A measured row timed the whole operation, a class rate knows one kernel's bandwidth only.
    double const gap = rate.counted ? 0 : gap_.value() * (rate.measured ? 1 : op.kernels);
    bool const beside = conditions.comm_sms > 0 && gpu_.sms;
    double seconds = 0;
    if (matrix) {
        double const share = beside ? double(*gpu_.sms - conditions.comm_sms) / *gpu_.sms : 1;
        double const rated = op.flops.value() / (rate.value * std::pow(share, contention_.sm_exponent) *
                                                 contention_.matrix * what_if_.flops);
        double const floor = op.bytes.value() / (gpu_.memory_bandwidth.value() * what_if_.hbm);
        seconds = std::max(rated, floor);
        if (words)
            rate.words += fmt::format("\nx {:.3f} of the SMs{} x {:.3f} in a training step ({} kernels timed both ways)",
                                      share,
                                      contention_.sm_pairs > 0 ? fmt::format("^{:.3f}", contention_.sm_exponent) : "",
                                      contention_.matrix, contention_.matrix_pairs);
        rate.spread = hypot_spread(rate.spread, contention_.matrix_spread);
    } else if (!rate.counted) {
        // Class rates come from a training trace and hold their neighbours' traffic already; rows were timed alone.
        bool const slowed = beside && rate.measured;
        seconds = op.bytes.value() / (rate.value * what_if_.hbm * (slowed ? contention_.memory : 1));
        if (slowed) {
            rate.spread = hypot_spread(rate.spread, contention_.memory_spread);
            if (words)
                rate.words += fmt::format("\nx {:.3f} beside communication ({} kernels timed both ways)",
                                          contention_.memory, contention_.memory_pairs);
        }
    }
    double const scale = what_if_.by_class[static_cast<std::size_t>(class_of(op))];
    double const launch = what_if_.by_class[static_cast<std::size_t>(OpClass::launch)];
    cost.time = Seconds{seconds * scale + gap * launch};
    cost.spread = rate.spread;
    cost.quality = rate.quality;
    cost.source = rate.source;
    if (words)
        cost.derivation = fmt::format("{}\n{:.4g} GFLOP, {:.4g} MB; + {} x {:.3g} us launch gap = {:.4g} us",
                                      rate.words, op.flops.value() / 1e9, op.bytes.value() / 1e6,
                                      rate.counted ? 0 : rate.measured ? 1 : op.kernels, gap_.value() * 1e6, cost.time.value() * 1e6);
    return cost;
}

Cost CostModel::cost(Op const& op, Conditions conditions) const { return price(op, conditions, false); }
Cost CostModel::explain(Op const& op, Conditions conditions) const { return price(op, conditions, true); }

} // namespace trainfare
