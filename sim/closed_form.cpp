// SPDX-License-Identifier: Apache-2.0
#include "sim/closed_form.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "sim/slot_steps.hpp"

namespace trainfare {
namespace {

/// Durations of all slots of a rank: one evaluation per distinct (kind, chunks).
std::vector<double> slot_durations(StepModel const& step, int rank, SlotSeconds& mean)
{
    using Key = std::tuple<SlotKind, int, int>;
    std::map<Key, double> known;
    std::map<SlotKind, std::pair<double, int>> sums;
    std::vector<double> durations;
    for (auto const& slot : step.schedule.slots[static_cast<std::size_t>(rank)]) {
        Key const key{slot.kind, slot.chunk, slot.backward_chunk};
        auto found = known.find(key);
        if (found == known.end()) found = known.emplace(key, slot_end(step, step.stages[static_cast<std::size_t>(rank)], slot_steps(step, rank, slot)).end).first;
        double time = found->second;
        if (!step.plan.overlap_pp && step.plan.pp > 1 && slot.kind != SlotKind::backward_weight) time += step.send_seconds;
        durations.push_back(time);
        auto& [sum, n] = sums[slot.kind];
        sum += time, ++n;
    }
    auto const of = [&](SlotKind kind) { auto const s = sums.find(kind); return s == sums.end() ? 0.0 : s->second.first / s->second.second; };
    mean = {of(SlotKind::forward), of(SlotKind::backward), of(SlotKind::backward_input), of(SlotKind::backward_weight),
            of(SlotKind::overlapped)};
    return durations;
}

} // namespace

ClosedForm closed_form(StepModel const& step)
{
    ClosedForm result;
    std::vector<double> durations;
    for (int rank = 0; rank < step.schedule.ranks; ++rank) {
        auto const own = slot_durations(step, rank, result.slots.emplace_back());
        durations.insert(durations.end(), own.begin(), own.end());
    }
    auto const graph = slot_graph(step.schedule);
    auto const timing = time_slots(graph, durations, step.plan.overlap_pp ? step.send_seconds : 0.0);

    // Gradients are reduced block by block as the last micro-batch frees them: what cannot hide is one block's share. Without
    // overlap everything waits for the last slot. Weights of the first block must be there before the first forward.
    double end = 0, pipeline = 0;
    for (int rank = 0; rank < step.schedule.ranks; ++rank) {
        auto const r = static_cast<std::size_t>(rank);
        auto const& stage = step.stages[r];
        double const last = timing.end[r].back();
        // ZeRO-2 and 3 move gradients, ZeRO-3 weights too, inside the slots.
        double const moved = (step.plan.zero >= 2 ? 0 : stage.reduce_seconds) + (step.plan.zero == 3 ? 0 : stage.gather_seconds);
        double const shown = step.plan.overlap_dp ? 1.0 / static_cast<double>(stage.blocks.size()) : 1.0;
        pipeline = std::max(pipeline, last);
        end = std::max(end, last + moved * shown + stage.optimizer_seconds);
    }
    result.step = Seconds{end};
    result.pipeline = Seconds{pipeline};
    result.tail = result.step - result.pipeline;
    return result;
}

double pair_seconds(StepModel const& step, std::vector<PricedBlock const*> const& forward,
                    std::vector<PricedBlock const*> const& backward)
{
    // A stage of its own, with the forward's blocks as chunk 0 and the backward's as chunk 1.
    StepModel pair = step;
    StageCost stage;
    auto const add = [&](std::vector<PricedBlock const*> const& blocks) {
        stage.chunk_begin.push_back(static_cast<int>(stage.blocks.size()));
        for (auto const* block : blocks) stage.blocks.push_back({*block});
    };
    add(forward), add(backward);
    stage.chunk_begin.push_back(static_cast<int>(stage.blocks.size()));
    pair.stages = {stage};
    return slot_end(pair, pair.stages.front(), slot_steps(pair, 0, {SlotKind::overlapped, 0, 0, 1, 0})).end;
}

} // namespace trainfare
