// SPDX-License-Identifier: Apache-2.0
//
// When each slot of a schedule starts and ends: one pass over flat arrays, the kernel of the closed-form model.
#include <algorithm>
#include <cstddef>
#include <span>

#include <fmt/format.h>

#include "model/error.hpp"
#include "model/schedule.hpp"

namespace trainfare {

namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

double duration_of(SlotKind kind, SlotTimes const& t)
{
    switch (kind) {
    case SlotKind::forward: return t.forward;
    case SlotKind::backward: return t.backward;
    case SlotKind::backward_input: return t.backward - t.weight;
    case SlotKind::backward_weight: return t.weight;
    case SlotKind::overlapped: return t.overlapped;
    }
    throw InternalError{"a slot of no kind"};
}

} // namespace

double makespan(SlotGraph const& graph, std::span<double const> durations, double send, std::vector<double>& end)
{
    if (durations.size() != graph.steps.size())
        throw InternalError{fmt::format("{} durations for {} slots", durations.size(), graph.steps.size())};
    end.resize(graph.steps.size() + 1);
    end[0] = 0; // slot -1: nothing to wait for
    double const delay[2] = {0, send};
    double latest = 0;
    for (auto const& step : graph.steps) {
        auto const forward = end[index(step.forward + 1)] + delay[step.forward_sent];
        auto const backward = end[index(step.backward + 1)] + delay[step.backward_sent];
        auto const start = std::max(end[index(step.previous + 1)], std::max(forward, backward));
        auto const finish = start + durations[index(step.slot)];
        end[index(step.slot + 1)] = finish;
        latest = std::max(latest, finish);
    }
    return latest;
}

SlotTiming time_slots(SlotGraph const& graph, std::span<double const> durations, double send)
{
    std::vector<double> ends;
    SlotTiming timing;
    timing.makespan = makespan(graph, durations, send, ends);
    for (int rank = 0; rank < graph.ranks(); ++rank) {
        auto const first = index(graph.rank_begin[index(rank)]);
        auto const last = index(graph.rank_begin[index(rank) + 1]);
        auto& end = timing.end.emplace_back(ends.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                                            ends.begin() + static_cast<std::ptrdiff_t>(last) + 1);
        auto& start = timing.start.emplace_back(end);
        double busy = 0;
        for (std::size_t i = 0; i < end.size(); ++i) {
            start[i] -= durations[first + i];
            busy += durations[first + i];
        }
        timing.idle.push_back(timing.makespan - busy);
    }
    return timing;
}

SlotTiming time_slots(PipelineSchedule const& schedule, SlotTimes const& times)
{
    std::vector<double> durations;
    for (auto const& slots : schedule.slots)
        for (auto const& slot : slots) durations.push_back(duration_of(slot.kind, times));
    return time_slots(slot_graph(schedule), durations, 0);
}

} // namespace trainfare
