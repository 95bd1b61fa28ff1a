// SPDX-License-Identifier: Apache-2.0
//
// Walks through the step of every group class, from 0 to the makespan, and gives each moment to exactly one cause; the
// work is linear in tasks. Why a wait was a wait is wait_causes.cpp's business.
#include "sim/causes.hpp"

#include <algorithm>

#include <fmt/core.h>

#include "model/error.hpp"
#include "sim/wait_causes.hpp"

namespace trainfare {

namespace {

void check_shapes(StepView const& view)
{
    auto const& [iteration, folded, run] = view;
    if (run.classes.size() != folded.representative.size())
        throw InternalError{fmt::format("causes: {} group classes were simulated, the problem has {}",
                                        run.classes.size(), folded.representative.size())};
    for (std::uint32_t c = 0; c < run.classes.size(); ++c) {
        auto const tasks = program_of(folded, c).tasks.size();
        auto const program = view.group(c).program;
        if (run.classes[c].start.size() != tasks || run.classes[c].end.size() != tasks ||
            program >= iteration.labels.size() || iteration.labels[program].size() != tasks)
            throw InternalError{
                fmt::format("causes: times or labels of group class {} do not match its {} tasks", c, tasks)};
    }
}

double* slot_part(SlotBreakdown& slots, SlotKind kind)
{
    switch (kind) {
    case SlotKind::forward: return &slots.forward;
    case SlotKind::backward:
    case SlotKind::backward_input: return &slots.backward;
    case SlotKind::backward_weight: return &slots.weight;
    case SlotKind::overlapped: return &slots.overlapped;
    }
    throw InternalError{"causes: unknown kind of slot"};
}

struct Span {
    double begin = 0, end = 0;
    double before = 0; // compute time of all earlier spans
};

/// Compute time before @p time.
double computed_until(std::vector<Span> const& spans, double time)
{
    auto const after =
        std::upper_bound(spans.begin(), spans.end(), time, [](double t, Span const& span) { return t < span.begin; });
    if (after == spans.begin()) return 0;
    auto const& span = *std::prev(after);
    return span.before + std::min(time, span.end) - span.begin;
}

/// One group class from 0 to the makespan.
class ClassSplit {
public:
    ClassSplit(StepView const& view, std::uint32_t group_class) : view_{view}, class_{group_class} {}

    CauseSeconds causes{};
    SlotBreakdown slots;
    double exchange_busy = 0, exchange_hidden = 0;

    void compute_stream()
    {
        for (auto const task : compute_tasks()) {
            TaskRef const ref{class_, task};
            auto const& label = view_.label(ref);
            double const begin = std::max(now_, times().start[task]);
            double const end = std::max(begin, times().end[task]);
            auto const blocker = latest_dependency(view_.folded, view_.run, ref);
            wait(split_wait(view_, class_, blocker, false, now_, begin), label);
            compute(end - begin, label);
            spans_.push_back({begin, end, computed_});
            computed_ += end - begin;
            now_ = end;
        }
    }

    /// From the last compute task to the end of the step: first what the group itself still does, then waiting for the
    /// rest.
    void tail(std::optional<TaskRef> last_of_all)
    {
        auto const& ends = times().end;
        double const makespan = view_.run.makespan.value();
        TaskLabel const after_pipeline;
        if (!ends.empty()) {
            auto const last = std::max_element(ends.begin(), ends.end());
            double const done = std::clamp(*last, now_, std::max(now_, makespan));
            TaskRef const ref{class_, static_cast<std::uint32_t>(last - ends.begin())};
            wait(split_wait(view_, class_, ref, false, now_, done), after_pipeline);
            now_ = done;
        }
        wait(split_wait(view_, class_, last_of_all, true, now_, makespan), after_pipeline);
    }

    void exchanges()
    {
        auto const& tasks = program_of(view_.folded, class_).tasks;
        for (std::uint32_t t = 0; t < tasks.size(); ++t) {
            auto const activity = view_.label({class_, t}).activity;
            if (tasks[t].kind != TaskKind::communicate) continue;
            if (activity != Activity::dispatch && activity != Activity::combine) continue;
            exchange_busy += times().end[t] - times().start[t];
            exchange_hidden += computed_until(spans_, times().end[t]) - computed_until(spans_, times().start[t]);
        }
    }

private:
    [[nodiscard]] TaskTimes const& times() const { return view_.run.classes[class_]; }

    /// In the order in which they ran: a builder may append, say, all weight gradients after the pipeline's tasks.
    [[nodiscard]] std::vector<std::uint32_t> compute_tasks() const
    {
        auto const& tasks = program_of(view_.folded, class_).tasks;
        std::vector<std::uint32_t> out;
        for (std::uint32_t t = 0; t < tasks.size(); ++t)
            if (tasks[t].kind == TaskKind::compute) out.push_back(t);
        auto const earlier = [this](std::uint32_t a, std::uint32_t b) { return times().start[a] < times().start[b]; };
        if (!std::is_sorted(out.begin(), out.end(), earlier)) std::stable_sort(out.begin(), out.end(), earlier);
        return out;
    }

    /// Waits inside a slot belong to the slot. Exposed exchange of gradients after the pipeline, or of updated weights
    /// before it, counts with the optimizer.
    void wait(CauseSeconds waits, TaskLabel const& until)
    {
        double total = 0;
        for (std::size_t i = 0; i < waits.size(); ++i) {
            causes[i] += waits[i];
            total += waits[i];
        }
        if (until.slot >= 0 && until.slot == slot_) {
            *slot_part(slots, until.slot_kind) += total;
            return;
        }
        double const exchange = part(waits, Cause::data_parallel);
        slots.optimizer += exchange;
        slots.bubble += total - exchange;
    }

    void compute(double time, TaskLabel const& label)
    {
        double const excess = time * view_.excess(class_);
        part(causes, label.activity == Activity::optimizer ? Cause::optimizer : Cause::compute) += time - excess;
        part(causes, Cause::straggler) += excess;
        (label.slot >= 0 ? *slot_part(slots, label.slot_kind) : slots.optimizer) += time;
        slot_ = label.slot;
    }

    StepView const& view_;
    std::uint32_t class_;
    double now_ = 0;
    std::int32_t slot_ = -1; // that computed last
    std::vector<Span> spans_;
    double computed_ = 0;
};

void add(SlotBreakdown& sum, SlotBreakdown const& x, double weight)
{
    sum.forward += weight * x.forward;
    sum.bubble += weight * x.bubble;
    sum.backward += weight * x.backward;
    sum.weight += weight * x.weight;
    sum.overlapped += weight * x.overlapped;
    sum.optimizer += weight * x.optimizer;
}

/// Compute time of one run of a program at full speed, by class of operation.
ClassSeconds compute_of(Iteration const& iteration, std::uint32_t program)
{
    ClassSeconds sum{};
    auto const& tasks = iteration.problem.programs[program].tasks;
    for (std::size_t t = 0; t < tasks.size(); ++t) {
        auto const& label = iteration.labels[program][t];
        if (tasks[t].kind != TaskKind::compute) continue;
        if (label.activity == Activity::optimizer) {
            sum[static_cast<std::size_t>(OpClass::optimizer)] += tasks[t].seconds;
            continue;
        }
        if (label.segment >= iteration.segments.size())
            throw InternalError{fmt::format("causes: task {} of program {} has no priced segment", t, program)};
        for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += iteration.segments[label.segment][k];
    }
    return sum;
}

} // namespace

std::string_view name(Cause cause)
{
    switch (cause) {
    case Cause::compute: return "compute";
    case Cause::dispatch: return "dispatch";
    case Cause::combine: return "combine";
    case Cause::pipeline_send: return "pipeline_send";
    case Cause::data_parallel: return "data_parallel";
    case Cause::bubble: return "bubble";
    case Cause::optimizer: return "optimizer";
    case Cause::straggler: return "straggler";
    case Cause::count: break;
    }
    throw InternalError{"causes: no such cause"};
}

std::string_view description(Cause cause)
{
    switch (cause) {
    case Cause::compute: return "forward and backward computation";
    case Cause::dispatch: return "exposed: tokens on their way to their experts";
    case Cause::combine: return "exposed: experts' results on their way back";
    case Cause::pipeline_send: return "exposed: activations and gradients between pipeline ranks";
    case Cause::data_parallel: return "exposed: gradients and weights between data-parallel ranks";
    case Cause::bubble: return "waiting for other pipeline ranks to compute";
    case Cause::optimizer: return "weight update";
    case Cause::straggler: return "computation that takes longer, here or elsewhere, because a GPU is slow";
    case Cause::count: break;
    }
    throw InternalError{"causes: no such cause"};
}

StepCauses split_by_cause(Iteration const& iteration, Folded const& folded, SimulationRun const& run)
{
    StepView const view{iteration, folded, run};
    check_shapes(view);

    auto const path = critical_path(folded, run);
    std::optional<TaskRef> const last_of_all = path.empty() ? std::nullopt : std::optional{path.back()};
    double groups = 0;
    for (auto const multiplicity : folded.multiplicity) groups += multiplicity;

    StepCauses out;
    std::vector<double> program_weight(iteration.problem.programs.size()); // groups that run it, times their slowdown
    for (std::uint32_t c = 0; c < run.classes.size(); ++c) {
        ClassSplit split{view, c};
        split.compute_stream();
        split.tail(last_of_all);
        split.exchanges();

        double const weight = folded.multiplicity[c] / groups;
        for (std::size_t i = 0; i < split.causes.size(); ++i) out.mean[i] += weight * split.causes[i];
        add(out.slots, split.slots, weight);
        out.exchange_busy += weight * split.exchange_busy;
        out.exchange_hidden += weight * split.exchange_hidden;
        program_weight[view.group(c).program] += weight * view.group(c).slowdown;
        out.by_class.push_back(split.causes);
    }
    for (std::uint32_t p = 0; p < program_weight.size(); ++p) {
        if (program_weight[p] == 0) continue; // nobody runs it
        auto const seconds_of = compute_of(iteration, p);
        for (std::size_t k = 0; k < seconds_of.size(); ++k) out.compute_by_op[k] += program_weight[p] * seconds_of[k];
    }
    return out;
}

} // namespace trainfare
