// SPDX-License-Identifier: Apache-2.0
//
// Times of slots against the published formulas, and against a second, plain evaluation of the same dependencies.
#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "model/error.hpp"
#include "model/schedule.hpp"
#include "tests/catch.hpp"
#include "tests/model/schedule_cases.hpp"

using namespace trainfare;

namespace {

/// Idle time between a rank's first and last slot.
double idle_inside(SlotTiming const& timing, std::size_t rank)
{
    auto const busy = timing.makespan - timing.idle[rank];
    return timing.end[rank].back() - timing.start[rank].front() - busy;
}

void require_idle(PipelineSchedule const& schedule, SlotTimes const& times, double expected)
{
    for (auto const idle : time_slots(schedule, times).idle) REQUIRE(idle == Approx(expected).margin(1e-9));
}

std::vector<SlotTimes> const any_times{{1, 2, 1, 3}, {2, 5, 2, 6}, {1, 3.25, 1, 3.5}, {1.5, 2, 0.75, 3}};

/// Ends of all slots, found the slow way: sweep over the ranks until nothing moves.
class PlainEvaluation {
public:
    PlainEvaluation(PipelineSchedule const& schedule, std::vector<double> const& durations, double send)
        : schedule_{schedule}, durations_{durations}, send_{send}
    {
        std::vector<std::size_t> next(schedule.slots.size(), 0);
        std::vector<double> clock(schedule.slots.size(), 0);
        end.resize(schedule.slots.size());
        for (bool moved = true; moved;) {
            moved = false;
            for (std::size_t rank = 0; rank < next.size(); ++rank)
                while (next[rank] < schedule.slots[rank].size()) {
                    auto const& slot = schedule.slots[rank][next[rank]];
                    auto const start = start_of(static_cast<int>(rank), slot, clock[rank]);
                    if (start < 0) break;
                    clock[rank] = start + durations_[number(rank, next[rank]++)];
                    end[rank].push_back(clock[rank]);
                    record(static_cast<int>(rank), slot, clock[rank]);
                    moved = true;
                }
        }
    }

    std::vector<std::vector<double>> end;

private:
    using Key = std::tuple<char, int, int>; // F or B, stage, micro-batch

    [[nodiscard]] std::size_t number(std::size_t rank, std::size_t slot) const
    {
        for (std::size_t r = 0; r < rank; ++r) slot += schedule_.slots[r].size();
        return slot;
    }
    /// When data of a pass is at @p rank; -1: not yet computed.
    [[nodiscard]] double arrival(Key const& key, int rank) const
    {
        if (std::get<1>(key) < 0 || std::get<1>(key) >= schedule_.stages) return 0;
        auto const found = done_.find(key);
        if (found == done_.end()) return -1;
        return found->second.second + (found->second.first == rank ? 0 : send_);
    }
    [[nodiscard]] double start_of(int rank, Slot const& slot, double free) const
    {
        std::vector<double> inputs{free};
        auto const stage = schedule_.stage_of(rank, slot.chunk);
        if (slot.kind == SlotKind::forward || slot.kind == SlotKind::overlapped)
            inputs.push_back(arrival({'F', stage - 1, slot.micro_batch}, rank));
        auto const back = [&](int s, int micro_batch) {
            inputs.push_back(arrival({'B', s + 1, micro_batch}, rank));
            inputs.push_back(arrival({'F', s, micro_batch}, rank));
        };
        if (slot.kind == SlotKind::backward || slot.kind == SlotKind::backward_input) back(stage, slot.micro_batch);
        if (slot.kind == SlotKind::overlapped)
            back(schedule_.stage_of(rank, slot.backward_chunk), slot.backward_micro_batch);
        if (slot.kind == SlotKind::backward_weight) inputs.push_back(arrival({'B', stage, slot.micro_batch}, rank));
        if (*std::min_element(inputs.begin(), inputs.end()) < 0) return -1;
        return *std::max_element(inputs.begin(), inputs.end());
    }
    void record(int rank, Slot const& slot, double time)
    {
        auto const stage = schedule_.stage_of(rank, slot.chunk);
        if (slot.kind == SlotKind::forward || slot.kind == SlotKind::overlapped)
            done_[{'F', stage, slot.micro_batch}] = {rank, time};
        if (slot.kind == SlotKind::backward || slot.kind == SlotKind::backward_input)
            done_[{'B', stage, slot.micro_batch}] = {rank, time};
        if (slot.kind == SlotKind::overlapped)
            done_[{'B', schedule_.stage_of(rank, slot.backward_chunk), slot.backward_micro_batch}] = {rank, time};
    }

    PipelineSchedule const& schedule_;
    std::vector<double> const& durations_;
    double send_;
    std::map<Key, std::pair<int, double>> done_;
};

} // namespace

TEST_CASE("every schedule completes for random slot times, and as a plain evaluation says")
{
    std::mt19937 random{7};
    std::uniform_real_distribution<double> time{0.0, 2.0};
    for (auto const& c : test::possible_schedules()) {
        CAPTURE(name(c.kind), c.pp, c.vpp, c.micro_batches, c.paired);
        auto const schedule = make(c);
        auto const graph = slot_graph(schedule);
        std::vector<double> durations(static_cast<std::size_t>(graph.slots()));
        for (auto& duration : durations) duration = time(random);
        auto const send = time(random);
        auto const timing = time_slots(graph, durations, send);
        REQUIRE(timing.end == PlainEvaluation{schedule, durations, send}.end);
    }
}

TEST_CASE("a 16-stage pipeline with 16 micro-batches idles 15/31 of the time")
{
    auto const timing = time_slots(make_schedule(ScheduleKind::gpipe, 16, 1, 16), {});
    REQUIRE(timing.idle.at(7) / timing.makespan == Approx(15.0 / 31));
}

TEST_CASE("GPipe and 1F1B idle (p-1)(F+B) whatever the times")
{
    for (auto const kind : {ScheduleKind::gpipe, ScheduleKind::one_f_one_b})
        for (auto const pp : {1, 2, 4, 7, 16})
            for (auto const micro_batches : {pp, pp + 3, 5 * pp})
                for (auto const& t : any_times)
                    require_idle(make_schedule(kind, pp, 1, micro_batches), t, *published_bubble(kind, pp, 1, t));
}

TEST_CASE("interleaving with v chunks idles (p-1)(F+B)/v whatever the times")
{
    for (auto const pp : {2, 4, 8})
        for (auto const vpp : {2, 3, 4})
            for (auto const rounds : {1, 2, 5})
                for (auto const& t : any_times) {
                    SlotTimes const chunk{t.forward / vpp, t.backward / vpp, t.weight / vpp, t.overlapped / vpp};
                    require_idle(make_schedule(ScheduleKind::interleaved, pp, vpp, rounds * pp), chunk,
                                 *published_bubble(ScheduleKind::interleaved, pp, vpp, t));
                }
}

TEST_CASE("ZB-H1 idles (p-1)(F+B-2W) where W is at most F and B-W")
{
    for (auto const pp : {1, 2, 4, 7, 16})
        for (auto const micro_batches : {2 * pp, 2 * pp + 1, 6 * pp})
            for (auto const& t : any_times)
                require_idle(make_schedule(ScheduleKind::zb_h1, pp, 1, micro_batches), t,
                             *published_bubble(ScheduleKind::zb_h1, pp, 1, t));
}

TEST_CASE("ZB-H1 idles longer than published where weight gradients are the longest part")
{
    SlotTimes const t{1, 3, 2, 4};
    REQUIRE(published_bubble(ScheduleKind::zb_h1, 4, 1, t) == 0);
    require_idle(make_schedule(ScheduleKind::zb_h1, 4, 1, 40), t, 3);
}

TEST_CASE("ZB-V has no bubble between the first and last slot of any rank where F = B-W = W")
{
    for (auto const pp : {1, 2, 4, 7, 16})
        for (auto const micro_batches : {2 * pp, 2 * pp + 1, 6 * pp}) {
            SlotTimes const t{0.5, 1, 0.5, 1.5};
            auto const timing = time_slots(make_schedule(ScheduleKind::zb_v, pp, 1, micro_batches), t);
            for (std::size_t rank = 0; rank < timing.idle.size(); ++rank) {
                REQUIRE(idle_inside(timing, rank) == published_bubble(ScheduleKind::zb_v, pp, 1, t));
                REQUIRE(timing.start[rank].front() == 0.5 * static_cast<double>(rank));
                REQUIRE(timing.idle[rank] == 0.5 * (pp - 1)); // ranks start one after the other, and end so
            }
        }
}

TEST_CASE("DualPipe and DualPipeV idle as published on every rank where F = B-W >= W and FB = F+B")
{
    for (auto const& t : {SlotTimes{1, 2, 1, 3}, SlotTimes{1, 1.75, 0.75, 2.75}, SlotTimes{2, 3, 1, 5}})
        for (auto const half : {1, 2, 4, 8})
            for (auto const micro_batches : {4 * half, 4 * half + 2, 12 * half}) {
                auto const pp = 2 * half;
                require_idle(make_schedule(ScheduleKind::dualpipe, pp, 1, micro_batches), t,
                             *published_bubble(ScheduleKind::dualpipe, pp, 1, t));
                require_idle(make_schedule(ScheduleKind::dualpipe_v, half, 1, micro_batches), t,
                             *published_bubble(ScheduleKind::dualpipe_v, half, 1, t));
            }
}

TEST_CASE("DualPipe's middle ranks idle as published where F = B-W >= W, however much a pair gains")
{
    for (auto const paired : {2.0, 2.25, 2.5, 3.0, 3.5})
        for (auto const half : {1, 2, 4, 8}) {
            SlotTimes const t{1, 2, 1, paired};
            auto const expected = *published_bubble(ScheduleKind::dualpipe, 2 * half, 1, t);
            auto const two_ended = time_slots(make_schedule(ScheduleKind::dualpipe, 2 * half, 1, 8 * half), t);
            auto const middle = static_cast<std::size_t>(half);
            REQUIRE(two_ended.idle[middle - 1] == Approx(expected).margin(1e-9));
            REQUIRE(two_ended.idle[middle] == Approx(expected).margin(1e-9));
            auto const folded = time_slots(make_schedule(ScheduleKind::dualpipe_v, half, 1, 8 * half), t);
            REQUIRE(folded.idle[middle - 1] == Approx(expected).margin(1e-9));
        }
}

TEST_CASE("DualPipe's published bubble is only near the slots' where F is not B-W")
{
    SlotTimes const slow_backward{2, 5, 2, 6};
    REQUIRE(published_bubble(ScheduleKind::dualpipe, 4, 1, slow_backward) == 5);
    require_idle(make_schedule(ScheduleKind::dualpipe, 4, 1, 24), slow_backward, 4);
}

TEST_CASE("pairing costs 1F1B and interleaved no bubble where a pair takes as long as its parts")
{
    require_idle(make_schedule(ScheduleKind::none, 1, 1, 8, true), {}, 0);
    for (auto const pp : {2, 4, 8}) {
        require_idle(make_schedule(ScheduleKind::one_f_one_b, pp, 1, 6 * pp, true), {}, 3 * (pp - 1));
        require_idle(make_schedule(ScheduleKind::interleaved, pp, 2, 6 * pp, true), {}, 3 * (pp - 1));
    }
}

TEST_CASE("a send delays the other rank's slot and nobody else's")
{
    // Two ranks, one micro-batch: F 0-1, send, F 1.5-2.5, B 2.5-4.5, send, B 5-7.
    auto const line = slot_graph(make_schedule(ScheduleKind::gpipe, 2, 1, 1));
    auto const timing = time_slots(line, std::vector<double>{1, 2, 1, 2}, 0.5);
    REQUIRE(timing.makespan == 7);
    REQUIRE(timing.start[0] == std::vector<double>{0, 5});
    REQUIRE(timing.start[1] == std::vector<double>{1.5, 2.5});
    REQUIRE(timing.idle == std::vector<double>{4, 4});
    // The fold of a V lies inside one rank.
    auto const fold = slot_graph(make_schedule(ScheduleKind::zb_v, 1, 1, 1));
    REQUIRE(time_slots(fold, std::vector<double>(6, 1.0), 0.5).makespan == 6);
}

TEST_CASE("makespan alone is the makespan of the full timing")
{
    auto const graph = slot_graph(make_schedule(ScheduleKind::dualpipe, 4, 1, 12));
    std::vector<double> durations(static_cast<std::size_t>(graph.slots()), 1.25), end;
    REQUIRE(makespan(graph, durations, 0.125, end) == time_slots(graph, durations, 0.125).makespan);
    REQUIRE(end.size() == durations.size() + 1);
    durations.pop_back();
    REQUIRE_THROWS_AS(makespan(graph, durations, 0, end), InternalError);
}
