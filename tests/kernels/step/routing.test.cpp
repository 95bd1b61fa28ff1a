// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numeric>
#include <set>

#include "kernels/step/routing.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

std::vector<double> loads(std::vector<std::int32_t> const& chosen, int experts)
{
    std::vector<double> n(static_cast<std::size_t>(experts));
    for (auto const e : chosen) ++n[static_cast<std::size_t>(e)];
    return n;
}

double variation(std::vector<double> const& n)
{
    double const mean = std::accumulate(n.begin(), n.end(), 0.0) / static_cast<double>(n.size());
    double square = 0;
    for (double const x : n) square += (x - mean) * (x - mean);
    return std::sqrt(square / static_cast<double>(n.size())) / mean;
}

} // namespace

TEST_CASE("a made routing has the variation of loads that was asked for, and no token meets an expert twice", "[step]")
{
    auto c = tiny_config();
    c.seq_len = 512;
    for (double const cv : {0.0, 0.1, 0.5, 1.2}) {
        auto const routing = make_routing(c, cv, 3);
        REQUIRE(routing.chosen.size() == 1);
        REQUIRE(routing.chosen[0].size() == 2); // one MoE layer and the MTP module's
        for (auto const& layer : routing.chosen[0]) {
            CHECK(variation(loads(layer, 8)) == Approx(cv).margin(0.005));
            REQUIRE(layer.size() == 2048);
            for (std::size_t t = 0; t < layer.size(); t += 2) REQUIRE(layer[t] != layer[t + 1]);
        }
        CHECK(loads(routing.chosen[0][0], 8) == loads(routing.chosen[0][1], 8));
        CHECK(routing.chosen[0][0] != routing.chosen[0][1]);
    }
    CHECK(make_routing(c, 0.5, 3).chosen == make_routing(c, 0.5, 3).chosen);
    CHECK(make_routing(c, 0.5, 3).chosen != make_routing(c, 0.5, 4).chosen);
}

TEST_CASE("loads that no routing can have are refused", "[step]")
{
    CHECK_THROWS_AS(make_routing(tiny_config(), 1.8, 1), InputError); // sqrt(8 / 2 - 1) = 1.73
    CHECK_THROWS_AS(make_routing(tiny_config(), -0.1, 1), InputError);
    CHECK_THROWS_AS(make_routing(tiny_config(), std::nan(""), 1), InputError);
}

TEST_CASE("a row plan of two ranks sends what the other receives and rounds each expert's rows up", "[step]")
{
    std::vector<std::int32_t> const counts{3, 0, 20, 1, /* rank 1: */ 5, 7, 2, 2};
    auto const a = plan_rows(counts, 0, 2, 2, 16), b = plan_rows(counts, 1, 2, 2, 16);
    CHECK(a.send == std::vector<std::int64_t>{3, 21});
    CHECK(a.receive == std::vector<std::int64_t>{3, 12});
    CHECK(b.send == std::vector<std::int64_t>{12, 4});
    CHECK(b.receive == std::vector<std::int64_t>{21, 4});
    CHECK(a.groups.rows == std::vector<std::int64_t>{8, 7});
    CHECK(b.groups.rows == std::vector<std::int64_t>{22, 3});
    CHECK(b.groups.starts == std::vector<std::int64_t>{0, 32, 48});
    CHECK(b.received() == 25);
}

TEST_CASE("one rank that plays four folds its experts", "[step]")
{
    auto const p = plan_rows({1, 2, 3, 4, 5, 6, 7, 8}, 0, 1, 2, 16);
    CHECK(p.send == std::vector<std::int64_t>{36});
    CHECK(p.groups.rows == std::vector<std::int64_t>{1 + 3 + 5 + 7, 2 + 4 + 6 + 8});
}

TEST_CASE("a routing that does not fit the step is refused", "[step]")
{
    auto const c = tiny_config();
    SoloRun run{c};
    auto const good = make_routing(c, 0, 1);
    auto const tokens = tokens_of(c);
    auto refused = [&](auto change) {
        auto bad = good;
        change(bad);
        CHECK_THROWS_AS(run.trainer.step(tokens, &bad), InputError);
    };
    refused([](Routing& r) { r.chosen.clear(); });
    refused([](Routing& r) { r.chosen[0].pop_back(); });
    refused([](Routing& r) { r.chosen[0][0].pop_back(); });
    refused([](Routing& r) { r.chosen[0][0][3] = 8; });
    refused([](Routing& r) { r.chosen[0][0][3] = -1; });
    refused([](Routing& r) { r.chosen[0][1][4] = r.chosen[0][1][5]; });
    CHECK_NOTHROW(run.trainer.step(tokens, &good));
}
