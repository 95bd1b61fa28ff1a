// SPDX-License-Identifier: Apache-2.0
//
// The surrogate's factor against hand-computed ports.
#include "sim/surrogate.hpp"

#include <vector>

#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

/// GPUs of one node exchange over ports of 1 GB/s: out ports first.
struct Node {
    Problem problem;
    std::vector<RankRange> ranks;

    explicit Node(std::uint32_t gpus)
    {
        for (std::uint32_t i = 0; i < gpus; ++i) problem.links.push_back({LinkKind::scale_up_out, 1e9});
        for (std::uint32_t i = 0; i < gpus; ++i) problem.links.push_back({LinkKind::scale_up_in, 1e9});
        problem.programs.emplace_back();
        problem.groups.emplace_back();
        problem.teams = {{0}};
        for (std::uint32_t from = 0; from < gpus; ++from) {
            for (std::uint32_t to = 0; to < gpus; ++to) {
                if (from == to) continue;
                Flow flow{0, Channel::expert, 1, {}};
                flow.route.add(from);
                flow.route.add(gpus + to);
                problem.flows.push_back(flow);
                ranks.push_back({to, 1});
            }
        }
    }
};

} // namespace

TEST_CASE("equal loads give a factor of 1")
{
    Node const node{4};
    CHECK(skew_factor(node.problem, 0, node.ranks, std::vector{1.0, 1.0, 1.0, 1.0}) == Approx(1).epsilon(1e-9));
}

TEST_CASE("the busiest receiving port sets the factor: load 1.75 of the mean takes 1.75 times as long")
{
    Node const node{4};
    // Port of rank 0 receives 3 flows of 1.75; all else is below: the others send 0.75 each.
    CHECK(skew_factor(node.problem, 0, node.ranks, std::vector{1.75, 0.75, 0.75, 0.75}) == Approx(1.75).epsilon(1e-9));
}

TEST_CASE("a flow for all ranks of a node grows by their mean load")
{
    Node node{2}; // two "nodes" with two expert ranks each
    node.ranks = {{2, 2}, {0, 2}};
    CHECK(skew_factor(node.problem, 0, node.ranks, std::vector{1.0, 0.4, 1.1, 1.5}) == Approx(1.3).epsilon(1e-9));
    CHECK(skew_factor(node.problem, 0, node.ranks, std::vector{1.9, 0.1, 1.5, 0.5}) == Approx(1).epsilon(1e-9));
}

TEST_CASE("a port that sends to many hides the skew of what each receives")
{
    // Worked number of surrogate.cpp: one sender's port binds, so loads 1.5 and 0.5 leave the time as it was.
    Problem p;
    p.links = {{LinkKind::scale_up_out, 1e9}, {LinkKind::scale_up_in, 1e9}, {LinkKind::scale_up_in, 1e9}};
    for (LinkId to : {1U, 2U}) {
        Flow flow{0, Channel::expert, 1, {}};
        flow.route.add(0);
        flow.route.add(to);
        p.flows.push_back(flow);
    }
    std::vector<RankRange> const ranks{{0, 1}, {1, 1}};
    CHECK(skew_factor(p, 0, ranks, std::vector{1.5, 0.5}) == Approx(1).epsilon(1e-9));
}

TEST_CASE("a group without expert flows has nothing to skew")
{
    Node const node{2};
    CHECK(skew_factor(node.problem, 7, {}, std::vector{1.0, 1.0}) == 1);
}

TEST_CASE("loads and ranks that do not fit the flows are refused")
{
    Node const node{4};
    std::vector<double> const even(4, 1.0);
    auto const too_few = std::vector<RankRange>(3);
    auto const beyond = std::vector<RankRange>(12, {3, 2});
    auto const nobody = std::vector<RankRange>(12, {0, 0});
    CHECK_THROWS_AS(skew_factor(node.problem, 0, too_few, even), InternalError);
    CHECK_THROWS_AS(skew_factor(node.problem, 0, beyond, even), InternalError);
    CHECK_THROWS_AS(skew_factor(node.problem, 0, nobody, even), InternalError);
    CHECK_THROWS_AS(skew_factor(node.problem, 0, node.ranks, std::vector{2.0, 2.0, 2.0, 2.0}), InternalError);
    CHECK_THROWS_AS(skew_factor(node.problem, 0, node.ranks, std::vector{3.0, -1.0, 1.0, 1.0}), InternalError);
    CHECK_THROWS_AS(skew_factor(node.problem, 0, node.ranks, std::vector<double>{}), InternalError);
}
