// SPDX-License-Identifier: Apache-2.0
//
// Is each slot order a whole training step, on the right ranks, in the memory its paper claims, and refused where it
// cannot exist?
#include <algorithm>
#include <climits>
#include <map>
#include <string>
#include <utility>

#include "model/error.hpp"
#include "model/schedule.hpp"
#include "tests/catch.hpp"
#include "tests/model/schedule_cases.hpp"

using namespace trainfare;
using trainfare::test::ScheduleCase;

namespace {

using PassCounts = std::map<std::pair<int, int>, int>; // by stage and micro-batch

struct StepCounts {
    PassCounts forward, input_gradient, weight_gradient;
};

StepCounts count_passes(PipelineSchedule const& schedule)
{
    StepCounts counts;
    for (int rank = 0; rank < schedule.ranks; ++rank)
        for (auto const& slot : schedule.slots.at(static_cast<std::size_t>(rank))) {
            auto const pass = std::pair{schedule.stage_of(rank, slot.chunk), slot.micro_batch};
            switch (slot.kind) {
            case SlotKind::forward: ++counts.forward[pass]; break;
            case SlotKind::backward: ++counts.input_gradient[pass], ++counts.weight_gradient[pass]; break;
            case SlotKind::backward_input: ++counts.input_gradient[pass]; break;
            case SlotKind::backward_weight: ++counts.weight_gradient[pass]; break;
            case SlotKind::overlapped:
                auto const back = std::pair{schedule.stage_of(rank, slot.backward_chunk), slot.backward_micro_batch};
                ++counts.forward[pass], ++counts.input_gradient[back], ++counts.weight_gradient[back];
            }
        }
    return counts;
}

/// Most forward passes of a rank whose weight gradients are still to come.
int peak_alive(std::vector<Slot> const& order)
{
    int alive = 0, peak = 0;
    for (auto const& slot : order) {
        if (slot.kind == SlotKind::forward || slot.kind == SlotKind::overlapped) peak = std::max(peak, ++alive);
        if (slot.kind != SlotKind::forward && slot.kind != SlotKind::backward_input) --alive;
    }
    return peak;
}

std::vector<int> peaks(ScheduleKind kind, int pp, int vpp, int micro_batches, bool paired = false)
{
    std::vector<int> all;
    for (auto const& order : make_schedule(kind, pp, vpp, micro_batches, paired).slots)
        all.push_back(peak_alive(order));
    return all;
}

int count(std::vector<Slot> const& order, SlotKind kind)
{
    return static_cast<int>(
        std::count_if(order.begin(), order.end(), [kind](Slot const& slot) { return slot.kind == kind; }));
}

std::string refusal(ScheduleCase const& c)
{
    try {
        make(c);
    } catch (InputError const& error) {
        return error.what();
    }
    return "accepted";
}

} // namespace

TEST_CASE("every micro-batch passes every stage exactly once forward, once backward and once for the weights")
{
    for (auto const& c : test::possible_schedules()) {
        CAPTURE(name(c.kind), c.pp, c.vpp, c.micro_batches, c.paired);
        auto const schedule = make(c);
        PassCounts once;
        for (int stage = 0; stage < schedule.stages; ++stage)
            for (int i = 0; i < c.micro_batches; ++i) once[{stage, i}] = 1;
        auto const counts = count_passes(schedule);
        REQUIRE(counts.forward == once);
        REQUIRE(counts.input_gradient == once);
        REQUIRE(counts.weight_gradient == once);
    }
}

TEST_CASE("an input gradient comes after its forward and before its one weight gradient")
{
    for (auto const& c : test::possible_schedules()) {
        CAPTURE(name(c.kind), c.pp, c.vpp, c.micro_batches, c.paired);
        for (auto const& order : make(c).slots) {
            PassCounts state; // by chunk and micro-batch: 1 forward done, 2 input gradient done, 3 weight gradient done
            auto const advance = [&state](int chunk, int micro_batch, int from, int to) {
                auto& now = state[{chunk, micro_batch}];
                REQUIRE(now == from);
                now = to;
            };
            for (auto const& slot : order) switch (slot.kind) {
                case SlotKind::forward: advance(slot.chunk, slot.micro_batch, 0, 1); break;
                case SlotKind::backward: advance(slot.chunk, slot.micro_batch, 1, 3); break;
                case SlotKind::backward_input: advance(slot.chunk, slot.micro_batch, 1, 2); break;
                case SlotKind::backward_weight: advance(slot.chunk, slot.micro_batch, 2, 3); break;
                case SlotKind::overlapped:
                    advance(slot.backward_chunk, slot.backward_micro_batch, 1, 3);
                    advance(slot.chunk, slot.micro_batch, 0, 1);
                }
        }
    }
}

TEST_CASE("DualPipe on 16 ranks with 120 micro-batches pairs 97 passes on the outer and 103 on the middle ranks")
{
    auto const schedule = make_schedule(ScheduleKind::dualpipe, 16, 1, 120);
    for (std::size_t rank = 0; rank < 16; ++rank) {
        CAPTURE(rank);
        auto const half_rank = static_cast<int>(std::min(rank, 15 - rank));
        auto const middle = half_rank == 7;
        auto const& order = schedule.slots[rank];
        REQUIRE(count(order, SlotKind::overlapped) == 97 + half_rank - (middle ? 1 : 0));
        REQUIRE(count(order, SlotKind::forward) == 23 - half_rank + (middle ? 1 : 0));
        REQUIRE(count(order, SlotKind::backward_weight) == 15 - half_rank);
    }
}

TEST_CASE("a DualPipe micro-batch of the first half runs on chunk 0, one of the second half on chunk 1")
{
    auto const schedule = make_schedule(ScheduleKind::dualpipe, 6, 1, 20);
    for (auto const& order : schedule.slots)
        for (auto const& slot : order) {
            REQUIRE(slot.chunk == slot.micro_batch / 10);
            if (slot.kind == SlotKind::overlapped) REQUIRE(slot.backward_chunk == slot.backward_micro_batch / 10);
        }
    REQUIRE(schedule.slots[0].front() == Slot{SlotKind::forward, 0, 0});
    REQUIRE(schedule.slots[5].front() == Slot{SlotKind::forward, 1, 10});
    REQUIRE(schedule.stage_of(5, 1) == 0);
    REQUIRE(schedule.stage_of(0, 1) == 5);
}

TEST_CASE("chunks sit on the stages that each placement says")
{
    auto const looped = make_schedule(ScheduleKind::interleaved, 4, 3, 8);
    REQUIRE(looped.stages == 12);
    REQUIRE(looped.stage_of(1, 2) == 9);
    for (auto const kind : {ScheduleKind::zb_v, ScheduleKind::dualpipe_v}) {
        auto const folded = make_schedule(kind, 4, 1, 8);
        REQUIRE(folded.stages == 8);
        REQUIRE(folded.stage_of(1, 0) == 1);
        REQUIRE(folded.stage_of(1, 1) == 6);
    }
    auto const plain = make_schedule(ScheduleKind::zb_h1, 4, 1, 8);
    REQUIRE(plain.stages == 4);
    REQUIRE(plain.stage_of(3, 0) == 3);
}

TEST_CASE("schedules hold the activations that their papers claim")
{
    REQUIRE(peaks(ScheduleKind::gpipe, 4, 1, 12) == std::vector{12, 12, 12, 12});
    REQUIRE(peaks(ScheduleKind::one_f_one_b, 4, 1, 12) == std::vector{4, 3, 2, 1});
    REQUIRE(peaks(ScheduleKind::zb_h1, 4, 1, 12) == std::vector{4, 4, 4, 4});        // rank 0 of 1F1B, on every rank
    REQUIRE(peaks(ScheduleKind::zb_v, 4, 1, 12) == std::vector{8, 8, 8, 8});         // of half the size: 1F1B again
    REQUIRE(peaks(ScheduleKind::interleaved, 4, 2, 12) == std::vector{11, 9, 7, 5}); // 2(p-1-r) + (v-1)p + 1
    // DualPipe README: PP + 1 micro-batches.
    for (auto const peak : peaks(ScheduleKind::dualpipe, 8, 1, 40)) REQUIRE(peak <= 9);
    for (auto const peak : peaks(ScheduleKind::dualpipe_v, 4, 1, 40)) REQUIRE(peak <= 9);
    REQUIRE(peaks(ScheduleKind::dualpipe, 8, 1, 40).front() == 9);
    // Pairing 1F1B doubles its activations, as eager 1F1B does.
    REQUIRE(peaks(ScheduleKind::one_f_one_b, 4, 1, 12, true) == std::vector{8, 6, 4, 2});
}

TEST_CASE("pairing merges every steady-state forward with the backward after it, one warm-up pass later")
{
    auto const alone = make_schedule(ScheduleKind::none, 1, 1, 3, true).slots.at(0);
    REQUIRE(alone == std::vector<Slot>{{SlotKind::forward, 0, 0},
                                       {SlotKind::overlapped, 0, 1, 0, 0},
                                       {SlotKind::overlapped, 0, 2, 0, 1},
                                       {SlotKind::backward, 0, 2}});

    auto const interleaved = make_schedule(ScheduleKind::interleaved, 4, 2, 16, true);
    for (int rank = 0; rank < 4; ++rank) {
        auto const& order = interleaved.slots[static_cast<std::size_t>(rank)];
        auto const warm_up = 2 * (3 - rank) + 4 + 1;
        REQUIRE(count(order, SlotKind::forward) == warm_up);
        REQUIRE(count(order, SlotKind::backward) == warm_up);
        REQUIRE(count(order, SlotKind::overlapped) == 32 - warm_up);
    }
}

TEST_CASE("pairing changes nothing where the schedule pairs by itself or has no steady state")
{
    using enum ScheduleKind;
    for (auto const kind : {gpipe, zb_h1, zb_v, dualpipe, dualpipe_v})
        REQUIRE(make_schedule(kind, 4, 1, 12, true).slots == make_schedule(kind, 4, 1, 12, false).slots);
}

TEST_CASE("schedules exist exactly where the papers' conditions hold")
{
    for (auto const& c : test::schedule_grid()) {
        CAPTURE(name(c.kind), c.pp, c.vpp, c.micro_batches, c.paired);
        REQUIRE((refusal(c) == "accepted") == test::is_possible(c));
    }
}

TEST_CASE("a refusal says what is wrong, why, and what to try")
{
    using enum ScheduleKind;
    REQUIRE(refusal({dualpipe, 7, 1, 120}) == "plan.pp = 7 with schedule dualpipe (each rank pairs with its mirror "
                                              "image, so pp must be even); try 8");
    REQUIRE(refusal({dualpipe, 4, 1, 11}) == "plan.global_batch gives 11 micro-batches with schedule dualpipe (half of "
                                             "them enter at each end, so their number must be even); try 12");
    REQUIRE(refusal({dualpipe, 16, 1, 30}) == "plan.global_batch gives 30 micro-batches with schedule dualpipe on "
                                              "pp = 16 (filling and draining takes 2 pp of them); try 32, or "
                                              "schedule 1f1b");
    REQUIRE(refusal({interleaved, 8, 2, 12}) == "plan.global_batch gives 12 micro-batches with schedule interleaved on "
                                                "pp = 8 (they go round in groups of pp); try 16 micro-batches");
    REQUIRE(refusal({interleaved, 8, 1, 16}) == "plan.vpp = 1 with schedule interleaved (a rank must hold at least two "
                                                "chunks); try vpp = 2, or schedule 1f1b");
    REQUIRE(refusal({none, 2, 1, 16}) ==
            "plan.pp = 2 with schedule none (more than one rank needs a schedule); try 1f1b");
    REQUIRE(refusal({one_f_one_b, 4, 2, 16}) ==
            "plan.vpp = 2 with schedule 1f1b (its ranks hold 1 chunk each); try vpp = 1, or schedule interleaved");
    REQUIRE(refusal({gpipe, 0, 1, 16}) == "plan.pp = 0 (a pipeline has at least one rank); try 1");
    REQUIRE(refusal({gpipe, 1, -3, 16}) == "plan.vpp = -3 (a rank holds at least one chunk); try 1");
    REQUIRE(refusal({gpipe, 1, 1, 0}) == "plan.global_batch gives 0 micro-batches (a step needs at least one); try "
                                         "dp x micro_batch or a multiple of it");
}

TEST_CASE("numbers that no machine could lay out are refused, not tried")
{
    using enum ScheduleKind;
    for (auto const kind : {none, gpipe, one_f_one_b, interleaved, zb_h1, zb_v, dualpipe, dualpipe_v})
        for (auto const& c : {ScheduleCase{kind, INT_MAX, 1, 1}, ScheduleCase{kind, 2, INT_MAX, INT_MAX},
                              ScheduleCase{kind, 2, 1, INT_MAX}, ScheduleCase{kind, INT_MAX, INT_MAX, INT_MAX},
                              ScheduleCase{kind, INT_MIN, INT_MIN, INT_MIN}})
            REQUIRE(refusal(c) != "accepted");
    REQUIRE(refusal({zb_v, 513, 1, 1}) == "plan.pp = 513 (a schedule lays out at most 512 ranks); try fewer");
    REQUIRE(refusal({gpipe, 500, 1, 2001}) == "plan.pp = 500 and plan.vpp = 1 with 2001 micro-batches (a schedule "
                                               "lays out at most 1000000 passes); try fewer micro-batches");
}

TEST_CASE("published bubbles are the papers' formulas")
{
    using enum ScheduleKind;
    SlotTimes const t{1, 2, 0.5, 2.5};
    REQUIRE(published_bubble(none, 1, 1, t) == 0);
    REQUIRE(published_bubble(gpipe, 16, 1, t) == 45);
    REQUIRE(published_bubble(one_f_one_b, 16, 1, t) == 45);
    REQUIRE(published_bubble(interleaved, 16, 3, t) == 15);
    REQUIRE(published_bubble(zb_h1, 16, 1, t) == 30);
    REQUIRE(published_bubble(dualpipe, 16, 1, t) == 21);  // 7 (2.5 + 2 - 1.5)
    REQUIRE(published_bubble(dualpipe_v, 8, 1, t) == 21); // the same 16 stages on 8 ranks
    REQUIRE(published_bubble(zb_v, 16, 1, {1, 2, 1, 3}) == 0);
    REQUIRE_FALSE(published_bubble(zb_v, 16, 1, t).has_value());
}
