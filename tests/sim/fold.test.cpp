// SPDX-License-Identifier: Apache-2.0
//
// The folding itself, without simulating: what is merged, what is kept apart, and that the checker is not fooled.
#include "sim/fold.hpp"

#include <algorithm>

#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/sim/synthetic.hpp"

using namespace trainfare;

namespace {

/// Every GPU of one node sends to every other: ports 0..7 out, 8..15 in.
Problem one_node()
{
    Problem p;
    for (int i = 0; i < 16; ++i) p.links.push_back({i < 8 ? LinkKind::scale_up_out : LinkKind::scale_up_in, 1e9});
    p.programs.emplace_back();
    p.groups.emplace_back();
    p.teams = {{0}};
    for (LinkId from = 0; from < 8; ++from) {
        for (LinkId to = 0; to < 8; ++to) {
            if (from == to) continue;
            Flow flow{0, Channel::expert, 1, {}};
            flow.route.add(from);
            flow.route.add(8 + to);
            p.flows.push_back(flow);
        }
    }
    return p;
}

std::size_t flow_classes(synthetic::Shape const& shape)
{
    return fold(synthetic::make(shape)).flows.size();
}

} // namespace

TEST_CASE("an exchange inside a uniform node folds to one flow class that loads either port with weight 7")
{
    auto const p = one_node();
    auto const folded = fold(p);
    REQUIRE(folded.flows.size() == 1);
    CHECK(folded.flows[0].multiplicity == 56);
    REQUIRE(folded.flows[0].uses.size() == 2);
    CHECK(folded.flows[0].uses[0].weight == 7);
    CHECK(folded.flows[0].uses[1].weight == 7);
    CHECK(folded.link_multiplicity == std::vector<std::uint64_t>{8, 8});
    CHECK(check_fold(folded).empty());
}

TEST_CASE("one slow port splits the flows of its node into those that touch it and those that do not")
{
    auto p = one_node();
    p.links[3].capacity = 0.5e9; // GPU 3 sends slowly
    auto const folded = fold(p);
    // From 3; to 3; among the other seven: 7 + 7 + 42.
    std::vector<std::uint64_t> sizes;
    for (auto const& flow : folded.flows) sizes.push_back(flow.multiplicity);
    std::sort(sizes.begin(), sizes.end());
    CHECK(sizes == std::vector<std::uint64_t>{7, 7, 42});
    CHECK(check_fold(folded).empty());
}

TEST_CASE("links without flows are left out of a folding")
{
    auto p = one_node();
    p.links.push_back({LinkKind::nic_out, 1e9});
    auto const folded = fold(p);
    CHECK(folded.link_capacity.size() == 2);
    CHECK(folded.class_of_link.back() == no_class);
    CHECK(unfolded(p).link_capacity.size() == 16);
}

TEST_CASE("leaf links that cannot bind are left out, oversubscribed ones are kept")
{
    // 16 nodes under leaves of 3: rings cross leaves at uneven places, which matters only if a leaf can bind.
    synthetic::Shape shape{.gpus = 128, .group_gpus = 16, .pipeline = 2, .nodes_per_leaf = 3, .rings = true};
    auto const count_leaf_links = [](Problem const& problem, Folded const& folded) {
        std::size_t n = 0;
        for (std::size_t i = 0; i < problem.links.size(); ++i) {
            n += problem.links[i].kind >= LinkKind::leaf_up && folded.class_of_link[i] != no_class;
        }
        return n;
    };
    auto const full_rate = synthetic::make(shape);
    auto const folded = fold(full_rate);
    CHECK(count_leaf_links(full_rate, folded) == 0);
    CHECK(count_leaf_links(full_rate, unfolded(full_rate)) == 96); // 6 leaves of 8 rails, up and down
    CHECK(folded.representative.size() == 2);
    CHECK(check_fold(folded).empty());

    shape.oversubscription = 1.5;
    auto const oversubscribed = synthetic::make(shape);
    auto const kept = fold(oversubscribed);
    CHECK(count_leaf_links(oversubscribed, kept) == 96);
    CHECK(kept.representative.size() > 2);
    CHECK(check_fold(kept).empty());

    auto wrong = folded; // as if an oversubscribed leaf had been left out
    wrong.problem = &oversubscribed;
    CHECK_FALSE(check_fold(wrong).empty());
}

TEST_CASE("a uniform cluster folds to one group class a pipeline rank, whatever its size")
{
    synthetic::Shape shape;
    shape.pipeline = 4;
    for (auto const gpus : {256, 1024}) {
        shape.gpus = gpus;
        auto const problem = synthetic::make(shape);
        auto const folded = fold(problem);
        CHECK(folded.representative.size() == 4);
        CHECK(check_fold(folded).empty());
        for (std::size_t c = 0; c < 4; ++c) CHECK(folded.multiplicity[c] == static_cast<std::uint32_t>(gpus / 256));
    }
}

TEST_CASE("a straggler, a slow NIC and a failed plane each split classes and are sound")
{
    synthetic::Shape const healthy{.gpus = 256, .group_gpus = 16, .pipeline = 4};
    auto const base = flow_classes(healthy);
    auto straggler = healthy;
    straggler.straggler = 5;
    auto slow = healthy;
    slow.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
    auto failed = healthy;
    failed.faults = {{Fault::Kind::failed_plane, 2, 1}};
    for (auto const& shape : {straggler, slow, failed}) {
        auto const problem = synthetic::make(shape);
        auto const folded = fold(problem);
        CHECK(check_fold(folded).empty());
        CHECK(folded.flows.size() > base);
        CHECK(folded.flows.size() < problem.flows.size());
    }
}

TEST_CASE("the trivial partition has as many classes as there are groups and flows, and is sound")
{
    auto const problem = synthetic::make({.gpus = 64, .group_gpus = 16, .pipeline = 2});
    auto const audit = unfolded(problem);
    CHECK(audit.representative.size() == problem.groups.size());
    CHECK(audit.flows.size() == problem.flows.size());
    CHECK(check_fold(audit).empty());
    for (auto const& flow : audit.flows) {
        CHECK(flow.multiplicity == 1);
        for (auto const& use : flow.uses) CHECK(use.weight == 1);
    }
}

TEST_CASE("flow classes are sorted by group class and channel")
{
    synthetic::Shape shape{.gpus = 256, .group_gpus = 16, .pipeline = 4};
    shape.faults = {{Fault::Kind::slow_nic, 100, 0.5}};
    auto const problem = synthetic::make(shape);
    auto const folded = fold(problem);
    CHECK(std::is_sorted(folded.flows.begin(), folded.flows.end(), [](auto const& a, auto const& b) {
        return std::pair{a.group, a.channel} < std::pair{b.group, b.channel};
    }));
}

TEST_CASE("the checker finds every kind of corruption of a folding")
{
    synthetic::Shape shape{.gpus = 128, .group_gpus = 16, .pipeline = 2};
    shape.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
    auto const problem = synthetic::make(shape);
    auto const sound = fold(problem);
    REQUIRE(check_fold(sound).empty());
    auto broken = sound;

    SECTION("a wrong weight") { ++broken.flows[0].uses[0].weight; }
    SECTION("a weight of zero") { broken.flows.back().uses.back().weight = 0; }
    SECTION("a missing use of a link") { broken.flows[1].uses.pop_back(); }
    SECTION("a use of a link that does not exist") { broken.flows[0].uses[0].link = 1'000'000; }
    SECTION("a use counted twice") { broken.flows[0].uses.push_back(broken.flows[0].uses[0]); }
    SECTION("a wrong multiplicity of a flow") { ++broken.flows[0].multiplicity; }
    SECTION("a wrong multiplicity of a group") { ++broken.multiplicity[0]; }
    SECTION("a wrong multiplicity of a link") { ++broken.link_multiplicity[0]; }
    SECTION("a wrong capacity") { broken.link_capacity[0] *= 2; }
    SECTION("a wrong share") { broken.flows[0].share *= 2; }
    SECTION("a wrong channel") { broken.flows[0].channel = Channel::data_expert; }
    SECTION("a lost neighbour") { broken.previous[0].clear(); }
    SECTION("a lost member of a team") { broken.team[0].pop_back(); }
    SECTION("a flow in another class") { broken.class_of_flow[0] = broken.class_of_flow.back(); }
    SECTION("a link left out") { broken.class_of_link[0] = no_class; }
    SECTION("a group in another class") { broken.class_of_group[0] = broken.class_of_group.back(); }
    SECTION("classes beyond the end") { broken.class_of_flow[0] = no_class; }
    SECTION("another problem's folding") { broken.class_of_group.pop_back(); }

    CHECK_FALSE(check_fold(broken).empty());
}

TEST_CASE("a partition that merges different groups does not pass the checker")
{
    // As if the refinement's hashes had collided: fold a problem without its defect, then look at the one with it.
    synthetic::Shape shape{.gpus = 64, .group_gpus = 16, .pipeline = 2};
    auto const healthy = synthetic::make(shape);
    auto const collided = fold(healthy);
    auto const check_against = [&](Problem const& actual) {
        auto wrong = collided;
        wrong.problem = &actual;
        return check_fold(wrong);
    };
    CHECK(check_against(healthy).empty());
    shape.straggler = 1;
    CHECK_FALSE(check_against(synthetic::make(shape)).empty());
    shape.straggler.reset();
    shape.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
    CHECK_FALSE(check_against(synthetic::make(shape)).empty());
    auto swapped = healthy;
    swapped.groups[2].next = 1; // the wrong replica, but the same program
    swapped.groups[2].slowdown = 1.0000001;
    CHECK_FALSE(check_against(swapped).empty());
}

TEST_CASE("a problem that names what does not exist is refused")
{
    auto p = one_node();
    SECTION("a link") { p.flows[5].route.links[0] = 99; }
    SECTION("a group") { p.flows[5].group = 1; }
    SECTION("a program") { p.groups[0].program = 1; }
    SECTION("a neighbour") { p.groups[0].next = 1; }
    SECTION("a team") { p.groups[0].team = 1; }
    SECTION("a member of a team") { p.teams[0][0] = 1; }
    CHECK_THROWS_AS(fold(p), InternalError);
    CHECK_THROWS_AS(unfolded(p), InternalError);
}
