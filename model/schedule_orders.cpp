// SPDX-License-Identifier: Apache-2.0
//
// Each published schedule is a handful of loops per rank. A rank takes the micro-batches of a chunk in order, so that
// the loops only say "a forward of chunk 0 now", and counters know which one that is.
#include "model/schedule_orders.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace trainfare {

namespace {

/// The slots of a rank under construction, for schedules of at most two chunks.
class OrderBuilder {
public:
    /// @p first_of_chunk_1 first micro-batch that chunk 1 sees; chunk 0 starts at 0.
    explicit OrderBuilder(int first_of_chunk_1 = 0) : next_forward_{0, first_of_chunk_1}, next_backward_{next_forward_}
    {
    }

    void forward(int chunk) { add(SlotKind::forward, chunk, next_forward_[index(chunk)]++); }
    void backward(int chunk) { add(SlotKind::backward, chunk, next_backward_[index(chunk)]++); }
    void backward_input(int chunk)
    {
        add(SlotKind::backward_input, chunk, next_backward_[index(chunk)]++);
        postponed_.push_back(order_.back());
    }
    /// The oldest weight gradient that waits.
    void backward_weight()
    {
        auto const& input = postponed_.at(drained_++);
        add(SlotKind::backward_weight, input.chunk, input.micro_batch);
    }
    void overlapped(int forward_chunk, int backward_chunk)
    {
        order_.push_back({SlotKind::overlapped, forward_chunk, next_forward_[index(forward_chunk)]++, backward_chunk,
                          next_backward_[index(backward_chunk)]++});
    }

    [[nodiscard]] bool weights_wait() const { return drained_ < postponed_.size(); }
    [[nodiscard]] SlotOrder const& order() const { return order_; }

private:
    static std::size_t index(int chunk) { return static_cast<std::size_t>(chunk); }
    void add(SlotKind kind, int chunk, int micro_batch) { order_.push_back({kind, chunk, micro_batch}); }

    std::array<int, 2> next_forward_;
    std::array<int, 2> next_backward_;
    SlotOrder postponed_; // backward_input slots, oldest first
    std::size_t drained_ = 0;
    SlotOrder order_;
};

/// Warm-up, forward and backward in turn, cool-down, over passes listed beforehand.
SlotOrder alternate(SlotOrder const& forwards, SlotOrder const& backwards, int warm_up, bool paired)
{
    auto const lead = std::min(static_cast<std::size_t>(warm_up), forwards.size());
    SlotOrder order{forwards.begin(), forwards.begin() + static_cast<std::ptrdiff_t>(lead)};
    for (auto i = lead; i < forwards.size(); ++i) {
        auto const& backward = backwards[i - lead];
        order.push_back(forwards[i]);
        if (paired) {
            order.back().kind = SlotKind::overlapped;
            order.back().backward_chunk = backward.chunk;
            order.back().backward_micro_batch = backward.micro_batch;
        } else {
            order.push_back(backward);
        }
    }
    order.insert(order.end(), backwards.end() - static_cast<std::ptrdiff_t>(lead), backwards.end());
    return order;
}

/// The eight steps, as dualpipe.py of the published package numbers them. @p near is the chunk that the nearer end of
/// the pipeline feeds, @p far the other; @p half ranks lie on one side and @p half_rank counts from the nearer end.
SlotOrder eight_steps(OrderBuilder build, int near, int far, int half, int half_rank, int per_chunk)
{
    auto const from_middle = half - 1 - half_rank;

    // 1: nF0
    for (int i = 0; i < 2 * from_middle; ++i) build.forward(near);
    // 2: nF0F1
    for (int i = 0; i < half_rank + 1; ++i) {
        build.forward(near);
        build.forward(far);
    }
    // 3: nB1W1F1
    for (int i = 0; i < from_middle; ++i) {
        build.backward_input(far);
        build.backward_weight();
        build.forward(far);
    }
    // 4: nF0B1F1B0, the steady state
    for (int i = 0; i < per_chunk - 2 * half + half_rank + 1; ++i) {
        if (i == 0 && from_middle == 0) { // apart: the neighbour's first backward starts a forward earlier
            build.forward(near);
            build.backward(far);
        } else {
            build.overlapped(near, far);
        }
        build.overlapped(far, near);
    }
    // 5: nB1F1B0
    for (int i = 0; i < from_middle; ++i) {
        build.backward(far);
        build.overlapped(far, near);
    }
    // 6: nB1B0, the second half of them without weight gradients
    for (int i = 0; i < 2 * (half_rank + 1); ++i) {
        auto const chunk = i % 2 == 0 ? far : near;
        if (i < half_rank + 1) build.backward(chunk);
        else build.backward_input(chunk);
    }
    // 7: nWB0
    for (int i = 0; i < from_middle; ++i) {
        build.backward_weight();
        build.backward_input(near);
    }
    // 8: nW
    for (int i = 0; i < half_rank + 1; ++i) build.backward_weight();
    return build.order();
}

} // namespace

SlotOrder gpipe_order(int micro_batches) { return one_f_one_b_order(micro_batches, micro_batches, false); }

SlotOrder one_f_one_b_order(int warm_up, int micro_batches, bool paired)
{
    SlotOrder forwards, backwards;
    for (int i = 0; i < micro_batches; ++i) {
        forwards.push_back({SlotKind::forward, 0, i});
        backwards.push_back({SlotKind::backward, 0, i});
    }
    return alternate(forwards, backwards, warm_up, paired);
}

SlotOrder interleaved_order(int rank, int ranks, int chunks, int micro_batches, bool paired)
{
    SlotOrder forwards, backwards;
    for (int group = 0; group < micro_batches; group += ranks)
        for (int chunk = 0; chunk < chunks; ++chunk)
            for (int i = group; i < group + ranks; ++i) {
                forwards.push_back({SlotKind::forward, chunk, i});
                backwards.push_back({SlotKind::backward, chunks - 1 - chunk, i});
            }
    auto const warm_up = 2 * (ranks - 1 - rank) + (chunks - 1) * ranks + (paired ? 1 : 0);
    return alternate(forwards, backwards, warm_up, paired);
}

SlotOrder zb_h1_order(int rank, int ranks, int micro_batches)
{
    OrderBuilder build;
    auto const warm_up = std::min(ranks - 1 - rank, micro_batches);
    for (int i = 0; i < warm_up; ++i) build.forward(0);
    for (int i = 0; i < micro_batches; ++i) {
        if (i + warm_up < micro_batches) build.forward(0);
        build.backward_input(0);
        if (i >= rank) build.backward_weight();
    }
    while (build.weights_wait()) build.backward_weight();
    return build.order();
}

SlotOrder zb_v_order(int rank, int ranks, int micro_batches)
{
    // The steady state needs 2p-1 micro-batches; with fewer, the missing ones' slots drop out of the order.
    auto const n = std::max(micro_batches, 2 * ranks - 1);
    auto const from_turn = ranks - 1 - rank;
    OrderBuilder build;

    for (int i = 0; i < 2 * from_turn + 1; ++i) build.forward(0);
    for (int i = 0; i < rank; ++i) {
        build.forward(1);
        build.forward(0);
    }
    for (int i = 0; i < from_turn + 1; ++i) {
        build.forward(1);
        build.backward_input(1);
        build.backward_weight();
    }
    for (int i = 0; i < n - ranks; ++i) {
        if (i < n - 2 * ranks + 1 + rank) build.forward(0);
        build.backward_input(0);
        build.backward_weight();
        build.forward(1);
        build.backward_input(1);
        build.backward_weight();
    }
    for (int i = 0; i < rank; ++i) {
        build.backward_input(0);
        build.backward_input(1);
    }
    for (int i = 0; i < from_turn + 1; ++i) {
        build.backward_input(0);
        build.backward_weight();
    }
    while (build.weights_wait()) build.backward_weight();

    auto order = build.order();
    std::erase_if(order, [micro_batches](Slot const& slot) { return slot.micro_batch >= micro_batches; });
    return order;
}

SlotOrder dualpipe_order(int rank, int ranks, int micro_batches)
{
    auto const per_chunk = micro_batches / 2;
    auto const second_half = rank >= ranks / 2; // fed by the last rank, whose micro-batches run on chunk 1
    return eight_steps(OrderBuilder{per_chunk}, second_half ? 1 : 0, second_half ? 0 : 1, ranks / 2,
                       std::min(rank, ranks - 1 - rank), per_chunk);
}

SlotOrder dualpipe_v_order(int rank, int ranks, int micro_batches)
{
    return eight_steps(OrderBuilder{}, 0, 1, ranks, rank, micro_batches);
}

} // namespace trainfare
