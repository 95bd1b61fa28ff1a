// SPDX-License-Identifier: Apache-2.0
//
// Splits that can be done by hand, and what must hold for any step: the parts add up.
#include "sim/causes.hpp"

#include <numeric>
#include <set>
#include <string>

#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/sim/hand_made_step.hpp"

using namespace trainfare;
using namespace trainfare::hand_made;

namespace {

double of(CauseSeconds const& causes, Cause cause) { return causes[static_cast<std::size_t>(cause)]; }

double total(CauseSeconds const& causes) { return std::accumulate(causes.begin(), causes.end(), 0.0); }

double total(SlotBreakdown const& s)
{
    return s.forward + s.bubble + s.backward + s.weight + s.overlapped + s.optimizer;
}

StepCauses split(Step const& step) { return split_by_cause(step.iteration, step.folded, step.run); }

TaskLabel forward_slot(int slot) { return label(Activity::compute, SlotKind::forward, slot); }

} // namespace

TEST_CASE("a 16-stage 1F1B pipeline with 16 micro-batches idles 15/31 of the time")
{
    Step step;
    one_f_one_b(step, 16, 1, 2, 0, std::vector<double>(16, 1.0));
    REQUIRE(step.run.makespan.value() == 93);
    auto const result = split(step);
    for (auto const& causes : result.by_class) {
        CHECK(of(causes, Cause::bubble) == Approx(93 * 15.0 / 31));
        CHECK(of(causes, Cause::compute) == Approx(48));
    }
    CHECK(result.slots.forward == Approx(16));
    CHECK(result.slots.backward == Approx(32));
    CHECK(result.slots.bubble == Approx(45));
}

TEST_CASE("sends on a rank's own path are pipeline_send, the neighbour's work between them is bubble")
{
    // Rank 0: F 0-1, sends -1.25. Rank 1: F -2.25, B -3.25, sends -3.5. Rank 0: B -4.5.
    Step step;
    one_f_one_b(step, 1, 1, 1, 0.25, {1, 1});
    auto const result = split(step);
    CHECK(of(result.by_class[0], Cause::compute) == Approx(2));
    CHECK(of(result.by_class[0], Cause::pipeline_send) == Approx(0.5));
    CHECK(of(result.by_class[0], Cause::bubble) == Approx(2));
    CHECK(of(result.by_class[1], Cause::compute) == Approx(2));
    CHECK(of(result.by_class[1], Cause::pipeline_send) == Approx(0.5)); // 1-1.25 delivered, 3.25-3.5 its own
    CHECK(of(result.by_class[1], Cause::bubble) == Approx(2));
    CHECK(result.slots.bubble == Approx(2.5)); // DeepSeek's split does not tell sends from bubbles
}

TEST_CASE("a straggler's excess is charged where it computes and where its neighbour waits for it")
{
    // Rank 0: F 0-1. Rank 1 at 1/1.25 of the speed: F -2.25, B -3.5. Rank 0: B -4.5. Excess: 0.5 s of rank 1's 2.5 s.
    Step step;
    one_f_one_b(step, 1, 1, 1, 0, {1, 1.25});
    auto const result = split(step);
    CHECK(of(result.by_class[0], Cause::compute) == Approx(2));
    CHECK(of(result.by_class[0], Cause::straggler) == Approx(0.5));
    CHECK(of(result.by_class[0], Cause::bubble) == Approx(2));
    CHECK(of(result.by_class[1], Cause::compute) == Approx(2));
    CHECK(of(result.by_class[1], Cause::straggler) == Approx(0.5));
    CHECK(of(result.by_class[1], Cause::bubble) == Approx(2));
}

TEST_CASE("a straggler is found behind a neighbour that waits for it in turn")
{
    // Rank 2 is slow; rank 0 waits for rank 1, which waits for rank 2: 1 s of its 3 s is excess.
    Step step;
    one_f_one_b(step, 1, 1, 1, 0, {1, 1, 1.5});
    auto const result = split(step);
    CHECK(of(result.by_class[0], Cause::straggler) == Approx(1));
    CHECK(of(result.by_class[1], Cause::straggler) == Approx(1));
    CHECK(of(result.by_class[0], Cause::bubble) == Approx(4));
}

TEST_CASE("only the part of an exchange that nothing hides is a cause")
{
    // Dispatch 1-1.5 beside compute 1-1.3; experts -2.5; combine 2.5-2.9 beside nothing; compute -3.9.
    Step step;
    auto const c = step.add_class();
    auto const attention = step.add(c, compute(1), {}, forward_slot(0));
    auto const dispatch = step.add(c, communicate(0.5), {attention}, label(Activity::dispatch));
    auto const shared = step.add(c, compute(0.3), {attention}, forward_slot(0));
    auto const experts = step.add(c, compute(1), {shared, dispatch}, forward_slot(0));
    auto const combine = step.add(c, communicate(0.4), {experts}, label(Activity::combine));
    step.add(c, compute(1), {experts, combine}, forward_slot(1));
    step.iteration.segments = {ClassSeconds{}};
    step.replay();

    auto const result = split(step);
    CHECK(of(result.mean, Cause::compute) == Approx(3.3));
    CHECK(of(result.mean, Cause::dispatch) == Approx(0.2));
    CHECK(of(result.mean, Cause::combine) == Approx(0.4));
    CHECK(of(result.mean, Cause::bubble) == Approx(0).margin(1e-12));
    CHECK(result.exchange_busy == Approx(0.9));
    CHECK(result.exchange_hidden == Approx(0.3));
    // The wait for dispatch is inside slot 0, the wait for combine at the beginning of slot 1.
    CHECK(result.slots.forward == Approx(3.5));
    CHECK(result.slots.bubble == Approx(0.4));
}

TEST_CASE("an exchange that waits for another exchange passes the rest of the gap on to it")
{
    // Combine (1-1.5) holds the stream, dispatch (1.5-1.9) is queued behind it; compute resumes at 1.9.
    Step step;
    auto const c = step.add_class();
    auto const first = step.add(c, compute(1), {}, forward_slot(0));
    auto const combine = step.add(c, communicate(0.5), {first}, label(Activity::combine));
    auto const dispatch = step.add(c, communicate(0.4), {first, combine}, label(Activity::dispatch));
    auto const arrived = step.add(c, join(), {dispatch}, label(Activity::wait));
    step.add(c, compute(1), {first, arrived}, forward_slot(0));
    step.iteration.segments = {ClassSeconds{}};
    step.replay();
    auto const result = split(step);
    CHECK(of(result.mean, Cause::combine) == Approx(0.5));
    CHECK(of(result.mean, Cause::dispatch) == Approx(0.4));
    CHECK(result.slots.forward == Approx(2.9));
}

TEST_CASE("gradients, update and weights after the pipeline are DeepSeek's optimizer part")
{
    // Backward 0-2, reduce-scatter -2.5, update -2.75, all-gather -3.05.
    Step step;
    auto const c = step.add_class();
    auto const backward = step.add(c, compute(2), {}, label(Activity::compute, SlotKind::backward_input, 0));
    auto const reduce = step.add(c, communicate(0.5), {backward}, label(Activity::data_parallel));
    auto const update = step.add(c, compute(0.25), {backward, reduce}, label(Activity::optimizer));
    step.add(c, communicate(0.3), {update}, label(Activity::data_parallel));
    step.iteration.segments = {ClassSeconds{}};
    step.replay();

    auto const result = split(step);
    CHECK(of(result.mean, Cause::data_parallel) == Approx(0.8));
    CHECK(of(result.mean, Cause::optimizer) == Approx(0.25));
    CHECK(result.slots.backward == Approx(2));
    CHECK(result.slots.optimizer == Approx(1.05));
    CHECK(result.slots.bubble == Approx(0).margin(1e-12));
    CHECK(result.compute_by_op[static_cast<std::size_t>(OpClass::optimizer)] == Approx(0.25));
}

TEST_CASE("updated weights that arrive late at the first slot count with the optimizer too")
{
    Step step;
    auto const c = step.add_class();
    auto const gather = step.add(c, communicate(0.3), {}, label(Activity::data_parallel));
    step.add(c, compute(1), {gather}, forward_slot(0));
    step.iteration.segments = {ClassSeconds{}};
    step.replay();
    auto const result = split(step);
    CHECK(of(result.mean, Cause::data_parallel) == Approx(0.3));
    CHECK(result.slots.optimizer == Approx(0.3));
    CHECK(result.slots.forward == Approx(1));
    CHECK(result.slots.bubble == 0);
}

TEST_CASE("three fast replicas wait for a slow one before they reduce, and count three times")
{
    // Compute 1 s, on the slow replica 1.5 s; then 0.2 s of gradients. The fast ones wait 0.5 s, a third of it excess.
    Step step;
    for (auto const& [groups, slowdown] : {std::pair{3U, 1.0}, std::pair{1U, 1.5}}) {
        auto const c = step.add_class(groups, slowdown);
        step.folded.team[c] = {0, 1};
        auto const backward = step.add(c, compute(1), {}, label(Activity::compute, SlotKind::backward, 0));
        step.add(c, after(communicate(0.2), Peer::team, backward), {backward}, label(Activity::data_parallel));
    }
    step.iteration.segments = {ClassSeconds{}};
    step.replay();

    auto const result = split(step);
    CHECK(of(result.by_class[0], Cause::straggler) == Approx(0.5 / 3));
    CHECK(of(result.by_class[0], Cause::bubble) == Approx(0.5 * 2 / 3));
    CHECK(of(result.by_class[1], Cause::straggler) == Approx(0.5));
    CHECK(of(result.mean, Cause::straggler) == Approx((3 * 0.5 / 3 + 0.5) / 4));
    CHECK(of(result.mean, Cause::compute) == Approx(1));
    CHECK(of(result.mean, Cause::data_parallel) == Approx(0.2));
    CHECK(total(result.mean) == Approx(1.7));
}

TEST_CASE("slots are told apart by their kind")
{
    Step step;
    auto const c = step.add_class();
    std::vector<std::uint32_t> last;
    int slot = 0;
    for (auto const& [kind, seconds] : {std::pair{SlotKind::forward, 1.0}, std::pair{SlotKind::overlapped, 2.0},
                                        std::pair{SlotKind::backward, 4.0}, std::pair{SlotKind::backward_input, 8.0},
                                        std::pair{SlotKind::backward_weight, 16.0}, std::pair{SlotKind::forward, 32.0}})
        last = {step.add(c, compute(seconds), last, label(Activity::compute, kind, slot++))};
    step.iteration.segments = {ClassSeconds{}};
    step.replay();
    auto const slots = split(step).slots;
    CHECK(slots.forward == 33);
    CHECK(slots.overlapped == 2);
    CHECK(slots.backward == 12);
    CHECK(slots.weight == 16);
    CHECK(slots.bubble == 0);
    CHECK(slots.optimizer == 0);
}

TEST_CASE("compute by class of operation is what segments say, times the group's slowdown")
{
    Step step;
    ClassSeconds half{};
    half[static_cast<std::size_t>(OpClass::expert_gemm)] = 0.75;
    half[static_cast<std::size_t>(OpClass::cast)] = 0.25;
    step.iteration.segments = {ClassSeconds{}, half};
    for (auto const& [groups, slowdown] : {std::pair{3U, 1.0}, std::pair{1U, 2.0}}) {
        auto const c = step.add_class(groups, slowdown);
        auto l = forward_slot(0);
        l.segment = 1;
        auto const first = step.add(c, compute(1), {}, l);
        step.add(c, compute(1), {first}, l);
    }
    step.replay();
    auto const by_op = split(step).compute_by_op;
    CHECK(by_op[static_cast<std::size_t>(OpClass::expert_gemm)] == Approx((3 * 1.5 + 3.0) / 4));
    CHECK(by_op[static_cast<std::size_t>(OpClass::cast)] == Approx((3 * 0.5 + 1.0) / 4));
    CHECK(by_op[static_cast<std::size_t>(OpClass::router)] == 0);
}

TEST_CASE("causes and slots of any step add up to the makespan, and none is negative")
{
    for (unsigned seed = 0; seed < 50; ++seed) {
        Step step;
        random_step(step, seed, 6, 200);
        double const makespan = step.run.makespan.value();
        auto const result = split(step);
        REQUIRE(result.by_class.size() == 6);
        for (std::uint32_t c = 0; c < 6; ++c) {
            auto const& causes = result.by_class[c];
            REQUIRE(total(causes) == Approx(makespan).epsilon(1e-12));
            for (double const part : causes) REQUIRE(part >= 0);

            double computing = 0;
            auto const& tasks = step.iteration.problem.programs[c].tasks;
            for (auto const& task : tasks) computing += task.kind == TaskKind::compute ? task.seconds : 0;
            REQUIRE(of(causes, Cause::compute) + of(causes, Cause::optimizer) == Approx(computing).epsilon(1e-12));
        }
        REQUIRE(total(result.mean) == Approx(makespan).epsilon(1e-12));
        REQUIRE(total(result.slots) == Approx(makespan).epsilon(1e-12));
        REQUIRE(result.exchange_hidden <= result.exchange_busy);
        REQUIRE(result.exchange_hidden > 0);
    }
}

TEST_CASE("times or labels that do not fit the programs are an internal error, not a crash")
{
    Step step;
    one_f_one_b(step, 2, 1, 2, 0, {1, 1});
    SECTION("a class was not simulated") { step.run.classes.pop_back(); }
    SECTION("a task has no end") { step.run.classes[1].end.pop_back(); }
    SECTION("a task has no label") { step.iteration.labels[0].pop_back(); }
    SECTION("a label points at no segment") { step.iteration.labels[0][0].segment = 1; }
    CHECK_THROWS_AS(split(step), InternalError);
}

TEST_CASE("every cause has a name of its own and a description")
{
    std::set<std::string> names, descriptions;
    for (std::size_t i = 0; i < static_cast<std::size_t>(Cause::count); ++i) {
        names.emplace(name(static_cast<Cause>(i)));
        descriptions.emplace(description(static_cast<Cause>(i)));
    }
    CHECK(names.size() == static_cast<std::size_t>(Cause::count));
    CHECK(descriptions.size() == static_cast<std::size_t>(Cause::count));
    CHECK(name(Cause::pipeline_send) == "pipeline_send");
}
