// SPDX-License-Identifier: Apache-2.0
#include "scenarios/spreads.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "calibrate/collectives.hpp"
#include "model/ops.hpp"
#include "scenarios/sources.hpp"

namespace trainfare {
namespace {

double relative(Seconds changed, Seconds base) { return changed / base - 1; }

/// Half the distance between the step with an input raised and lowered by its spread.
template <class Change>
double half_effect(StepInputs const& in, Seconds base, double spread, Change change)
{
    StepInputs up = in, down = in;
    change(up, 1 + spread), change(down, 1 / (1 + spread));
    return std::abs(relative(closed_step(up), base) - relative(closed_step(down), base)) / 2;
}

std::string words(OpClass c)
{
    switch (c) {
    case OpClass::expert_gemm: return "expert GEMM rate";
    case OpClass::wgrad: return "weight-gradient GEMM rate";
    case OpClass::dense_gemm: return "dense GEMM rate";
    case OpClass::attention_backward: return "attention backward rate";
    case OpClass::attention_forward: return "attention forward rate";
    case OpClass::cast: return "FP8 casts and transposes";
    case OpClass::permute: return "permute and unpermute";
    case OpClass::elementwise: return "small element-wise kernels";
    case OpClass::norm: return "norms";
    case OpClass::activation: return "SwiGLU";
    case OpClass::rope: return "RoPE";
    case OpClass::router: return "router GEMM";
    case OpClass::head: return "LM head GEMM rate";
    case OpClass::optimizer: return "optimizer kernel";
    default: return std::string{name(c)};
    }
}

} // namespace

std::vector<SpreadPart> step_spreads(Scenario const& s, StepInputs const& in, Seconds base)
{
    std::vector<SpreadPart> parts;
    auto const add = [&](std::string what, double spread, std::string source, auto change) {
        double const effect = spread > 0 ? half_effect(in, base, spread, change) : 0;
        parts.push_back({std::move(what), spread, effect, std::move(source)});
    };

    for (auto const& use : class_uses(in)) {
        auto const index = static_cast<std::size_t>(use.op_class);
        add(words(use.op_class), use.spread, use.source,
            [=](StepInputs& i, double f) { i.what_if.by_class[index] *= f; });
    }
    auto const& gpu = in.cluster.gpu;
    auto const nvlink = scale_up_rate(*in.tables, gpu);
    add("NVLink payload rate", nvlink.spread,
        nvlink.source < 0 ? "" : in.tables->sources[static_cast<std::size_t>(nvlink.source)].id,
        [](StepInputs& i, double f) { i.cluster.scale_up *= f; });
    auto const nic = nic_rate(*in.tables, in.cluster.nic);
    add("NIC payload rate", nic.spread,
        nic.source < 0 ? "" : in.tables->sources[static_cast<std::size_t>(nic.source)].id,
        [](StepInputs& i, double f) { i.cluster.nic *= f; });
    CostModel const costs{*in.tables, gpu};
    if (in.plan.overlap_ep && costs.contention().exchange_pairs > 0)
        add("exchanges beside compute", costs.contention().exchange_spread, "deepseek-trace over deepep-v1",
            [](StepInputs& i, double f) { i.contention_scale *= f; });
    if (in.load_cv > 0)
        add("uneven expert load", s.assumptions.load_cv_spread, s.assumptions.load_source,
            [](StepInputs& i, double f) { i.load_cv *= f; });
    if (auto const* form = in.tables->rate(gpu.key, in.plan.precision, "model.form")) // acts on the step itself
        parts.push_back({"model form (closure on the published layer trace)", form->spread, form->spread,
                         in.tables->sources[static_cast<std::size_t>(form->source)].id});
    std::stable_sort(parts.begin(), parts.end(),
                     [](auto const& a, auto const& b) { return a.step_effect > b.step_effect; });
    return parts;
}

Interval interval_around(double value, std::vector<SpreadPart> const& parts)
{
    double squares = 0;
    for (auto const& part : parts) squares += part.step_effect * part.step_effect;
    double const half = std::sqrt(squares);
    return {value, value / (1 + half), value * (1 + half)};
}

namespace {

/// The lightest recomputation that fits, from none upwards: more memory pays only where it allows a lighter one.
std::optional<Recompute> lightest_fitting(StepInputs const& in, Bytes hbm)
{
    Recompute act, norm;
    act.kind = norm.kind = RecomputeKind::selective;
    act.moe_act = norm.moe_act = norm.norm = true;
    for (auto const& candidate : {Recompute{}, act, norm, in.plan.recompute}) {
        Plan plan = in.plan;
        plan.recompute = candidate;
        auto const schedule = make_schedule(plan.schedule, plan.pp, plan.vpp, plan.micro_batches(), plan.overlap_ep);
        if (memory_per_stage(*in.model, plan, schedule, hbm).fits()) return candidate;
    }
    return std::nullopt;
}

} // namespace

std::vector<Slope> step_slopes(StepInputs const& in, Seconds base, MemoryReport const& memory)
{
    constexpr double more = 1.1;
    std::vector<Slope> slopes;
    auto const add = [&](std::string what, std::string none, auto change) {
        StepInputs changed = in;
        change(changed);
        double const effect = relative(closed_step(changed), base);
        bool const matters = std::abs(effect) > 5e-4;
        slopes.push_back({std::move(what), more - 1, effect, matters ? std::string{} : "no effect: " + none});
    };
    bool const experts = in.plan.ep * in.plan.etp > 1;
    std::string const hidden =
        experts && in.plan.overlap_ep ? "expert exchanges run under compute" : "little of the step waits for it";
    add("NVLink", hidden, [](StepInputs& i) { i.cluster.scale_up *= more; });
    add("NIC", hidden, [](StepInputs& i) { i.cluster.nic *= more; });
    add("HBM bandwidth", "nothing is bound by memory traffic", [](StepInputs& i) { i.what_if.hbm = more; });
    add("FLOP/s", "nothing is bound by arithmetic", [](StepInputs& i) { i.what_if.flops = more; });

    auto const lighter = lightest_fitting(in, in.cluster.gpu.memory * more);
    std::string const why = lighter ? "no lighter recomputation fits into it" : "the plan does not fit even so";
    if (lighter && memory.fits())
        add("memory", why, [&](StepInputs& i) { i.plan.recompute = *lighter; });
    else
        slopes.push_back({"memory", more - 1, 0, lighter ? "the plan would fit" : "no effect: " + why});
    for (auto& slope : slopes)
        if (std::abs(slope.step_change) < 1e-12) slope.step_change = 0; // rounding
    return slopes;
}

} // namespace trainfare
