// SPDX-License-Identifier: Apache-2.0
//
// The engine against hand-computed times, folded against unfolded, and what becomes of a child that dies.
#include "sim/simulate.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/sim/synthetic.hpp"

using namespace trainfare;

namespace {

using Catch::Matchers::Contains;

Task compute(double seconds) { return {.kind = TaskKind::compute, .seconds = seconds}; }

Task send(double payload, double latency = 0)
{
    return {.kind = TaskKind::communicate, .seconds = latency, .payload = payload};
}

/// One group without neighbours on links of these capacities.
Problem one_group(std::vector<double> const& capacities)
{
    Problem p;
    for (auto const capacity : capacities) p.links.push_back({LinkKind::nic_out, capacity});
    p.programs.emplace_back();
    p.groups.emplace_back();
    p.teams = {{0}};
    return p;
}

void add_flow(Problem& p, std::uint32_t group, double share, std::vector<LinkId> const& links)
{
    Flow flow{group, Channel::expert, share, {}};
    for (auto const link : links) flow.route.add(link);
    p.flows.push_back(flow);
}

void check_same_times(synthetic::Shape const& shape)
{
    auto const problem = synthetic::make(shape);
    auto const folded = fold(problem);
    auto const audit = unfolded(problem);
    REQUIRE(check_fold(folded).empty());
    REQUIRE(check_fold(audit).empty());
    REQUIRE(folded.flows.size() < audit.flows.size());
    auto const fast = simulate(folded);
    auto const full = simulate(audit);
    CHECK(fast.makespan.value() == Approx(full.makespan.value()).epsilon(1e-9).margin(0));
    double worst = 0;
    std::size_t compared = 0;
    for (std::size_t g = 0; g < problem.groups.size(); ++g) {
        auto const& a = fast.classes[folded.class_of_group[g]];
        auto const& b = full.classes[g];
        REQUIRE(a.end.size() == b.end.size());
        for (std::size_t i = 0; i < a.end.size(); ++i, ++compared) {
            worst = std::max({worst, std::abs(a.end[i] - b.end[i]) / std::max(b.end[i], 1e-6),
                              std::abs(a.start[i] - b.start[i]) / std::max(b.end[i], 1e-6)});
        }
    }
    CHECK(compared > 0);
    CHECK(worst < 1e-9);
}

} // namespace

TEST_CASE("a flow alone takes its bytes over the narrowest link")
{
    auto p = one_group({1e9, 0.5e9});
    add_flow(p, 0, 1, {0, 1});
    p.programs[0].add(send(1e6), {});
    auto const run = simulate(fold(p));
    CHECK(run.makespan.value() == Approx(2e-3).epsilon(1e-9));
    CHECK(run.flows == 1);
    CHECK(run.tasks == 1);
}

TEST_CASE("two flows share one link equally")
{
    auto p = one_group({1e9});
    add_flow(p, 0, 1, {0});
    add_flow(p, 0, 2, {0});
    p.programs[0].add(send(1e6), {});
    // Half a GB/s each until the first is done at 2 ms; the other sends its second MB alone: 3 ms.
    CHECK(simulate(unfolded(p)).makespan.value() == Approx(3e-3).epsilon(1e-9));
    CHECK(simulate(fold(p)).makespan.value() == Approx(3e-3).epsilon(1e-9));
}

TEST_CASE("flow classes of weight 3 and 1 on a link of 1 GB/s get 0.25 GB/s each")
{
    auto p = one_group({1e9});
    p.groups.push_back({1, 1, 1, 1, 1});
    p.teams.push_back({1});
    p.programs.emplace_back();
    for (int i = 0; i < 3; ++i) add_flow(p, 0, 1, {0});
    add_flow(p, 1, 1, {0});
    p.programs[0].add(send(1e6), {});
    p.programs[1].add(send(1e6), {});
    auto const folded = fold(p);
    REQUIRE(folded.flows.size() == 2);
    CHECK(folded.flows[0].uses[0].weight == 3);
    CHECK(folded.flows[1].uses[0].weight == 1);
    auto const run = simulate(folded);
    CHECK(run.classes[0].end[0] == Approx(4e-3).epsilon(1e-9));
    CHECK(run.classes[1].end[0] == Approx(4e-3).epsilon(1e-9));
    CHECK(run.flows == 2);
}

TEST_CASE("max-min: what a flow cannot use because of another link goes to its neighbours")
{
    // Link 0 (1 GB/s) carries a and b, link 1 (0.2 GB/s) carries b: b gets 0.2, a the other 0.8.
    auto p = one_group({1e9, 0.2e9});
    add_flow(p, 0, 8, {0});
    add_flow(p, 0, 2, {0, 1});
    p.programs[0].add(send(1e6), {});
    CHECK(simulate(fold(p)).makespan.value() == Approx(10e-3).epsilon(1e-9));
}

TEST_CASE("bytes that are not whole are not rounded away")
{
    auto p = one_group({3e3});
    add_flow(p, 0, 1.0 / 3, {0});
    p.programs[0].add(send(10), {});
    CHECK(simulate(fold(p)).makespan.value() == Approx(10.0 / 3 / 3e3).epsilon(3e-4)); // 1/1024 of a byte in 3.3
}

TEST_CASE("a chain pays compute, latency and transfer one after the other, a join nothing")
{
    auto p = one_group({1e9});
    add_flow(p, 0, 0.5, {0});
    auto& program = p.programs[0];
    auto const a = program.add(compute(1e-3), {});
    auto const b = program.add(send(4e6, 5e-6), {a});
    auto const c = program.add({}, {a, b});
    program.add(compute(2e-3), {c});
    p.groups[0].slowdown = 1.5;
    auto const run = simulate(fold(p));
    auto const& t = run.classes[0];
    CHECK(t.end[0] == Approx(1.5e-3));
    CHECK(t.start[1] == t.end[0]);
    CHECK(t.end[1] == Approx(1.5e-3 + 5e-6 + 2e-3).epsilon(1e-9));
    CHECK(t.start[2] == t.end[1]);
    CHECK(t.end[2] == t.end[1]);
    CHECK(run.makespan.value() == Approx(6.505e-3).epsilon(1e-9));
}

TEST_CASE("communication without bytes or without flows ends after its latency")
{
    auto p = one_group({1e9});
    add_flow(p, 0, 1, {0});
    p.programs[0].add(send(0, 3e-6), {});
    p.programs[0].add({.kind = TaskKind::communicate, .channel = Channel::data_dense, .seconds = 7e-6, .payload = 1e9},
                      {});
    p.programs[0].add(send(0), {});
    auto const run = simulate(fold(p));
    CHECK(run.classes[0].end[0] == Approx(3e-6));
    CHECK(run.classes[0].end[1] == Approx(7e-6));
    CHECK(run.classes[0].end[2] == 0);
    CHECK(run.flows == 0);
}

TEST_CASE("a task that waits for its team starts when the slowest member is ready")
{
    auto p = one_group({});
    p.groups = {{0, 1, 1, 0, 1.0}, {0, 0, 0, 0, 1.3}};
    p.teams = {{0, 1}};
    auto const own = p.programs[0].add(compute(1e-3), {});
    p.programs[0].add({.kind = TaskKind::compute, .seconds = 1e-3, .peer = Peer::team, .peer_task = own}, {});
    auto const folded = fold(p);
    REQUIRE(folded.representative.size() == 2);
    auto const run = simulate(folded);
    CHECK(run.classes[0].start[1] == Approx(1.3e-3));
    CHECK(run.classes[1].start[1] == Approx(1.3e-3));
    CHECK(run.makespan.value() == Approx(2.6e-3));
}

TEST_CASE("a task that waits for the previous or next group starts when that one's task has ended")
{
    auto p = one_group({});
    p.groups = {{0, 1, 1, 0, 1}, {1, 0, 0, 0, 1}};
    p.teams = {{0, 1}};
    p.programs.resize(2);
    p.programs[0].add(compute(1e-3), {});
    p.programs[0].add({.kind = TaskKind::compute, .seconds = 4e-3, .peer = Peer::next, .peer_task = 0}, {});
    p.programs[1].add({.kind = TaskKind::compute, .seconds = 2e-3, .peer = Peer::previous, .peer_task = 0}, {});
    auto const run = simulate(fold(p));
    CHECK(run.classes[1].start[0] == Approx(1e-3));
    CHECK(run.classes[0].start[1] == Approx(3e-3));
    CHECK(run.makespan.value() == Approx(7e-3));
}

TEST_CASE("folded and unfolded clusters agree in the end of every task")
{
    synthetic::Shape shape{
        .gpus = 256, .group_gpus = 32, .pipeline = 4, .micro_batches = 5, .layers = 1, .nodes_per_leaf = 8};
    SECTION("uniform") {}
    SECTION("oversubscribed 16:1") { shape.oversubscription = 16; }
    SECTION("groups spread over leaves") { shape.spread = true; }
    SECTION("groups spread over leaves, oversubscribed 16:1")
    {
        shape.spread = true;
        shape.oversubscription = 16;
    }
    SECTION("rings of gradients through the neighbours' ports") { shape.rings = true; }
    SECTION("one slow NIC") { shape.faults = {{Fault::Kind::slow_nic, 3, 0.5}}; }
    SECTION("one straggler group") { shape.straggler = 5; }
    SECTION("a failed plane") { shape.faults = {{Fault::Kind::failed_plane, 2, 1}}; }
    SECTION("all at once")
    {
        shape.spread = true;
        shape.rings = true;
        shape.oversubscription = 4;
        shape.straggler = 2;
        shape.faults = {{Fault::Kind::slow_nic, 77, 0.7}, {Fault::Kind::failed_plane, 2, 1}};
    }
    check_same_times(shape);
}

TEST_CASE("folded and unfolded clusters agree for EP64 over 256 GPUs")
{
    check_same_times({.gpus = 256, .group_gpus = 64, .pipeline = 2, .micro_batches = 2, .layers = 1});
}

TEST_CASE(
    "gradients that load each GPU's own port stand in for rings: exactly when uniform, within 0.2 % with a slow NIC")
{
    synthetic::Shape shape{.gpus = 512, .group_gpus = 32, .pipeline = 4, .micro_batches = 6};
    auto const step = [&shape](bool rings) {
        shape.rings = rings;
        auto const problem = synthetic::make(shape);
        return simulate(fold(problem)).makespan.value();
    };
    CHECK(step(false) == Approx(step(true)).epsilon(1e-9));
    shape.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
    CHECK(step(false) == Approx(step(true)).epsilon(2e-3)); // of 58 ms, where gradients weigh more than in a long step
}

TEST_CASE("a straggler makes the step longer, by no more than its slowdown")
{
    synthetic::Shape shape{.gpus = 128, .group_gpus = 16, .pipeline = 4, .micro_batches = 8};
    auto const healthy = synthetic::make(shape);
    shape.straggler = 0;
    auto const slow = synthetic::make(shape);
    auto const a = simulate(fold(healthy)).makespan, b = simulate(fold(slow)).makespan;
    CHECK(b > a);
    CHECK(b < 1.3 * a);
}

TEST_CASE("the same problem gives the same bits each time")
{
    synthetic::Shape shape{.gpus = 256, .group_gpus = 16, .pipeline = 4, .micro_batches = 6};
    shape.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
    auto const problem = synthetic::make(shape);
    auto const folded = fold(problem);
    auto const first = simulate(folded), second = simulate(folded);
    REQUIRE(first.classes.size() == second.classes.size());
    for (std::size_t c = 0; c < first.classes.size(); ++c) {
        CHECK(first.classes[c].start == second.classes[c].start);
        CHECK(first.classes[c].end == second.classes[c].end);
    }
}

TEST_CASE("a cycle is reported with the task on it")
{
    auto p = one_group({});
    p.groups = {{0, 1, 1, 0, 1}, {1, 0, 0, 0, 1}};
    p.teams = {{0, 1}};
    p.programs.resize(2);
    p.programs[0].add(compute(1e-3), {});
    p.programs[0].add({.kind = TaskKind::compute, .seconds = 1e-3, .peer = Peer::next, .peer_task = 0}, {});
    p.programs[1].add({.kind = TaskKind::compute, .seconds = 1e-3, .peer = Peer::previous, .peer_task = 1}, {});
    CHECK_THROWS_WITH(simulate(fold(p)),
                      Contains("2 of 3 tasks") && Contains("task 1 of program 0") && Contains("cycle"));
    CHECK_THROWS_AS(simulate(fold(p)), InternalError);
}

TEST_CASE("dependencies, durations, payloads and links that cannot be simulated are reported, not crashed on")
{
    auto p = one_group({1e9});
    add_flow(p, 0, 1, {0});
    auto& program = p.programs[0];
    SECTION("a peer's task that does not exist")
    {
        program.add({.peer = Peer::next, .peer_task = 9}, {});
        CHECK_THROWS_WITH(simulate(fold(p)), Contains("waits for a task that does not exist"));
    }
    SECTION("a dependency that does not exist")
    {
        program.add({}, {9});
        CHECK_THROWS_WITH(simulate(fold(p)), Contains("waits for a task that does not exist"));
    }
    SECTION("a negative duration")
    {
        program.add(compute(-1), {});
        CHECK_THROWS_WITH(simulate(fold(p)), Contains("takes -1 s"));
    }
    SECTION("a duration that is not a number")
    {
        program.add(compute(std::nan("")), {});
        CHECK_THROWS_AS(simulate(fold(p)), InternalError);
    }
    SECTION("a payload without bound")
    {
        program.add(compute(1e-3), {});
        program.add(send(INFINITY), {0}); // thrown inside a timer
        CHECK_THROWS_WITH(simulate(fold(p)), Contains("bytes in a flow"));
    }
    SECTION("a dead link")
    {
        p.links[0].capacity = 0;
        program.add(send(1), {});
        CHECK_THROWS_WITH(simulate(fold(p)), Contains("no capacity"));
    }
    SECTION("more flows in flight than the engine can handle")
    {
        p.links[0].capacity = 1e9;
        for (int i = 0; i < 20'001; ++i) add_flow(p, 0, 1 + i, {0});
        program.add(send(1e6), {});
        CHECK_THROWS_WITH(simulate(fold(p)), Contains("more than 20000 flow classes"));
    }
}

TEST_CASE("a child that is killed is reported, and the next simulation runs")
{
    // Long enough to be hit: the killer fires until the run is over.
    auto const problem = synthetic::make({.gpus = 256, .group_gpus = 16, .pipeline = 4, .micro_batches = 200});
    auto const folded = fold(problem);
    std::atomic<bool> over{false};
    std::thread killer{[&over] {
        while (!over) {
            kill_simulation_child();
            std::this_thread::yield();
        }
    }};
    std::string message;
    try {
        simulate(folded);
    } catch (InternalError const& error) {
        message = error.what();
    }
    over = true;
    killer.join();
    CHECK_THAT(message, Contains("the simulation child was killed by signal 9"));
    kill_simulation_child(); // nothing to kill
    CHECK(simulate(folded).makespan.value() > 0);
}

TEST_CASE("an empty problem takes no time")
{
    auto p = one_group({});
    CHECK(simulate(fold(p)).makespan.value() == 0);
}

TEST_CASE("one exchange alone on the network takes its slowest flow's time")
{
    auto p = one_group({1e9, 2e9});
    add_flow(p, 0, 1, {0});
    add_flow(p, 0, 1, {1});
    CHECK(simulate_alone(p, 0, Channel::expert, 1e6).value() == Approx(1e-3).epsilon(1e-9));
    CHECK(simulate_alone(p, 0, Channel::to_next, 1e6).value() == 0);
}
