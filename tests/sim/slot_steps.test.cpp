// SPDX-License-Identifier: Apache-2.0
//
// The order inside a slot: what runs beside what decides how much of an exchange hides.
#include "sim/slot_steps.hpp"

#include <algorithm>
#include <set>

#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

double computed(std::vector<SlotStep> const& steps)
{
    double sum = 0;
    for (auto const& s : steps)
        if (s.compute) sum += seconds(*s.compute);
    return sum;
}

/// A pipeline rank with these blocks as chunk 0 and these as chunk 1.
StepModel two_chunks(StepModel const& from, std::vector<BlockCost> const& first, std::vector<BlockCost> const& second)
{
    StepModel step = from;
    StageCost stage;
    stage.chunk_begin = {0, static_cast<int>(first.size()), static_cast<int>(first.size() + second.size())};
    stage.blocks = first;
    stage.blocks.insert(stage.blocks.end(), second.begin(), second.end());
    step.stages = {stage};
    return step;
}

struct Blocks {
    StepModel step;
    BlockCost moe, dense;
};

Blocks blocks()
{
    Blocks b{price(moe_case(ScheduleKind::dualpipe, 2, 16, 16, 8)), {}, {}};
    for (auto const& stage : b.step.stages)
        for (auto const& block : stage.blocks) {
            bool const exchanges = block.priced.forward.front().exchanges;
            if (exchanges) b.moe = block;
            if (!exchanges && block.priced.weight.front() != ClassSeconds{}) b.dense = block;
        }
    return b;
}

constexpr Slot pair{SlotKind::overlapped, 0, 0, 1, 0};

/// After an exchange of one chain the other computes (if it still has anything to compute) before the first goes on.
void check_turns(std::vector<SlotStep> const& steps)
{
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (!steps[i].exchanges) continue;
        bool other_first = false, own_seen = false, other_left = false;
        for (std::size_t j = i + 1; j < steps.size(); ++j) {
            if (!steps[j].compute || steps[j].weight) continue;
            bool const own = steps[j].backward == steps[i].backward;
            if (!own) other_left = true;
            if (!own && !own_seen) other_first = true;
            own_seen = own_seen || own;
        }
        if (other_left) CHECK(other_first);
    }
}

/// Each weight gradient runs after the segment that frees it, and each exactly once.
void check_weights(StageCost const& stage, std::vector<SlotStep> const& steps, int chunk)
{
    for (int b = stage.chunk_begin[static_cast<std::size_t>(chunk)];
         b < stage.chunk_begin[static_cast<std::size_t>(chunk) + 1]; ++b) {
        auto const& priced = stage.blocks[static_cast<std::size_t>(b)].priced;
        auto const place = [&](ClassSeconds const& parts) {
            std::vector<std::size_t> places;
            for (std::size_t i = 0; i < steps.size(); ++i)
                if (steps[i].compute == &parts && steps[i].block == b) places.push_back(i);
            return places;
        };
        for (std::size_t s = 0; s < priced.weight.size(); ++s) {
            if (seconds(priced.weight[s]) == 0) continue;
            auto const weight = place(priced.weight[s]), segment = place(priced.backward[s].compute);
            REQUIRE(weight.size() == 1);
            CHECK(steps[weight[0]].weight);
            CHECK(steps[weight[0]].backward);
            if (seconds(priced.backward[s].compute) == 0) continue;
            REQUIRE(segment.size() == 1);
            CHECK(weight[0] > segment[0]);
        }
    }
}

std::set<int> ends(std::vector<SlotStep> const& steps, bool backward)
{
    std::set<int> found;
    for (auto const& s : steps)
        if (s.block_end && s.backward == backward) found.insert(s.block);
    return found;
}

} // namespace

TEST_CASE("an expert layer is dispatch and combine forward, and the two in reverse backward")
{
    auto const b = blocks();
    auto const step = two_chunks(b.step, {b.moe}, {b.moe});
    auto const exchanges = [](std::vector<SlotStep> const& steps) {
        std::vector<bool> dispatches;
        for (auto const& s : steps)
            if (s.exchanges) dispatches.push_back(s.is_dispatch);
        return dispatches;
    };
    auto const forward = slot_steps(step, 0, {SlotKind::forward, 0, 0});
    CHECK(exchanges(forward) == std::vector{true, false});
    for (auto const& s : forward) CHECK_FALSE(s.backward);
    auto const backward = slot_steps(step, 0, {SlotKind::backward, 0, 0});
    CHECK(exchanges(backward).size() == 2);
    for (auto const& s : backward) CHECK(s.backward);
}

TEST_CASE("in an overlapped pair every exchange runs beside the other micro-batch's compute")
{
    auto const b = blocks();
    auto const chunks = std::vector<std::pair<std::vector<BlockCost>, std::vector<BlockCost>>>{
        {{b.moe}, {b.moe}},
        {{b.moe, b.moe}, {b.moe, b.moe}},
        {{b.dense, b.moe}, {b.moe, b.moe}},
        {{b.moe, b.moe}, {b.dense, b.moe}},
        {{b.dense}, {b.moe, b.moe}},
        {{b.moe, b.moe}, {b.dense}},
    };
    for (auto const& [first, second] : chunks) {
        auto const step = two_chunks(b.step, first, second);
        auto const steps = slot_steps(step, 0, pair);
        check_turns(steps);
        check_weights(step.stages[0], steps, 1);
        CHECK(ends(steps, false).size() == first.size());
        CHECK(ends(steps, true).size() == second.size());
        CHECK(std::count_if(steps.begin(), steps.end(), [](auto const& s) { return s.first; }) == 2);
    }
}

TEST_CASE("a pair's steps are its forward's and its backward's, each in its own order")
{
    auto const b = blocks();
    auto const step = two_chunks(b.step, {b.dense, b.moe}, {b.moe, b.moe});
    auto const both = slot_steps(step, 0, pair);
    auto const forward = slot_steps(step, 0, {SlotKind::forward, 0, 0});
    auto const backward = slot_steps(step, 0, {SlotKind::backward, 1, 0});
    CHECK(both.size() == forward.size() + backward.size());
    CHECK(computed(both) == Approx(computed(forward) + computed(backward)));
    auto const chain = [](std::vector<SlotStep> const& steps, bool backwards) {
        std::vector<std::pair<ClassSeconds const*, bool>> out;
        for (auto const& s : steps)
            if (s.backward == backwards && !s.weight) out.emplace_back(s.compute, s.exchanges);
        return out;
    };
    CHECK(chain(both, false) == chain(forward, false));
    CHECK(chain(both, true) == chain(backward, true));
}

TEST_CASE("weight gradients do not hold up the exchange of their turn")
{
    auto const b = blocks();
    auto const steps = slot_steps(two_chunks(b.step, {b.moe, b.moe}, {b.moe, b.moe}), 0, pair);
    bool freed = false; // a weight gradient ran in this turn and no exchange since
    bool backward = false;
    for (auto const& s : steps) {
        if (s.weight) {
            freed = true, backward = true;
            continue;
        }
        if (s.backward != backward) freed = false, backward = s.backward;
        if (s.exchanges) CHECK_FALSE((freed && s.backward));
    }
}

TEST_CASE("a backward slot is its input gradient and its weight gradient")
{
    auto const b = blocks();
    auto const step = two_chunks(b.step, {b.dense, b.moe, b.moe}, {});
    auto const whole = slot_steps(step, 0, {SlotKind::backward, 0, 0});
    auto const input = slot_steps(step, 0, {SlotKind::backward_input, 0, 0});
    auto const weight = slot_steps(step, 0, {SlotKind::backward_weight, 0, 0});
    check_weights(step.stages[0], whole, 0);
    for (auto const& s : input) CHECK_FALSE(s.weight);
    REQUIRE_FALSE(weight.empty());
    for (auto const& s : weight) {
        CHECK(s.weight);
        CHECK_FALSE(s.exchanges);
        CHECK_FALSE(s.first);
    }
    CHECK(computed(whole) == Approx(computed(input) + computed(weight)));
    CHECK(computed(weight) > 0);
    for (auto const* steps : {&whole, &input, &weight}) CHECK(ends(*steps, true) == std::set{0, 1, 2});
}

TEST_CASE("the last block of a chunk is the first to run backward")
{
    auto const b = blocks();
    auto const step = two_chunks(b.step, {b.dense, b.moe, b.moe}, {});
    int last = 3;
    for (auto const& s : slot_steps(step, 0, {SlotKind::backward, 0, 0})) {
        CHECK(s.block <= last);
        last = s.block;
    }
    CHECK(last == 0);
}

TEST_CASE("uneven loads lengthen every exchange, contention with compute only those of overlapped slots")
{
    auto const b = blocks();
    auto step = two_chunks(b.step, {b.moe}, {b.moe});
    auto const payloads = [&](Slot const& slot) {
        double sum = 0;
        for (auto const& s : slot_steps(step, 0, slot)) sum += s.exchanges ? s.payload : 0;
        return sum;
    };
    double const alone = payloads({SlotKind::forward, 0, 0}) + payloads({SlotKind::backward, 1, 0});
    double const together = payloads(pair);
    CHECK(together == Approx(alone));
    step.exchange_skew = 1.5, step.exchange_contention = 1.25;
    CHECK(payloads({SlotKind::forward, 0, 0}) + payloads({SlotKind::backward, 1, 0}) == Approx(1.5 * alone));
    CHECK(payloads(pair) == Approx(1.5 * 1.25 * together));
}

TEST_CASE("ZeRO-2 and ZeRO-3 reduce each block once in every backward, ZeRO-3 gathers it once in every pass")
{
    auto const b = blocks();
    for (int zero = 0; zero <= 3; ++zero) {
        auto step = two_chunks(b.step, {b.dense, b.moe}, {b.moe, b.moe});
        step.plan.zero = zero;
        auto const count = [&](Slot const& slot, bool SlotStep::*what) {
            std::multiset<int> found;
            for (auto const& s : slot_steps(step, 0, slot))
                if (s.*what) found.insert(s.block);
            return found;
        };
        using Set = std::multiset<int>;
        bool const reduces = zero >= 2, gathers = zero == 3;
        CHECK(count({SlotKind::forward, 0, 0}, &SlotStep::reduces).empty());
        CHECK(count({SlotKind::backward, 0, 0}, &SlotStep::reduces) == (reduces ? Set{0, 1} : Set{}));
        CHECK(count({SlotKind::backward_input, 0, 0}, &SlotStep::reduces).empty());
        CHECK(count({SlotKind::backward_weight, 0, 0}, &SlotStep::reduces) == (reduces ? Set{0, 1} : Set{}));
        CHECK(count(pair, &SlotStep::reduces) == (reduces ? Set{2, 3} : Set{}));
        CHECK(count({SlotKind::forward, 0, 0}, &SlotStep::gathers) == (gathers ? Set{0, 1} : Set{}));
        CHECK(count({SlotKind::backward, 0, 0}, &SlotStep::gathers) == (gathers ? Set{0, 1} : Set{}));
        CHECK(count(pair, &SlotStep::gathers) == (gathers ? Set{0, 1, 2, 3} : Set{}));
    }
}

TEST_CASE("a slot on an idle machine takes its compute plus what its exchanges cannot hide")
{
    auto const b = blocks();
    auto const step = two_chunks(b.step, {b.moe}, {b.moe});
    auto const& stage = step.stages[0];
    // Forward alone: attention, dispatch, experts, combine one after the other.
    double serial = 0;
    for (auto const& segment : b.moe.priced.forward) {
        serial += seconds(segment.compute);
        if (segment.exchanges) serial += step.exchange_latency + segment.payload * step.exchange_seconds_per_byte;
    }
    auto const forward = slot_end(step, stage, slot_steps(step, 0, {SlotKind::forward, 0, 0}));
    CHECK(forward.forward == Approx(serial));
    CHECK(forward.end == Approx(serial));
    auto const both = slot_steps(step, 0, pair);
    auto const end = slot_end(step, stage, both);
    CHECK(end.end >= computed(both) * (1 - 1e-12));
    CHECK(end.forward <= end.end);
    CHECK(end.backward <= end.end);
}
