// SPDX-License-Identifier: Apache-2.0
//
// Order, critical path and slack: by hand for a small step, as properties for random ones.
#include "sim/task_graph.hpp"

#include <map>
#include <string>

#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/sim/hand_made_step.hpp"

using namespace trainfare;
using namespace trainfare::hand_made;

namespace {

/// Rank 0: forward 1 s, send 0.25 s, backward 1 s; rank 1: forward and backward, 1 s each, send 0.25 s.
void two_ranks(Step& step) { one_f_one_b(step, 1, 1, 1, 0.25, {1, 1}); }

/// The makespan if the task took @p more seconds longer.
double makespan_with(Step& step, TaskRef ref, double more)
{
    auto const before = step.run;
    auto& task = step.iteration.problem.programs[ref.group_class].tasks[ref.task];
    double const seconds = task.seconds;
    double const slowdown =
        task.kind == TaskKind::compute ? step.iteration.problem.groups[ref.group_class].slowdown : 1;
    task.seconds += more / slowdown;
    step.replay();
    double const makespan = step.run.makespan.value();
    task.seconds = seconds;
    step.run = before;
    return makespan;
}

} // namespace

TEST_CASE("every dependency comes first in the topological order, across groups too")
{
    for (unsigned seed = 0; seed < 20; ++seed) {
        Step step;
        random_step(step, seed, 5, 60);
        auto const order = topological_order(step.folded);
        std::map<std::pair<std::uint32_t, std::uint32_t>, std::size_t> position;
        for (std::size_t i = 0; i < order.size(); ++i) position[{order[i].group_class, order[i].task}] = i;
        REQUIRE(position.size() == 300);

        for (std::uint32_t c = 0; c < 5; ++c) {
            auto const& program = program_of(step.folded, c);
            for (std::uint32_t t = 0; t < program.tasks.size(); ++t) {
                auto const& task = program.tasks[t];
                for (std::uint32_t d = 0; d < task.dependencies; ++d)
                    REQUIRE(position.at({c, program.dependencies[task.first_dependency + d]}) < position.at({c, t}));
                if (task.peer == Peer::previous)
                    REQUIRE(position.at({(c + 4) % 5, task.peer_task}) < position.at({c, t}));
                if (task.peer == Peer::next) REQUIRE(position.at({(c + 1) % 5, task.peer_task}) < position.at({c, t}));
                for (std::uint32_t other = 0; task.peer == Peer::team && other < 5; ++other)
                    REQUIRE(position.at({other, task.peer_task}) < position.at({c, t}));
            }
        }
    }
}

TEST_CASE("two groups that wait for each other are a cycle, and the error names a task on it")
{
    Step step;
    for (int i = 0; i < 2; ++i) {
        auto const c = step.add_class();
        step.folded.team[c] = {1 - c};
        step.add(c, compute(1), {}, label(Activity::compute));
        step.add(c, after(communicate(1), Peer::team, 2), {0}, label(Activity::dispatch));
        step.add(c, join(), {1}, label(Activity::wait));
    }
    step.folded.problem = &step.iteration.problem;
    std::string message;
    try {
        topological_order(step.folded);
    } catch (InternalError const& error) {
        message = error.what();
    }
    CHECK(message == "task graph: task 1 (communicate) of group class 0 waits for itself along a cycle");
}

TEST_CASE("a task that waits for a task that does not exist is refused")
{
    Step step;
    auto const c = step.add_class();
    step.folded.problem = &step.iteration.problem;
    SECTION("in its own program") { step.add(c, compute(1), {7}, label(Activity::compute)); }
    SECTION("in a neighbour's program")
    {
        step.folded.next[c] = {c};
        step.add(c, after(compute(1), Peer::next, 7), {}, label(Activity::compute));
    }
    SECTION("of a class that does not exist")
    {
        step.folded.next[c] = {3};
        step.add(c, after(compute(1), Peer::next, 0), {}, label(Activity::compute));
    }
    CHECK_THROWS_AS(topological_order(step.folded), InternalError);
}

TEST_CASE("the critical path of one micro-batch over two ranks visits every task with a duration")
{
    Step step;
    two_ranks(step);
    REQUIRE(step.run.makespan.value() == Approx(4.5));
    // Rank 0: 0 forward, 1 send, 2 backward, 3 join. Rank 1: 0 forward, 1 join, 2 backward, 3 send.
    CHECK(critical_path(step.folded, step.run) == std::vector<TaskRef>{{0, 0}, {0, 1}, {1, 0}, {1, 2}, {1, 3}, {0, 2}});
}

TEST_CASE("the slack of a branch is what it lacks to the longest one")
{
    Step step;
    auto const c = step.add_class();
    auto const first = step.add(c, compute(1), {}, label(Activity::compute));
    auto const brief = step.add(c, communicate(0.5), {first}, label(Activity::dispatch));
    auto const slow = step.add(c, compute(2), {first}, label(Activity::compute));
    auto const both = step.add(c, compute(1), {brief, slow}, label(Activity::compute));
    step.replay();
    auto const result = slack(step.folded, step.run);
    CHECK(result[c][first] == 0);
    CHECK(result[c][brief] == Approx(1.5));
    CHECK(result[c][slow] == 0);
    CHECK(result[c][both] == 0);
}

TEST_CASE("the critical path has no holes and no slack, and its durations are the makespan")
{
    for (unsigned seed = 0; seed < 20; ++seed) {
        Step step;
        random_step(step, seed, 6, 80);
        auto const free_time = slack(step.folded, step.run);
        double now = 0;
        for (auto const [c, t] : critical_path(step.folded, step.run)) {
            REQUIRE(step.run.classes[c].start[t] == now);
            REQUIRE(free_time[c][t] == Approx(0).margin(1e-12));
            now = step.run.classes[c].end[t];
        }
        REQUIRE(now == step.run.makespan.value());
    }
}

TEST_CASE("a task may take its slack longer and not a bit more")
{
    Step step;
    random_step(step, 7, 4, 40);
    double const makespan = step.run.makespan.value();
    auto const free_time = slack(step.folded, step.run);
    for (std::uint32_t c = 0; c < 4; ++c)
        for (std::uint32_t t = 0; t < 40; ++t) {
            REQUIRE(makespan_with(step, {c, t}, free_time[c][t]) == Approx(makespan).epsilon(1e-12));
            REQUIRE(makespan_with(step, {c, t}, free_time[c][t] + 0.5) == Approx(makespan + 0.5).epsilon(1e-12));
        }
}

TEST_CASE("a step without tasks has no critical path")
{
    Step step;
    step.add_class();
    step.replay();
    CHECK(topological_order(step.folded).empty());
    CHECK(critical_path(step.folded, step.run).empty());
    CHECK(slack(step.folded, step.run) == std::vector<std::vector<double>>{{}});
}
