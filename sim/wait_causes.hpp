// SPDX-License-Identifier: Apache-2.0
//
// Why a group's compute stream stood still. A wait is explained by walking back through time: from the task that waited
// to the dependency that ended last, to what that one waited for, until the wait's beginning. The causes of a moment:
//   - a communication task of the group itself, or one that directly delivers to it (the pipeline neighbour's send):
//     that communication;
//   - anything else of another group: bubble; if that group computes and is a straggler (slowdown s), the share 1 - 1/s
//     of it is the straggler's. A neighbour that a slow GPU (s = 1.25) holds up for 10 s: 2 s straggler, 8 s bubble.
#pragma once

#include <algorithm>
#include <optional>

#include "sim/causes.hpp"
#include "sim/task_graph.hpp"

namespace trainfare {

inline double& part(CauseSeconds& causes, Cause cause) { return causes[static_cast<std::size_t>(cause)]; }

/// An iteration, how it is folded and when everything ran, looked at by task.
struct StepView {
    Iteration const& iteration;
    Folded const& folded;
    SimulationRun const& run;

    [[nodiscard]] Group const& group(std::uint32_t c) const { return folded.problem->groups[folded.representative[c]]; }
    [[nodiscard]] Task const& task(TaskRef ref) const { return program_of(folded, ref.group_class).tasks[ref.task]; }
    [[nodiscard]] TaskLabel const& label(TaskRef ref) const
    {
        return iteration.labels[group(ref.group_class).program][ref.task];
    }
    /// The share of compute time that is there only because the group is slow.
    [[nodiscard]] double excess(std::uint32_t c) const { return std::max(0.0, 1 - 1 / group(c).slowdown); }
};

/// Splits [from, until], in which class @p waiting computes nothing; the parts add up to its length. @p blocker is what
/// it waited for at @p until; @p at_others: the wait is known to be for other groups' work.
CauseSeconds split_wait(StepView const&, std::uint32_t waiting, std::optional<TaskRef> blocker, bool at_others,
                        double from, double until);

} // namespace trainfare
