// SPDX-License-Identifier: Apache-2.0
#include "sim/slot_steps.hpp"

#include <algorithm>

namespace trainfare {
namespace {

class Expander {
public:
    Expander(StepModel const& step, int rank, Slot const& slot)
        : step_{step}, stage_{step.stages[static_cast<std::size_t>(rank)]},
          overlapped_{slot.kind == SlotKind::overlapped}
    {
    }

    [[nodiscard]] std::vector<SlotStep> forward(int chunk) const
    {
        std::vector<SlotStep> steps;
        for (int i = begin(chunk); i < begin(chunk + 1); ++i) add(steps, priced(i).forward, i, false);
        if (!steps.empty()) steps.front().first = true;
        return steps;
    }

    /// @p weights also the weight gradients, each after the segment that frees it.
    [[nodiscard]] std::vector<SlotStep> backward(int chunk, bool weights) const
    {
        std::vector<SlotStep> steps;
        for (int i = begin(chunk + 1) - 1; i >= begin(chunk); --i) {
            auto const& block = priced(i);
            auto const first = steps.size();
            add(steps, block.backward, i, true);
            if (!weights) {
                steps.back().reduces = weight_seconds(block) == 0 && step_.plan.zero >= 2; // no weight slot will
                continue;
            }
            steps.back().block_end = false;
            for (std::size_t s = block.weight.size(); s-- > 0;) // from the back: positions before stay valid
                if (seconds(block.weight[s]) > 0)
                    steps.insert(steps.begin() + static_cast<std::ptrdiff_t>(first + s + 1),
                                 weight_step(block.weight[s], i));
            steps.back().block_end = true;
            steps.back().reduces = step_.plan.zero >= 2;
        }
        if (!steps.empty()) steps.front().first = true;
        return steps;
    }

    [[nodiscard]] std::vector<SlotStep> weight(int chunk) const
    {
        std::vector<SlotStep> steps;
        for (int i = begin(chunk + 1) - 1; i >= begin(chunk); --i)
            for (auto const& part : priced(i).weight)
                if (seconds(part) > 0) steps.push_back(weight_step(part, i));
        for (std::size_t s = 0; s < steps.size(); ++s) {
            steps[s].block_end = s + 1 == steps.size() || steps[s + 1].block != steps[s].block;
            steps[s].reduces = steps[s].block_end && step_.plan.zero >= 2;
        }
        return steps;
    }

private:
    [[nodiscard]] int begin(int chunk) const { return stage_.chunk_begin[static_cast<std::size_t>(chunk)]; }
    [[nodiscard]] PricedBlock const& priced(int block) const
    {
        return stage_.blocks[static_cast<std::size_t>(block)].priced;
    }

    void add(std::vector<SlotStep>& steps, std::vector<Segment> const& segments, int block, bool backward) const
    {
        for (std::size_t i = 0; i < segments.size(); ++i) {
            auto const& segment = segments[i];
            SlotStep s;
            s.compute = seconds(segment.compute) > 0 ? &segment.compute : nullptr;
            s.exchanges = segment.exchanges, s.is_dispatch = segment.is_dispatch;
            s.payload = segment.payload * step_.exchange_skew * (overlapped_ ? step_.exchange_contention : 1);
            s.backward = backward;
            s.block = block;
            s.block_begin = i == 0, s.block_end = i + 1 == segments.size();
            s.gathers = s.block_begin && step_.plan.zero == 3;
            steps.push_back(s);
        }
    }

    [[nodiscard]] SlotStep weight_step(ClassSeconds const& compute, int block) const
    {
        SlotStep s;
        s.compute = &compute, s.backward = true, s.weight = true, s.block = block;
        return s;
    }

    StepModel const& step_;
    StageCost const& stage_;
    bool overlapped_;
};

/// One turn of a chain: everything up to and including its next exchange, then the weight gradients that were freed on
/// the way, so that they do not hold the exchange up.
std::size_t take_turn(std::vector<SlotStep>& to, std::vector<SlotStep> const& from, std::size_t i)
{
    std::vector<SlotStep> weights;
    for (bool exchanged = false; i < from.size() && (!exchanged || from[i].weight); ++i) {
        (from[i].weight ? weights : to).push_back(from[i]);
        exchanged = exchanged || from[i].exchanges;
    }
    to.insert(to.end(), weights.begin(), weights.end());
    return i;
}

/// Forward and backward take turns. The backward's first turn is only the way to its first exchange, so it begins.
std::vector<SlotStep> interleave(std::vector<SlotStep> const& forward, std::vector<SlotStep> const& backward)
{
    std::vector<SlotStep> steps;
    for (std::size_t f = 0, b = 0; f < forward.size() || b < backward.size();) {
        if (b < backward.size()) b = take_turn(steps, backward, b);
        if (f < forward.size()) f = take_turn(steps, forward, f);
    }
    return steps;
}

} // namespace

std::vector<SlotStep> slot_steps(StepModel const& step, int rank, Slot const& slot)
{
    Expander const expand{step, rank, slot};
    switch (slot.kind) {
    case SlotKind::forward: return expand.forward(slot.chunk);
    case SlotKind::backward: return expand.backward(slot.chunk, true);
    case SlotKind::backward_input: return expand.backward(slot.chunk, false);
    case SlotKind::backward_weight: return expand.weight(slot.chunk);
    case SlotKind::overlapped: break;
    }
    auto forward = expand.forward(slot.chunk);
    auto const backward = expand.backward(slot.backward_chunk, true);
    if (step.plan.overlap_ep) return interleave(forward, backward);
    forward.insert(forward.end(), backward.begin(),
                   backward.end()); // the schedule pairs them, the exchanges stay exposed
    return forward;
}

SlotEnd slot_end(StepModel const& step, StageCost const& stage, std::vector<SlotStep> const& steps)
{
    SlotEnd t;
    double compute = 0, exchange = 0, data = 0; // when each stream is free
    double before = 0;        // when the compute step before the last one ended: weights are fetched one ahead
    double ready[2] = {0, 0}; // when the forward and the backward chain may go on
    for (auto const& s : steps) {
        double& chain = ready[s.backward ? 1 : 0];
        auto const& block = stage.blocks[static_cast<std::size_t>(s.block)];
        if (s.gathers) {
            data = std::max(data, step.plan.overlap_dp ? before : compute) + block.gather_seconds;
            chain = std::max(chain, data);
        }
        if (s.compute) {
            before = compute;
            compute = std::max(compute, s.weight ? 0.0 : chain) + seconds(*s.compute);
            if (!s.weight) chain = compute;
        }
        if (s.reduces) {
            data = std::max(data, compute) + block.reduce_seconds;
            if (!step.plan.overlap_dp) compute = data;
        }
        if (s.exchanges) {
            exchange = std::max(exchange, chain) + step.exchange_latency + s.payload * step.exchange_seconds_per_byte;
            chain = exchange;
        }
    }
    t.compute = compute, t.forward = ready[0], t.backward = ready[1];
    t.end = std::max({compute, ready[0], ready[1]});
    return t;
}

} // namespace trainfare
