// SPDX-License-Identifier: Apache-2.0
#include "scenarios/estimate.hpp"

#include <algorithm>

#include "sim/traffic.hpp"

namespace trainfare {
namespace {

/// The nearest number of micro-batches to half of @p full that the schedule accepts.
int half_way(Plan const& plan, int full)
{
    int const step = plan.schedule == ScheduleKind::interleaved ? plan.pp : 2;
    int const least =
        plan.schedule == ScheduleKind::dualpipe || plan.schedule == ScheduleKind::dualpipe_v ? 2 * plan.pp : plan.pp;
    int const half = std::max(full / 2, least) / step * step;
    return half >= full ? 0 : half;
}

} // namespace

Tables scenario_tables(Scenario const& s)
{
    std::vector<std::string> measured;
    if (!s.measured.empty()) measured.push_back(s.measured);
    return load_tables(s.tables.empty() ? default_tables_folder() : s.tables, measured);
}

StepInputs step_inputs(Scenario const& s, Tables const& tables, bool strict)
{
    return {&s.model, &tables, s.plan, s.cluster, s.assumptions.load_cv, 1, strict, {}};
}

StepModel step_model(StepInputs const& in, bool simulate_skew)
{
    CostModel const costs{*in.tables, in.cluster.gpu, in.strict, in.what_if};
    IterationOptions options;
    options.load_cv = in.load_cv;
    if (in.plan.overlap_ep) options.exchange_contention = 1 + (costs.contention().exchange - 1) * in.contention_scale;
    for (auto const& layer : in.model->layers)
        if (layer.is_moe()) {
            options.exchange_skew = exchange_skew(in.plan, in.cluster, *layer.ffn.experts, in.load_cv, simulate_skew);
            break;
        }
    return price_step(*in.model, in.plan, in.cluster, costs, options);
}

Seconds closed_step(StepInputs const& in) { return closed_form(step_model(in)).step; }

std::function<double(int batch)> step_at_batch(StepModel const& step)
{
    Plan const& plan = step.plan;
    int const full = plan.micro_batches(), half = half_way(plan, full);
    double slope = 1.0 / full, offset = 0; // no second point: proportional
    if (half > 0) {
        StepModel other = step;
        other.schedule = make_schedule(plan.schedule, plan.pp, plan.vpp, half, plan.overlap_ep);
        double const at_full = closed_form(step).step.value(), at_half = closed_form(other).step.value();
        slope = (1 - at_half / at_full) / (full - half);
        offset = 1 - slope * full;
    }
    double const per_micro_batch = static_cast<double>(plan.dp) * plan.micro_batch;
    return [=](int batch) { return offset + slope * batch / per_micro_batch; };
}

} // namespace trainfare
