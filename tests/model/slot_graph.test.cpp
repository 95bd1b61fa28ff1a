// SPDX-License-Identifier: Apache-2.0
//
// The dependency graph, and broken schedules that it must catch: a hand-made order may wait for ever.
#include <algorithm>
#include <string>
#include <vector>

#include "model/error.hpp"
#include "model/schedule.hpp"
#include "tests/catch.hpp"
#include "tests/model/schedule_cases.hpp"

using namespace trainfare;

namespace {

std::string failure(PipelineSchedule const& schedule)
{
    try {
        slot_graph(schedule);
    } catch (InternalError const& error) {
        return error.what();
    }
    return "fine";
}

PipelineSchedule one_f_one_b() { return make_schedule(ScheduleKind::one_f_one_b, 2, 1, 2); }

} // namespace

TEST_CASE("a slot graph names who waits for whom, and across which ranks")
{
    // Rank 0: F0 F1 B0 B1 are slots 0..3; rank 1: F0 B0 F1 B1 are slots 4..7.
    auto graph = slot_graph(one_f_one_b());
    REQUIRE(graph.ranks() == 2);
    REQUIRE(graph.slots() == 8);
    REQUIRE(graph.rank_begin == std::vector<std::int32_t>{0, 4, 8});
    std::sort(graph.steps.begin(), graph.steps.end(), [](auto const& a, auto const& b) { return a.slot < b.slot; });
    auto const& first_forward = graph.steps[4];
    REQUIRE(first_forward.previous == -1);
    REQUIRE(first_forward.forward == 0);
    REQUIRE(first_forward.forward_sent);
    REQUIRE(first_forward.backward == -1);
    auto const& last_backward = graph.steps[3];
    REQUIRE(last_backward.previous == 2);
    REQUIRE(last_backward.forward == -1);
    REQUIRE(last_backward.backward == 7);
    REQUIRE(last_backward.backward_sent);
    auto const& turn = graph.steps[5]; // the last stage's backward waits for nothing but its own forward
    REQUIRE(turn.previous == 4);
    REQUIRE(turn.backward == -1);
}

TEST_CASE("the steps of a slot graph are in an executable order")
{
    for (auto const& c : test::possible_schedules()) {
        CAPTURE(name(c.kind), c.pp, c.vpp, c.micro_batches, c.paired);
        auto const graph = slot_graph(make(c));
        std::vector<bool> done(static_cast<std::size_t>(graph.slots()) + 1, false);
        done[0] = true;
        auto const is_done = [&done](std::int32_t slot) { return done.at(static_cast<std::size_t>(slot + 1)); };
        for (auto const& step : graph.steps) {
            REQUIRE((is_done(step.previous) && is_done(step.forward) && is_done(step.backward) && !is_done(step.slot)));
            done.at(static_cast<std::size_t>(step.slot + 1)) = true;
        }
        REQUIRE(std::count(done.begin(), done.end(), true) == graph.slots() + 1);
    }
}

TEST_CASE("ranks that wait for each other are an error, not a hang")
{
    auto schedule = one_f_one_b();
    std::swap(schedule.slots[0][1], schedule.slots[0][3]); // rank 0 wants B1 before it has run F1 ...
    REQUIRE(failure(schedule) == "schedule: the forward of micro-batch 1 on stage 0 comes after its backward");

    schedule = one_f_one_b();
    std::swap(schedule.slots[0][2], schedule.slots[0][3]); // ... B1 before B0 is slow but possible ...
    REQUIRE(failure(schedule) == "fine");

    schedule.slots[0] = {{SlotKind::forward, 0, 1}, {SlotKind::backward, 0, 1}, {SlotKind::forward, 0, 0},
                         {SlotKind::backward, 0, 0}}; // ... but rank 1 wants F0 first, which waits for B1 of rank 1.
    REQUIRE(failure(schedule) == "schedule: after 1 of 8 slots every rank waits for another");
}

TEST_CASE("missing, double and misplaced passes are errors")
{
    auto schedule = one_f_one_b();
    schedule.slots[1].pop_back();
    REQUIRE(failure(schedule) == "schedule: the backward of micro-batch 1 on stage 1 never runs");

    schedule = one_f_one_b();
    schedule.slots[1].push_back({SlotKind::backward, 0, 1});
    REQUIRE(failure(schedule) == "schedule: the backward of micro-batch 1 on stage 1 runs twice");

    schedule = one_f_one_b();
    schedule.slots[0][0].micro_batch = 5;
    REQUIRE(failure(schedule) == "schedule: the forward of micro-batch 5 on stage 0 does not exist");

    schedule = one_f_one_b();
    schedule.slots[1].back().micro_batch = -1;
    REQUIRE(failure(schedule) == "schedule: the forward of micro-batch -1 on stage 1 does not exist");

    schedule = one_f_one_b();
    schedule.slots.pop_back();
    REQUIRE(failure(schedule) == "schedule: 1 slot orders for 2 ranks");

    schedule = make_schedule(ScheduleKind::zb_h1, 1, 1, 1); // F I W
    std::swap(schedule.slots[0][1], schedule.slots[0][2]);
    REQUIRE(failure(schedule) == "schedule: the backward of micro-batch 0 on stage 0 comes after its weight gradient");

    schedule = make_schedule(ScheduleKind::zb_h1, 1, 1, 1);
    schedule.slots[0].pop_back();
    REQUIRE(failure(schedule) == "schedule: the weight gradient of micro-batch 0 on stage 0 never runs");

    schedule = make_schedule(ScheduleKind::none, 1, 1, 2, true); // F0 F1&B0 B1
    schedule.slots[0][1].backward_micro_batch = 1;               // a pair cannot feed itself
    REQUIRE(failure(schedule) == "schedule: the forward of micro-batch 1 on stage 0 comes after its backward");
}
