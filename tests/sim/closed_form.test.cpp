// SPDX-License-Identifier: Apache-2.0
//
// The closed form beside the simulation: equal where nothing contends, faster where something does.
#include "sim/closed_form.hpp"

#include "sim/simulate.hpp"
#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

double simulated(StepModel const& step, Cluster const& cluster)
{
    auto const iteration = build_iteration(step, cluster);
    return simulate(fold(iteration.problem)).makespan.value();
}

} // namespace

TEST_CASE("the closed form is within 3 % of the simulation where nothing contends")
{
    for (auto const& s : schedules()) {
        DYNAMIC_SECTION(words(s))
        {
            auto const c = moe_case(s.kind, 4, 16, 16, 2 * s.micro_batches, s.overlap);
            auto const step = price(c);
            CHECK(closed_form(step).step.value() == Approx(simulated(step, c.cluster)).epsilon(0.03));
        }
    }
}

TEST_CASE("the closed form is within 3 % of the simulation for data parallelism at every ZeRO stage")
{
    for (int zero = 0; zero <= 3; ++zero)
        for (bool const overlap : {true, false}) {
            DYNAMIC_SECTION("ZeRO-" << zero << (overlap ? ", overlapped" : ", not overlapped"))
            {
                auto c = dense_case(32, 8);
                c.arch = dense_model(8);
                c.plan.zero = zero;
                c.plan.overlap_dp = overlap;
                auto const step = price(c);
                CHECK(closed_form(step).step.value() == Approx(simulated(step, c.cluster)).epsilon(0.03));
            }
        }
}

TEST_CASE("gradients and weights that the pipeline cannot hide are in the closed form too")
{
    for (auto const kind : {ScheduleKind::one_f_one_b, ScheduleKind::dualpipe})
        for (int const ep : {8, 16, 64}) { // 32, 16 and 4 experts on a GPU
            DYNAMIC_SECTION(name(kind) << ", EP" << ep)
            {
                auto const c = moe_case(kind, 4, 64, ep, 12, kind == ScheduleKind::dualpipe);
                auto const step = price(c);
                CHECK(closed_form(step).step.value() == Approx(simulated(step, c.cluster)).epsilon(0.03));
            }
        }
}

TEST_CASE("behind oversubscribed leaves the simulation takes longer than the closed form, which cannot know")
{
    auto c = moe_case(ScheduleKind::dualpipe, 4, 32, 16, 8);
    auto const step = price(c);
    c.cluster.nodes_per_leaf = 2;
    c.cluster.oversubscription = 16;
    c.cluster.placement = Placement::spread;
    auto const narrow = price(c);
    CHECK(closed_form(narrow).step.value() == closed_form(step).step.value());
    CHECK(simulated(narrow, c.cluster) > 1.2 * closed_form(narrow).step.value());
}

TEST_CASE("the step is the pipeline and its tail, and no rank's slot is missing")
{
    for (auto const& s : schedules()) {
        DYNAMIC_SECTION(words(s))
        {
            auto const step = price(moe_case(s.kind, 4, 16, 16, s.micro_batches, s.overlap));
            auto const closed = closed_form(step);
            CHECK((closed.pipeline + closed.tail).value() == Approx(closed.step.value()));
            CHECK(closed.tail.value() > 0);
            REQUIRE(closed.slots.size() == 4);
            for (std::size_t r = 0; r < 4; ++r) {
                auto const& t = closed.slots[r];
                auto const& slots = step.schedule.slots[r];
                auto const has = [&](SlotKind kind) {
                    return std::any_of(slots.begin(), slots.end(), [kind](Slot const& x) { return x.kind == kind; });
                };
                CHECK((t.forward > 0) == has(SlotKind::forward));
                CHECK((t.backward > 0) == has(SlotKind::backward));
                CHECK((t.backward_input > 0) == has(SlotKind::backward_input));
                CHECK((t.weight > 0) == has(SlotKind::backward_weight));
                CHECK((t.overlapped > 0) == has(SlotKind::overlapped));
            }
        }
    }
}

TEST_CASE("a pair takes at least its compute, and less than its passes one after the other")
{
    auto const step = price(moe_case(ScheduleKind::dualpipe, 4, 16, 16, 8));
    auto const& blocks = step.stages[1].blocks; // two expert layers a chunk
    PricedBlock const* moe = nullptr;
    for (auto const& b : blocks)
        if (b.priced.forward.size() > 1) moe = &b.priced;
    REQUIRE(moe != nullptr);
    auto const pair = pair_seconds(step, {moe, moe}, {moe, moe});
    auto const alone = pair_seconds(step, {moe, moe}, {}) + pair_seconds(step, {}, {moe, moe});
    double compute = 0;
    for (auto const& segment : moe->forward) compute += 2 * seconds(segment.compute);
    for (auto const& segment : moe->backward) compute += 2 * seconds(segment.compute);
    for (auto const& part : moe->weight) compute += 2 * seconds(part);
    CHECK(pair >= compute * (1 - 1e-12));
    CHECK(pair < alone);
}

TEST_CASE("sends that are not overlapped are paid in every slot")
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 4, 16, 16, 8, false);
    auto const with = closed_form(price(c)).step;
    c.plan.overlap_pp = false;
    auto const step = price(c);
    CHECK(closed_form(step).step > with);
    CHECK(closed_form(step).step.value() == Approx(simulated(step, c.cluster)).epsilon(0.03));
}
