// SPDX-License-Identifier: Apache-2.0
//
// The audit: whole iterations of real plans, folded and with every group, flow and link on its own, give the same times
// for every task of every group. Whatever makes groups differ (a fault, a leaf, a ring's seam) must have been seen.
#include <algorithm>
#include <cmath>

#include "sim/simulate.hpp"
#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

struct Audit {
    std::size_t groups = 0, classes = 0;
    double makespan = 0;
};

/// Compares both runs of @p c. SimGrid takes events within a nanosecond for one, hence the floor.
Audit check_same_times(Case const& c)
{
    REQUIRE(check_plan(c.plan, c.arch, c.cluster.gpus) == std::vector<std::string>{});
    auto const iteration = build_iteration(price(c), c.cluster);
    auto const& problem = iteration.problem;
    auto const folded = fold(problem), audit = unfolded(problem);
    REQUIRE(check_fold(folded).empty());
    REQUIRE(check_fold(audit).empty());
    auto const fast = simulate(folded), full = simulate(audit);

    double worst = 0;
    std::size_t compared = 0;
    for (std::size_t g = 0; g < problem.groups.size(); ++g) {
        auto const& a = fast.classes[folded.class_of_group[g]];
        auto const& b = full.classes[audit.class_of_group[g]];
        REQUIRE(a.end.size() == problem.programs[problem.groups[g].program].tasks.size());
        REQUIRE(a.end.size() == b.end.size());
        for (std::size_t t = 0; t < a.end.size(); ++t, ++compared)
            worst = std::max(worst, std::abs(a.end[t] - b.end[t]));
    }
    CHECK(compared > 0);
    CHECK(worst <= 1e-9 * full.makespan.value());
    CHECK(fast.makespan.value() == Approx(full.makespan.value()).epsilon(1e-9).margin(0));
    return {problem.groups.size(), folded.representative.size(), full.makespan.value()};
}

/// Leaves of two nodes, so that sixteen GPUs of a group already meet the oversubscribed part.
Cluster narrow(Cluster c, Fabric fabric, Placement placement)
{
    c.fabric = fabric;
    c.nodes_per_leaf = 2;
    c.oversubscription = 16;
    c.placement = placement;
    return c;
}

Case dualpipe() { return moe_case(ScheduleKind::dualpipe, 4, 32, 16, 8); }

} // namespace

TEST_CASE("a uniform DualPipe iteration folds to one group a rank and keeps every task's time")
{
    auto const audit = check_same_times(dualpipe());
    CHECK(audit.groups == 8);
    CHECK(audit.classes == 4);
}

TEST_CASE("folding is exact for every schedule on 128 GPUs")
{
    for (auto const& s : schedules()) {
        DYNAMIC_SECTION(words(s)) { check_same_times(moe_case(s.kind, 4, 32, 16, s.micro_batches, s.overlap)); }
    }
}

TEST_CASE("folding is exact for 1F1B with 32-way expert parallelism over two pipeline ranks on 256 GPUs")
{
    auto const audit = check_same_times(moe_case(ScheduleKind::one_f_one_b, 2, 128, 32, 2, false));
    CHECK(audit.groups == 8);
    CHECK(audit.classes == 2);
}

TEST_CASE("folding is exact for a dense model with data parallelism only")
{
    auto const audit = check_same_times(dense_case(64, 2));
    CHECK(audit.groups == 64);
    CHECK(audit.classes < 64);
}

TEST_CASE("folding is exact for ZeRO-3, which gathers inside the slots")
{
    auto c = dense_case(32, 2);
    c.plan.zero = 3;
    check_same_times(c);
}

TEST_CASE("folding is exact behind leaves oversubscribed 16 to 1")
{
    for (auto const fabric : {Fabric::fat_tree, Fabric::rail_optimised, Fabric::multi_plane})
        for (auto const placement : {Placement::aligned, Placement::spread}) {
            DYNAMIC_SECTION(name(fabric) << ", " << name(placement))
            {
                auto c = dualpipe();
                auto const free = check_same_times(c);
                c.cluster = narrow(c.cluster, fabric, placement);
                CHECK(check_same_times(c).makespan > free.makespan);
            }
        }
}

TEST_CASE("a NIC at half speed splits the classes, slows the step, and every task's time is kept")
{
    auto c = dualpipe();
    auto const sound = check_same_times(c);
    c.cluster.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
    auto const audit = check_same_times(c);
    CHECK(audit.classes > sound.classes);
    CHECK(audit.makespan > sound.makespan);
}

TEST_CASE("a slow GPU splits the classes, slows the step, and every task's time is kept")
{
    auto c = dualpipe();
    auto const sound = check_same_times(c);
    c.cluster.faults = {{Fault::Kind::slow_gpu, 40, 1 / 1.3}};
    auto const audit = check_same_times(c);
    CHECK(audit.classes > sound.classes);
    CHECK(audit.makespan > sound.makespan);
}

TEST_CASE("a failed plane moves its traffic to the next one and every task's time is kept")
{
    auto c = dualpipe();
    c.cluster.fabric = Fabric::multi_plane;
    auto const sound = check_same_times(c);
    c.cluster.faults = {{Fault::Kind::failed_plane, 5, 1}};
    CHECK(check_same_times(c).makespan > sound.makespan);
}

TEST_CASE("faults on top of each other and of a narrow, spread fabric keep every task's time")
{
    SECTION("spread, 16 to 1, slow NIC, slow GPU")
    {
        auto c = dualpipe();
        c.cluster = narrow(c.cluster, Fabric::rail_optimised, Placement::spread);
        c.cluster.faults = {{Fault::Kind::slow_nic, 3, 0.5}, {Fault::Kind::slow_gpu, 40, 1 / 1.3}};
        check_same_times(c);
    }
    SECTION("1F1B on a fat tree, two faults in one group, a failed NIC")
    {
        auto c = moe_case(ScheduleKind::one_f_one_b, 2, 64, 32, 4);
        c.cluster = narrow(c.cluster, Fabric::fat_tree, Placement::aligned);
        c.cluster.faults = {
            {Fault::Kind::slow_nic, 3, 0.5}, {Fault::Kind::slow_gpu, 3, 1 / 1.3}, {Fault::Kind::failed_nic, 70, 1}};
        check_same_times(c);
    }
    SECTION("dense, slow NVLink port and a slow NIC")
    {
        auto c = dense_case(32, 2);
        c.cluster = narrow(c.cluster, Fabric::fat_tree, Placement::aligned);
        c.cluster.faults = {{Fault::Kind::slow_scale_up, 9, 0.25}, {Fault::Kind::slow_nic, 20, 0.5}};
        check_same_times(c);
    }
    SECTION("ZB-V with a failed plane and a slow GPU")
    {
        auto c = moe_case(ScheduleKind::zb_v, 4, 32, 16, 8, false);
        c.cluster = narrow(c.cluster, Fabric::multi_plane, Placement::spread);
        c.cluster.faults = {{Fault::Kind::failed_plane, 0, 1}, {Fault::Kind::slow_gpu, 127, 1 / 1.3}};
        check_same_times(c);
    }
}
