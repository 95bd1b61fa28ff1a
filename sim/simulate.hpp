// SPDX-License-Identifier: Apache-2.0
//
// Runs a folded problem on SimGrid, in a child process: the Engine is a singleton whose clock carries over, it may abort, and a
// child can be cancelled. Network model CM02, no cross-traffic, no link latency (latency is paid as a delay before the flow).
#pragma once

#include <vector>

#include "model/units.hpp"
#include "sim/fold.hpp"

namespace trainfare {

struct TaskTimes {
    std::vector<double> start, end; // by task of the class's program, s
};

struct SimulationRun {
    Seconds makespan;
    std::vector<TaskTimes> classes;   // by group class
    // For the benchmark program; not part of any result.
    Seconds wall;
    Bytes peak_memory;                // of the child
    std::uint64_t tasks = 0, flows = 0;
};

/// @throws InternalError when the child dies, is killed, or leaves tasks undone (a cycle); the message says which.
SimulationRun simulate(Folded const&);

/// Kills any running child; safe in a signal handler.
void kill_simulation_child();

/// Time of one communication task of @p group alone on the network. For the surrogate; same child-process rules.
Seconds simulate_alone(Problem const&, std::uint32_t group, Channel, double payload);

} // namespace trainfare
