// SPDX-License-Identifier: Apache-2.0
//
// Who waits for whom in a schedule, and one order in which everybody can work. Finding both is the slow part of timing
// a schedule, and the same for all durations, so it is done once.
#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

#include "model/error.hpp"
#include "model/schedule.hpp"

namespace trainfare {

namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

bool runs_forward(SlotKind kind) { return kind == SlotKind::forward || kind == SlotKind::overlapped; }
bool runs_backward(SlotKind kind)
{
    return kind == SlotKind::backward || kind == SlotKind::backward_input || kind == SlotKind::overlapped;
}

/// A stage's pass of one micro-batch, in the two roles a slot can have.
struct Pass {
    int stage = 0;
    int micro_batch = 0;
};

Pass forward_pass(PipelineSchedule const& s, int rank, Slot const& slot)
{
    return {s.stage_of(rank, slot.chunk), slot.micro_batch};
}

Pass backward_pass(PipelineSchedule const& s, int rank, Slot const& slot)
{
    if (slot.kind != SlotKind::overlapped) return forward_pass(s, rank, slot);
    return {s.stage_of(rank, slot.backward_chunk), slot.backward_micro_batch};
}

/// Which slot, and so which rank, runs each pass.
class PassTable {
public:
    PassTable(PipelineSchedule const& s, char const* what)
        : stages_{s.stages}, micro_batches_{s.micro_batches}, what_{what},
          slots_(index(s.stages) * index(s.micro_batches), -1)
    {
    }

    void set(Pass pass, std::int32_t slot)
    {
        if (at(pass) >= 0) fail(pass, "runs twice");
        slots_[place(pass)] = slot;
    }

    /// -1 outside the model: the first stage's forward and the last stage's backward wait for nobody.
    [[nodiscard]] std::int32_t at(Pass pass) const
    {
        return pass.stage < 0 || pass.stage >= stages_ ? -1 : slots_[place(pass)];
    }

    void check_complete() const
    {
        auto const gap = std::find(slots_.begin(), slots_.end(), -1) - slots_.begin();
        if (index(gap) == slots_.size()) return;
        fail({static_cast<int>(gap / micro_batches_), static_cast<int>(gap % micro_batches_)}, "never runs");
    }

    void check_exists(Pass pass) const
    {
        auto const inside = [](int i, int n) { return i >= 0 && i < n; };
        if (!inside(pass.stage, stages_) || !inside(pass.micro_batch, micro_batches_)) fail(pass, "does not exist");
    }

    [[noreturn]] void fail(Pass pass, char const* problem) const
    {
        throw InternalError{fmt::format("schedule: the {} of micro-batch {} on stage {} {}", what_, pass.micro_batch,
                                        pass.stage, problem)};
    }

private:
    [[nodiscard]] std::size_t place(Pass pass) const
    {
        return index(pass.stage) * index(micro_batches_) + index(pass.micro_batch);
    }

    int stages_;
    int micro_batches_;
    char const* what_;
    std::vector<std::int32_t> slots_;
};

/// Slots by pass; on the way, that each rank's own order is sound.
struct Passes {
    PassTable forward, backward, weight;

    explicit Passes(PipelineSchedule const& s)
        : forward{s, "forward"}, backward{s, "backward"}, weight{s, "weight gradient"}
    {
        std::int32_t number = 0;
        for (int rank = 0; rank < s.ranks; ++rank)
            for (auto const& slot : s.slots[index(rank)]) enter(s, rank, slot, number++);
        forward.check_complete();
        backward.check_complete();
        weight.check_complete();
    }

private:
    void enter(PipelineSchedule const& s, int rank, Slot const& slot, std::int32_t number)
    {
        auto const ahead = forward_pass(s, rank, slot);
        auto const back = backward_pass(s, rank, slot);
        forward.check_exists(ahead);
        backward.check_exists(back);
        if (runs_backward(slot.kind)) {
            if (forward.at(back) < 0) forward.fail(back, "comes after its backward");
            backward.set(back, number);
        }
        if (runs_forward(slot.kind)) forward.set(ahead, number);
        if (slot.kind == SlotKind::backward_weight && backward.at(back) < 0)
            backward.fail(back, "comes after its weight gradient");
        if (slot.kind != SlotKind::forward && slot.kind != SlotKind::backward_input) weight.set(back, number);
    }
};

/// Each slot's dependencies, in slot order.
std::vector<SlotGraph::Step> dependencies(PipelineSchedule const& s, std::vector<std::int32_t> const& rank_begin)
{
    Passes const passes{s};
    auto const elsewhere = [&rank_begin](std::int32_t slot, int rank) {
        return slot >= 0 && (slot < rank_begin[index(rank)] || slot >= rank_begin[index(rank) + 1]);
    };
    std::vector<SlotGraph::Step> steps;
    steps.reserve(index(rank_begin.back()));
    for (int rank = 0; rank < s.ranks; ++rank) {
        std::int32_t previous = -1;
        for (auto const& slot : s.slots[index(rank)]) {
            SlotGraph::Step step;
            step.slot = static_cast<std::int32_t>(steps.size());
            step.previous = previous;
            if (runs_forward(slot.kind)) {
                auto const [stage, micro_batch] = forward_pass(s, rank, slot);
                step.forward = passes.forward.at({stage - 1, micro_batch});
                step.forward_sent = elsewhere(step.forward, rank);
            }
            if (runs_backward(slot.kind)) {
                auto const [stage, micro_batch] = backward_pass(s, rank, slot);
                step.backward = passes.backward.at({stage + 1, micro_batch});
                step.backward_sent = elsewhere(step.backward, rank);
            }
            previous = step.slot;
            steps.push_back(step);
        }
    }
    return steps;
}

/// Ranks in turn each take one slot whose inputs are there. Neighbouring steps are then mostly of different ranks and
/// do not wait for each other's sums, which processors like.
std::vector<SlotGraph::Step> executable_order(std::vector<SlotGraph::Step> const& steps,
                                              std::vector<std::int32_t> const& rank_begin)
{
    std::vector<SlotGraph::Step> order;
    order.reserve(steps.size());
    std::vector<char> done(steps.size() + 1, 0);
    done[0] = 1; // "nothing", slot -1
    auto next = rank_begin;
    auto const ready = [&done](SlotGraph::Step const& step) {
        return done[index(step.forward + 1)] != 0 && done[index(step.backward + 1)] != 0;
    };
    while (order.size() < steps.size()) {
        auto const before = order.size();
        for (std::size_t rank = 0; rank + 1 < rank_begin.size(); ++rank) {
            if (next[rank] == rank_begin[rank + 1]) continue;
            auto const& step = steps[index(next[rank])];
            if (!ready(step)) continue;
            done[index(step.slot + 1)] = 1;
            order.push_back(step);
            ++next[rank];
        }
        if (order.size() == before)
            throw InternalError{
                fmt::format("schedule: after {} of {} slots every rank waits for another", before, steps.size())};
    }
    return order;
}

} // namespace

SlotGraph slot_graph(PipelineSchedule const& schedule)
{
    if (schedule.slots.size() != index(schedule.ranks))
        throw InternalError{
            fmt::format("schedule: {} slot orders for {} ranks", schedule.slots.size(), schedule.ranks)};
    SlotGraph graph;
    graph.rank_begin.push_back(0);
    for (auto const& slots : schedule.slots)
        graph.rank_begin.push_back(graph.rank_begin.back() + static_cast<std::int32_t>(slots.size()));
    graph.steps = executable_order(dependencies(schedule, graph.rank_begin), graph.rank_begin);
    return graph;
}

} // namespace trainfare
