// SPDX-License-Identifier: Apache-2.0
//
// The folded iteration as a graph (Boost.Graph behind the .cpp): topological order, critical path and slack for given
// start and end times.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/fold.hpp"
#include "sim/simulate.hpp"

namespace trainfare {

struct TaskRef {
    std::uint32_t group_class = 0;
    std::uint32_t task = 0;
    friend bool operator==(TaskRef const&, TaskRef const&) = default;
};

/// What every group of the class runs.
Program const& program_of(Folded const&, std::uint32_t group_class);

/// What the task waited for: its dependency that ended last; of several, the first, local before peer. Absent: nothing.
std::optional<TaskRef> latest_dependency(Folded const&, SimulationRun const&, TaskRef);

/// All tasks in an order in which every dependency comes first. @throws InternalError naming a task on a cycle.
std::vector<TaskRef> topological_order(Folded const&);

/// The chain of tasks that determined the makespan, first to last: each began when the one before it ended.
std::vector<TaskRef> critical_path(Folded const&, SimulationRun const&);

/// How much later each task could end without moving the makespan, durations unchanged. By class, by task, in seconds.
std::vector<std::vector<double>> slack(Folded const&, SimulationRun const&);

} // namespace trainfare
