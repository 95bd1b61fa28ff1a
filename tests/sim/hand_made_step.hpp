// SPDX-License-Identifier: Apache-2.0
//
// Steps small enough to time by hand: programs with fixed durations, groups that are their own classes, and a replay
// that starts every task when what it waits for is done. No network and no SimGrid.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "sim/iteration.hpp"
#include "sim/simulate.hpp"
#include "sim/task_graph.hpp"

namespace trainfare::hand_made {

inline TaskLabel label(Activity activity, SlotKind slot_kind = SlotKind::forward, int slot = -1)
{
    TaskLabel out;
    out.activity = activity;
    out.slot_kind = slot_kind;
    out.slot = slot;
    return out;
}

inline Task compute(double seconds) { return {.kind = TaskKind::compute, .seconds = seconds}; }
inline Task communicate(double seconds) { return {.kind = TaskKind::communicate, .seconds = seconds}; }
inline Task join() { return {.kind = TaskKind::join}; }
inline Task after(Task task, Peer peer, std::uint32_t peer_task)
{
    task.peer = peer;
    task.peer_task = peer_task;
    return task;
}

struct Step {
    Iteration iteration;
    Folded folded;
    SimulationRun run;

    Step() = default;
    Step(Step const&) = delete; // folded points into iteration
    Step& operator=(Step const&) = delete;

    /// A program with its first group, as a class that stands for @p multiplicity groups.
    std::uint32_t add_class(std::uint32_t multiplicity = 1, double slowdown = 1)
    {
        auto const c = static_cast<std::uint32_t>(iteration.problem.groups.size());
        iteration.problem.programs.emplace_back();
        iteration.labels.emplace_back();
        iteration.problem.groups.push_back({.program = c, .previous = c, .next = c, .team = 0, .slowdown = slowdown});
        folded.class_of_group.push_back(c);
        folded.representative.push_back(c);
        folded.multiplicity.push_back(multiplicity);
        folded.previous.emplace_back();
        folded.next.emplace_back();
        folded.team.emplace_back();
        return c;
    }

    std::uint32_t add(std::uint32_t c, Task const& task, std::vector<std::uint32_t> const& dependencies,
                      TaskLabel const& l)
    {
        iteration.labels[c].push_back(l);
        return iteration.problem.programs[c].add(task, dependencies);
    }

    /// Start = the end of what ended last; end = start + seconds, for compute times the group's slowdown.
    void replay()
    {
        folded.problem = &iteration.problem;
        run.classes.clear();
        for (auto const& program : iteration.problem.programs)
            run.classes.push_back(
                {std::vector<double>(program.tasks.size()), std::vector<double>(program.tasks.size())});
        double makespan = 0;
        for (auto const ref : topological_order(folded)) {
            auto const& task = iteration.problem.programs[ref.group_class].tasks[ref.task];
            auto const blocker = latest_dependency(folded, run, ref);
            double const slowdown =
                task.kind == TaskKind::compute ? iteration.problem.groups[ref.group_class].slowdown : 1;
            double const start = blocker ? run.classes[blocker->group_class].end[blocker->task] : 0;
            run.classes[ref.group_class].start[ref.task] = start;
            run.classes[ref.group_class].end[ref.task] = start + task.seconds * slowdown;
            makespan = std::max(makespan, start + task.seconds * slowdown);
        }
        run.makespan = Seconds{makespan};
    }
};

/// 1F1B over @p slowdown.size() ranks: each slot is a compute task and a send that the neighbour waits for.
inline void one_f_one_b(Step& step, int micro_batches, double forward, double backward, double send,
                        std::vector<double> const& slowdown)
{
    auto const ranks = static_cast<int>(slowdown.size());
    std::vector<std::vector<Slot>> orders;
    for (int rank = 0; rank < ranks; ++rank) {
        std::vector<Slot> order;
        int const warm_up = std::min(ranks - rank - 1, micro_batches);
        for (int i = 0; i < warm_up; ++i) order.push_back({SlotKind::forward, 0, i});
        for (int i = 0; i < micro_batches; ++i) {
            if (warm_up + i < micro_batches) order.push_back({SlotKind::forward, 0, warm_up + i});
            order.push_back({SlotKind::backward, 0, i});
        }
        orders.push_back(order);
    }
    auto const send_of = [&](int rank, Slot slot) {
        auto const& order = orders[static_cast<std::size_t>(rank)];
        return static_cast<std::uint32_t>(2 * (std::find(order.begin(), order.end(), slot) - order.begin()) + 1);
    };
    for (int rank = 0; rank < ranks; ++rank) {
        auto const c = step.add_class(1, slowdown[static_cast<std::size_t>(rank)]);
        if (rank > 0) step.folded.previous[c] = {c - 1};
        if (rank + 1 < ranks) step.folded.next[c] = {c + 1};
        int index = 0;
        std::vector<std::uint32_t> last_compute;
        for (auto const slot : orders[static_cast<std::size_t>(rank)]) {
            bool const is_backward = slot.kind == SlotKind::backward;
            auto task = compute(is_backward ? backward : forward);
            if (!is_backward && rank > 0) task = after(task, Peer::previous, send_of(rank - 1, slot));
            if (is_backward && rank + 1 < ranks) task = after(task, Peer::next, send_of(rank + 1, slot));
            auto const id = step.add(c, task, last_compute, label(Activity::compute, slot.kind, index));
            bool const sends = is_backward ? rank > 0 : rank + 1 < ranks;
            step.add(c, sends ? communicate(send) : join(), {id},
                     label(sends ? Activity::pipeline_send : Activity::wait, slot.kind, index));
            last_compute = {id};
            ++index;
        }
    }
    step.iteration.segments = {ClassSeconds{}};
    step.replay();
}

/// Any acyclic step: tasks wait for tasks of lower index, their own group's or a neighbour's.
inline void random_step(Step& step, unsigned seed, std::uint32_t classes, std::uint32_t tasks)
{
    std::mt19937 random{seed};
    auto const below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    for (std::uint32_t c = 0; c < classes; ++c) step.add_class(1 + below(4), 1 + 0.25 * below(3));
    for (std::uint32_t c = 0; c < classes; ++c) {
        step.folded.previous[c] = {(c + classes - 1) % classes};
        step.folded.next[c] = {(c + 1) % classes};
        for (std::uint32_t other = 0; other < classes; ++other) step.folded.team[c].push_back(other);
        std::vector<std::uint32_t> last_compute;
        int slot = 0;
        for (std::uint32_t t = 0; t < tasks; ++t) {
            auto dependencies = std::vector<std::uint32_t>{};
            if (t > 0 && below(3) > 0) dependencies.push_back(below(t));
            double const seconds = (1 + below(1000)) / 997.0;
            auto const draw = below(8);
            Task task = draw < 4 ? compute(seconds) : draw < 7 ? communicate(seconds) : join();
            if (t > 0 && below(3) == 0) task = after(task, static_cast<Peer>(1 + below(3)), below(t));
            TaskLabel l = label(Activity::wait);
            if (task.kind == TaskKind::compute) {
                dependencies.insert(dependencies.end(), last_compute.begin(), last_compute.end());
                last_compute = {t};
                if (below(2) == 0) ++slot;
                bool const late = t > tasks - tasks / 8;
                l = label(late ? Activity::optimizer : Activity::compute, static_cast<SlotKind>(slot % 5),
                          late ? -1 : slot);
            } else if (task.kind == TaskKind::communicate) {
                l = label(static_cast<Activity>(1 + below(4)));
            }
            step.add(c, task, dependencies, l);
        }
    }
    step.iteration.segments = {ClassSeconds{}};
    step.replay();
}

} // namespace trainfare::hand_made
