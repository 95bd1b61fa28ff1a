// SPDX-License-Identifier: Apache-2.0
#include "model/routing.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

Experts experts_of(int count, int top_k, int groups = 1, int top_groups = 1)
{
    Experts e;
    e.count = count;
    e.top_k = top_k;
    e.groups = groups;
    e.top_groups = top_groups;
    return e;
}

Experts const deepseek_v3_experts = experts_of(256, 8, 8, 4);

/// The same by drawing tokens.
Reach drawn(Experts const& e, int ep, int domains, int tokens)
{
    std::mt19937 random{11};
    std::vector<int> groups(static_cast<std::size_t>(e.groups));
    std::iota(groups.begin(), groups.end(), 0);
    int const group_size = e.count / e.groups;
    double in_domains = 0, on_gpus = 0;
    for (int t = 0; t < tokens; ++t) {
        std::shuffle(groups.begin(), groups.end(), random);
        std::vector<int> pool;
        for (int g = 0; g < e.top_groups; ++g)
            for (int x = 0; x < group_size; ++x) pool.push_back(groups[static_cast<std::size_t>(g)] * group_size + x);
        std::shuffle(pool.begin(), pool.end(), random);
        std::set<int> gpus, nodes;
        for (int k = 0; k < e.top_k; ++k) {
            int const gpu = pool[static_cast<std::size_t>(k)] / (e.count / ep);
            gpus.insert(gpu);
            nodes.insert(gpu / (ep / domains));
        }
        in_domains += static_cast<double>(nodes.size());
        on_gpus += static_cast<double>(gpus.size());
    }
    return {in_domains / tokens, on_gpus / tokens};
}

} // namespace

TEST_CASE("a DeepSeek-V3 token reaches 3.63 of 8 nodes")
{
    CHECK(expected_reach(deepseek_v3_experts, 64, 8).domains == Approx(3.629).margin(0.0005));
}

TEST_CASE("without the group limit it would reach 5.30 nodes")
{
    // 8 (1 - C(224, 8) / C(256, 8))
    CHECK(expected_reach(experts_of(256, 8), 64, 8).domains == Approx(5.30).margin(0.01));
}

TEST_CASE("one rank or one domain is always the whole reach")
{
    CHECK(expected_reach(deepseek_v3_experts, 1, 1).domains == Approx(1));
    CHECK(expected_reach(deepseek_v3_experts, 1, 1).gpus == Approx(1));
    CHECK(expected_reach(deepseek_v3_experts, 64, 1).domains == Approx(1));
    CHECK(expected_reach(experts_of(16, 16), 16, 4).gpus == Approx(16));
    CHECK(expected_reach(experts_of(256, 8), 256, 256).gpus == Approx(8));
}

TEST_CASE("exact counts agree with drawn tokens, whether groups span domains or lie inside them")
{
    struct Case {
        Experts experts;
        int ep, domains;
    };
    for (auto const& c :
         {Case{deepseek_v3_experts, 64, 8}, Case{deepseek_v3_experts, 64, 16}, Case{deepseek_v3_experts, 64, 2},
          Case{deepseek_v3_experts, 32, 32}, Case{experts_of(160, 6, 8, 3), 40, 5},
          Case{experts_of(96, 4, 8, 2), 32, 16}, Case{experts_of(96, 6, 4, 3), 16, 16}, Case{experts_of(8, 2), 8, 2}}) {
        auto const exact = expected_reach(c.experts, c.ep, c.domains);
        auto const sample = drawn(c.experts, c.ep, c.domains, 20000);
        CAPTURE(c.experts.count, c.experts.groups, c.ep, c.domains);
        CHECK(exact.domains == Approx(sample.domains).epsilon(0.01));
        CHECK(exact.gpus == Approx(sample.gpus).epsilon(0.01));
    }
}

TEST_CASE("impossible routers and groups are refused")
{
    CHECK_THROWS_AS(expected_reach(deepseek_v3_experts, 64, 7), InputError);
    CHECK_THROWS_AS(expected_reach(deepseek_v3_experts, 64, 0), InputError);
    CHECK_THROWS_AS(expected_reach(deepseek_v3_experts, 48, 8), InputError);
    CHECK_THROWS_AS(expected_reach(deepseek_v3_experts, 0, 1), InputError);
    CHECK_THROWS_AS(expected_reach(experts_of(8, 9), 8, 1), InputError);
    CHECK_THROWS_AS(expected_reach(experts_of(0, 0), 1, 1), InputError);
    CHECK_THROWS_AS(expected_reach(experts_of(256, 8, 7, 4), 64, 8), InputError);
    CHECK_THROWS_AS(expected_reach(experts_of(256, 8, 8, 9), 64, 8), InputError);
    CHECK_THROWS_AS(expected_reach(experts_of(64, 8, 16, 1), 64, 8), InputError); // 4 experts are in reach
    CHECK_THROWS_AS(rank_loads(deepseek_v3_experts, 48, 0.1), InputError);
    CHECK_THROWS_AS(rank_loads(deepseek_v3_experts, 64, -0.1), InputError);
    CHECK_THROWS_AS(rank_loads(deepseek_v3_experts, 64, std::nan("")), InputError);
}

TEST_CASE("balanced experts load all ranks alike")
{
    for (double const load : rank_loads(deepseek_v3_experts, 64, 0)) CHECK(load == 1);
}

TEST_CASE("loads fall from the first rank, average one, and spread by the root of the experts a rank holds")
{
    auto const loads = rank_loads(deepseek_v3_experts, 64, 0.4);
    REQUIRE(loads.size() == 64);
    CHECK(std::is_sorted(loads.rbegin(), loads.rend()));
    CHECK(std::accumulate(loads.begin(), loads.end(), 0.0) / 64 == Approx(1));
    // Four experts a rank: deviation 0.2. The largest of 64 normal draws is expected 2.34 deviations up.
    CHECK(loads.front() == Approx(1 + 0.2 * 2.34).epsilon(0.003));
    CHECK(loads.back() == Approx(1 - 0.2 * 2.34).epsilon(0.003));
    CHECK(rank_loads(experts_of(9, 2), 9, 0.1)[4] == Approx(1));
}

TEST_CASE("the first load is what order statistics of normal draws expect: 1.539 deviations of 10, 2.508 of 100")
{
    CHECK(rank_loads(experts_of(10, 2), 10, 0.1).front() == Approx(1.1539).margin(0.001));
    CHECK(rank_loads(experts_of(100, 2), 100, 0.1).front() == Approx(1.2508).margin(0.001));
}

TEST_CASE("a wild router loads no rank with less than nothing")
{
    auto const loads = rank_loads(experts_of(64, 8), 64, 2);
    CHECK(*std::min_element(loads.begin(), loads.end()) == 0);
    CHECK(std::accumulate(loads.begin(), loads.end(), 0.0) / 64 == Approx(1));
}
