// SPDX-License-Identifier: Apache-2.0
#include "scenarios/run.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "calibrate/collectives.hpp"
#include "model/topology.hpp"
#include "scenarios/estimate.hpp"
#include "scenarios/pair.hpp"
#include "scenarios/sources.hpp"
#include "scenarios/spreads.hpp"
#include "sim/traffic.hpp"

namespace trainfare {
namespace {

/// A folded step of a regular cluster runs about 0.1 million; this many take minutes.
constexpr double max_flow_runs = 2e6;

struct Simulated {
    Seconds step;
    StepCauses causes;
    int group_classes = 0, groups = 0;
    std::shared_ptr<Timeline const> timeline;
};

double flow_runs(Folded const& folded)
{
    double runs = 0;
    auto const& problem = *folded.problem;
    std::vector<std::array<double, static_cast<std::size_t>(Channel::count)>> by_program(problem.programs.size());
    for (std::size_t p = 0; p < by_program.size(); ++p)
        for (auto const& task : problem.programs[p].tasks)
            if (task.kind == TaskKind::communicate) by_program[p][static_cast<std::size_t>(task.channel)] += 1;
    for (auto const& flow : folded.flows)
        runs += by_program[problem.groups[folded.representative[flow.group]].program]
                          [static_cast<std::size_t>(flow.channel)];
    return runs;
}

Simulated simulate_step(StepModel const& model, Cluster const& cluster, RunOptions const& options)
{
    auto timeline = std::make_shared<Timeline>();
    timeline->iteration = build_iteration(model, cluster);
    auto const& problem = timeline->iteration.problem;
    bool const full = options.fidelity == Fidelity::full;
    timeline->folded = full ? unfolded(problem) : fold(problem);
    if (double const runs = flow_runs(timeline->folded); runs > max_flow_runs)
        throw InputError(
            fmt::format("the simulation would run {:.3g} million flows in {} classes of GPUs ({}); try {}", runs / 1e6,
                        timeline->folded.representative.size(),
                        full ? "every flow of every GPU: hours"
                             : "groups that fill NVLink domains or leaves unequally "
                               "cannot be folded, many micro-batches take long",
                        full ? "--fidelity folded, which gives the same times, or a smaller cluster or batch"
                             : "--fidelity closed, or a cluster.domain and plan.ep of which one divides the other"));
    if (auto const broken = check_fold(timeline->folded); !broken.empty())
        throw InternalError("the fold is not exact: " + broken.front());
    timeline->run = simulate(timeline->folded);

    Simulated result;
    result.step = timeline->run.makespan;
    result.causes = split_by_cause(timeline->iteration, timeline->folded, timeline->run);
    result.group_classes = static_cast<int>(timeline->folded.representative.size());
    result.groups = static_cast<int>(problem.groups.size());
    if (options.keep_timeline) result.timeline = timeline;
    return result;
}

/// Split of a step that was not simulated: what the closed form knows.
StepCauses closed_causes(StepModel const& model, ClosedForm const& closed)
{
    StepCauses causes;
    auto const set = [&](Cause c, double v) { causes.mean[static_cast<std::size_t>(c)] = v; };
    double optimizer = 0;
    SlotBreakdown& slots = causes.slots;
    double const n = model.schedule.ranks;
    for (int r = 0; r < model.schedule.ranks; ++r) {
        auto const& times = closed.slots[static_cast<std::size_t>(r)];
        for (auto const& slot : model.schedule.slots[static_cast<std::size_t>(r)]) switch (slot.kind) {
            case SlotKind::forward: slots.forward += times.forward / n; break;
            case SlotKind::backward: slots.backward += times.backward / n; break;
            case SlotKind::backward_input: slots.backward += times.backward_input / n; break;
            case SlotKind::backward_weight: slots.weight += times.weight / n; break;
            case SlotKind::overlapped: slots.overlapped += times.overlapped / n; break;
            }
        optimizer += model.stages[static_cast<std::size_t>(r)].optimizer_seconds / n;
    }
    double const busy = slots.forward + slots.backward + slots.weight + slots.overlapped;
    slots.optimizer = closed.tail.value();
    slots.bubble = std::max(0.0, closed.pipeline.value() - busy);
    set(Cause::compute, busy), set(Cause::bubble, slots.bubble), set(Cause::optimizer, optimizer);
    set(Cause::data_parallel, std::max(0.0, closed.tail.value() - optimizer));
    return causes;
}

/// What published GPU-hours of another accelerator are multiplied with: step times of the same plan on both.
std::optional<double> published_scale(Scenario const& s, StepInputs const& in, Seconds closed)
{
    for (auto const& phase : s.run.phases) {
        if (!phase.published_gpu_hours || phase.published_on.empty() || phase.published_on == s.cluster.gpu.key)
            continue;
        StepInputs other = in;
        other.cluster.gpu = in.tables->accelerator(phase.published_on);
        other.cluster.scale_up = scale_up_rate(*in.tables, other.cluster.gpu).payload;
        if (other.cluster.gpu.nic) other.cluster.nic = nic_rate(*in.tables, *other.cluster.gpu.nic).payload;
        return closed / closed_step(other);
    }
    return std::nullopt;
}

std::vector<std::string> topology_words(Cluster const& c)
{
    std::vector<std::string> lines;
    if (c.gpus > 1) {
        auto const near = widest_path(c, 0, 1);
        lines.push_back(
            fmt::format("GPU 0 to GPU 1: {:.4g} GB/s, limited by {}", near.bandwidth.value() / 1e9, near.limit));
    }
    if (c.gpus > c.domain) {
        auto const far = widest_path(c, 0, c.gpus - 1);
        lines.push_back(fmt::format("GPU 0 to GPU {}: {:.4g} GB/s, limited by {}", c.gpus - 1,
                                    far.bandwidth.value() / 1e9, far.limit));
        auto const cut = bisection(c);
        std::string links;
        for (auto const& link : cut.links) links += (links.empty() ? "" : ", ") + link;
        lines.push_back(fmt::format("first half of the GPUs to the second: {:.4g} TB/s, cut at {}",
                                    cut.bandwidth.value() / 1e12, links));
    }
    return lines;
}

/// Which level of the network sets the pace of one expert exchange, from the bytes each level carries.
std::vector<std::string> exchange_words(StepInputs const& in, StepModel const& model)
{
    if (in.plan.ep * in.plan.etp == 1 || model.routing.count == 0) return {};
    auto const spread = expert_spread(in.plan, in.cluster, model.routing);
    double const copy = static_cast<double>(in.plan.micro_batch) * in.plan.seq_len / in.plan.cp / in.plan.tp *
                        in.model->hidden * size_of(in.plan.combine_dtype).value();
    TwoLevel const levels{ranks_inside(in.plan.ep * in.plan.etp, in.cluster.domain),
                          spread.domains,
                          in.cluster.scale_up,
                          in.cluster.nic,
                          {},
                          {}};
    auto const volume = expert_exchange(Bytes{copy}, {spread.domain_copies, spread.gpu_copies}, levels);
    double const nic = volume.fabric / in.cluster.nic / units::ms,
                 nvlink = volume.inside / in.cluster.scale_up / units::ms;
    if (spread.domains == 1)
        return {
            fmt::format("one combine of {:.0f} MB a GPU stays inside an NVLink domain: {:.2f} ms", copy / 1e6, nvlink)};
    return {fmt::format("one combine: a token reaches {:.2f} of {} nodes and {:.2f} GPUs, so a GPU sends {:.0f} MB "
                        "over its NIC ({:.2f} ms) and "
                        "{:.0f} MB over NVLink ({:.2f} ms): {} sets the pace",
                        spread.domain_copies, spread.domains, spread.gpu_copies, volume.fabric.value() / 1e6, nic,
                        volume.inside.value() / 1e6, nvlink, nic > nvlink ? "the NIC" : "NVLink")};
}

std::string limit_words(StepCauses const& causes, std::vector<Slope> const& slopes)
{
    double total = 0;
    for (double const t : causes.mean) total += t;
    std::size_t exposed = 1;
    for (std::size_t i = 1; i < causes.mean.size(); ++i)
        if (causes.mean[i] > causes.mean[exposed]) exposed = i;
    double const computing = causes.mean[static_cast<std::size_t>(Cause::compute)] / total;
    auto const best = std::min_element(slopes.begin(), slopes.end(),
                                       [](auto const& a, auto const& b) { return a.step_change < b.step_change; });
    std::string text =
        fmt::format("{} ({:.0f} % of the step), then {} ({:.0f} %)", computing > 0.5 ? "compute" : "waiting",
                    100 * (computing > 0.5 ? computing : 1 - computing), name(static_cast<Cause>(exposed)),
                    100 * causes.mean[exposed] / total);
    if (best != slopes.end() && best->step_change < -5e-4)
        text += fmt::format("; 10 % more {} would bring {:.1f} %", best->resource, -100 * best->step_change);
    return text;
}

std::string parting_words(Seconds closed, Seconds simulated)
{
    double const difference = closed / simulated - 1;
    std::string const amount =
        fmt::format("closed form {:.4g} s, {:+.1f} % against the simulation", closed.value(), 100 * difference);
    if (std::abs(difference) <= 0.03) return amount + ": nothing that matters contends";
    return amount + (difference < 0
                         ? ": exchanges wait for each other on shared links, which only the simulation sees"
                         : ": the simulation overlaps the ends of neighbouring slots, which the closed form adds up");
}

} // namespace

std::string_view name(Fidelity f)
{
    switch (f) {
    case Fidelity::closed: return "closed";
    case Fidelity::folded: return "folded";
    case Fidelity::full: return "full";
    }
    return "";
}

std::optional<Fidelity> fidelity_from(std::string_view text)
{
    for (auto const f : {Fidelity::closed, Fidelity::folded, Fidelity::full})
        if (text == name(f)) return f;
    return std::nullopt;
}

Result run(Scenario const& scenario, RunOptions const& options)
{
    auto const tables = scenario_tables(scenario);
    Result r;
    r.scenario = scenario;
    r.fidelity = options.fidelity;
    if (options.fidelity == Fidelity::closed &&
        (!scenario.cluster.faults.empty() || scenario.cluster.oversubscription > 1))
        r.warnings.push_back(
            "the closed form knows neither faults nor oversubscription: use --fidelity folded for them");
    else if (!scenario.cluster.faults.empty())
        r.warnings.push_back("interval, slopes and batch ramp are those of the cluster without its faults");
    r.parameters = count_parameters(scenario.model);
    std::optional<double> card;
    if (scenario.card_active_parameters > 0) card = scenario.card_active_parameters;
    r.flops = flops_per_token(scenario.model, scenario.plan.seq_len, card);

    auto const inputs = step_inputs(scenario, tables, options.strict);
    auto const model = step_model(inputs, options.fidelity != Fidelity::closed);
    r.memory = memory_per_stage(scenario.model, scenario.plan, model.schedule, scenario.cluster.gpu.memory);
    r.fits = r.memory.fits();

    auto const closed = closed_form(model);
    r.closed_form_step = closed.step;
    Seconds step = closed.step;
    if (options.fidelity == Fidelity::closed) {
        r.causes = closed_causes(model, closed);
        r.closed_form_words = "closed form only: exchanges of an idle network, counted into the slots they lengthen";
    } else {
        auto const simulated = simulate_step(model, scenario.cluster, options);
        step = simulated.step;
        r.causes = simulated.causes;
        r.group_classes = simulated.group_classes, r.groups = simulated.groups;
        r.timeline = simulated.timeline;
        r.closed_form_words = parting_words(closed.step, step);
    }

    if (options.intervals) r.spreads = step_spreads(scenario, inputs, closed.step);
    if (options.slopes) r.slopes = step_slopes(inputs, closed.step, r.memory);
    r.projection = project(interval_around(step.value(), r.spreads), scenario.plan.global_batch, scenario.plan.seq_len,
                           scenario.run, scenario.price, scenario.cluster, step_at_batch(model),
                           published_scale(scenario, inputs, closed.step));
    r.pair = overlapped_pair(inputs, model);
    r.sources = used_sources(inputs);
    r.guessed = guessed_ops(inputs);
    r.topology = exchange_words(inputs, model);
    for (auto& line : topology_words(scenario.cluster)) r.topology.push_back(std::move(line));
    r.limited_by = limit_words(r.causes, r.slopes);
    double const tokens = static_cast<double>(scenario.plan.global_batch) * scenario.plan.seq_len;
    if (scenario.cluster.gpu.bf16)
        r.mfu_causal =
            r.flops.causal * tokens / (step.value() * scenario.cluster.gpus * scenario.cluster.gpu.bf16->value());
    return r;
}

} // namespace trainfare
