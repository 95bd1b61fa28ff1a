// SPDX-License-Identifier: Apache-2.0
#include "sim/closed_form.hpp"

#include <algorithm>
#include <cmath>
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
        if (found == known.end()) {
            auto const& stage = step.stages[static_cast<std::size_t>(rank)];
            auto const steps = slot_steps(step, rank, slot);
            double moved =
                0; // ZeRO-2 and 3: the data-parallel stream goes on from slot to slot and may be what sets the pace
            for (auto const& s : steps) {
                auto const& block = stage.blocks[static_cast<std::size_t>(s.block)];
                moved += (s.gathers ? block.gather_seconds : 0) + (s.reduces ? block.reduce_seconds : 0);
            }
            found = known.emplace(key, std::max(moved, slot_end(step, stage, steps).end)).first;
        }
        double time = found->second;
        if (!step.plan.overlap_pp && step.plan.pp > 1 && slot.kind != SlotKind::backward_weight)
            time += step.send_seconds;
        durations.push_back(time);
        auto& [sum, n] = sums[slot.kind];
        sum += time, ++n;
    }
    auto const of = [&](SlotKind kind) {
        auto const s = sums.find(kind);
        return s == sums.end() ? 0.0 : s->second.first / s->second.second;
    };
    mean = {of(SlotKind::forward), of(SlotKind::backward), of(SlotKind::backward_input), of(SlotKind::backward_weight),
            of(SlotKind::overlapped)};
    return durations;
}

/// First forward of a chunk: each of its blocks waits for its own weights, which arrive one block after the other from
/// 0 on.
/// @return how much later than without that the slot ends, if it begins at @p start
double gather_delay(StageCost const& stage, int chunk, double start, double duration)
{
    auto const first = static_cast<std::size_t>(stage.chunk_begin[static_cast<std::size_t>(chunk)]);
    auto const last = static_cast<std::size_t>(stage.chunk_begin[static_cast<std::size_t>(chunk) + 1]);
    double arrived = 0, time = start;
    for (std::size_t b = 0; b < last; ++b) {
        arrived += stage.blocks[b].gather_seconds;
        if (b >= first) time = std::max(time, arrived) + duration / static_cast<double>(last - first);
    }
    return time - start - duration;
}

/// Lengthens the first forward of every chunk by its wait for weights. A rank that starts later for its neighbour's
/// wait waits less itself, so this goes on until starts no longer move: at most once along the pipeline and back.
void wait_for_weights(StepModel const& step, SlotGraph const& graph, double send, std::vector<double> const& durations,
                      SlotTiming& timing)
{
    struct First {
        std::size_t rank, slot;
        int chunk;
    };
    std::vector<First> firsts;
    for (std::size_t r = 0; r < step.stages.size(); ++r) {
        auto const& slots = step.schedule.slots[r];
        for (int chunk = 0; chunk < step.schedule.chunks; ++chunk)
            for (std::size_t i = 0; i < slots.size(); ++i)
                if (slots[i].chunk == chunk &&
                    (slots[i].kind == SlotKind::forward || slots[i].kind == SlotKind::overlapped)) {
                    firsts.push_back({r, i, chunk});
                    break;
                }
    }
    for (int round = 0; round < 2 * step.schedule.ranks; ++round) {
        auto longer = durations;
        for (auto const& f : firsts) {
            auto const slot = static_cast<std::size_t>(graph.rank_begin[f.rank]) + f.slot;
            longer[slot] += gather_delay(step.stages[f.rank], f.chunk, timing.start[f.rank][f.slot], durations[slot]);
        }
        double const before = timing.makespan;
        timing = time_slots(graph, longer, send);
        if (std::abs(timing.makespan - before) < 1e-9 && round > 0) break;
    }
}

/// When the last gradient of a rank is reduced: block by block, each as soon as the last slot that works on it frees
/// it.
double reduced_at(StageCost const& stage, std::vector<Slot> const& slots, std::vector<double> const& start,
                  std::vector<double> const& end)
{
    struct Freed {
        double at = 0, seconds = 0;
    };
    std::vector<Freed> freed;
    for (std::size_t chunk = 0; chunk + 1 < stage.chunk_begin.size(); ++chunk) {
        std::size_t last = slots.size();
        for (std::size_t i = 0; i < slots.size(); ++i) {
            auto const of = static_cast<std::size_t>(slots[i].kind == SlotKind::overlapped ? slots[i].backward_chunk
                                                                                           : slots[i].chunk);
            if (of == chunk && slots[i].kind != SlotKind::forward && slots[i].kind != SlotKind::backward_input)
                last = i;
        }
        if (last == slots.size()) continue;
        int const begin = stage.chunk_begin[chunk], stop = stage.chunk_begin[chunk + 1];
        for (int b = stop - 1; b >= begin; --b) { // backward: the last block first
            double const share = static_cast<double>(stop - b) / (stop - begin);
            freed.push_back({start[last] + share * (end[last] - start[last]),
                             stage.blocks[static_cast<std::size_t>(b)].reduce_seconds});
        }
    }
    std::stable_sort(freed.begin(), freed.end(), [](Freed const& a, Freed const& b) { return a.at < b.at; });
    double done = 0;
    for (auto const& f : freed) done = std::max(done, f.at) + f.seconds;
    return done;
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
    double const send = step.plan.overlap_pp ? step.send_seconds : 0.0;
    auto timing = time_slots(graph, durations, send);
    bool const overlap = step.plan.overlap_dp;
    if (overlap && step.plan.zero < 3) wait_for_weights(step, graph, send, durations, timing);

    double end = 0, pipeline = 0;
    for (int rank = 0; rank < step.schedule.ranks; ++rank) {
        auto const r = static_cast<std::size_t>(rank);
        auto const& stage = step.stages[r];
        double const last = timing.end[r].back();
        double done = last;
        // ZeRO-2 and 3 move gradients, ZeRO-3 weights too, inside the slots.
        if (step.plan.zero < 2)
            done = overlap ? std::max(last, reduced_at(stage, step.schedule.slots[r], timing.start[r], timing.end[r]))
                           : last + stage.reduce_seconds;
        if (!overlap && step.plan.zero < 3) done += stage.gather_seconds;
        pipeline = std::max(pipeline, last);
        end = std::max(end, done + stage.optimizer_seconds);
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
