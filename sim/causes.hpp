// SPDX-License-Identifier: Apache-2.0
//
// Where the step's time goes. The compute stream of every group is looked at from 0 to the makespan: it computes, or it waits,
// and what it waits for names the cause. The parts therefore add up to the step time; only exposed communication shows.
#pragma once

#include <array>
#include <string_view>

#include "sim/iteration.hpp"
#include "sim/simulate.hpp"

namespace trainfare {

enum class Cause : std::uint8_t {
    compute, dispatch, combine, pipeline_send, data_parallel, bubble, optimizer, straggler, count
};
std::string_view name(Cause);
std::string_view description(Cause);

using CauseSeconds = std::array<double, static_cast<std::size_t>(Cause::count)>;

/// DeepSeek's way of splitting a step (arXiv:2505.09343 Table 4), mean over ranks, s.
struct SlotBreakdown {
    double forward = 0, bubble = 0, backward = 0, weight = 0, overlapped = 0, optimizer = 0;
};

struct StepCauses {
    CauseSeconds mean{};                    // over all groups, weighted by how many each class stands for
    std::vector<CauseSeconds> by_class;     // by group class
    SlotBreakdown slots;
    ClassSeconds compute_by_op{};           // mean compute time by class of operation
    double exchange_busy = 0, exchange_hidden = 0; // mean time of expert exchanges, and the part under compute
};

StepCauses split_by_cause(Iteration const&, Folded const&, SimulationRun const&);

} // namespace trainfare
