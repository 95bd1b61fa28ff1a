// SPDX-License-Identifier: Apache-2.0
//
// Uneven expert loads on the exchange: the busiest link sets the time, and the simulation agrees where nothing
// contends.
#include "sim/traffic.hpp"

#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

double skew(int ep, double load_cv, bool simulate, Dispatcher dispatcher = Dispatcher::deepep, int domain = 8)
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 2, 64, ep, 4);
    c.plan.dispatcher = dispatcher;
    c.cluster.domain = domain;
    return exchange_skew(c.plan, c.cluster, *c.arch.layers.back().ffn.experts, load_cv, simulate);
}

} // namespace

TEST_CASE("even loads, and experts that never leave their GPU, have no skew")
{
    CHECK(skew(64, 0, false) == 1);
    CHECK(skew(64, 0, true) == 1);
    CHECK(skew(1, 0.5, false) == 1);
    CHECK(skew(1, 0.5, true) == 1);
}

TEST_CASE("skew grows with the spread of loads")
{
    for (int const ep : {8, 16, 32, 64}) {
        double before = 1;
        for (double const cv : {0.1, 0.2, 0.4, 0.8}) {
            auto const now = skew(ep, cv, false);
            CHECK(now > before);
            before = now;
        }
    }
}

TEST_CASE("a node averages its GPUs' loads: inside one domain the same spread hurts more than across eight")
{
    CHECK(skew(64, 0.4, false, Dispatcher::deepep, 64) > skew(64, 0.4, false));
}

TEST_CASE("the busiest link's ratio is the simulated one within 1 % where the fabric does not bind")
{
    for (int const ep : {8, 16, 32, 64})
        for (double const cv : {0.1, 0.3, 0.6}) CHECK(skew(ep, cv, false) == Approx(skew(ep, cv, true)).epsilon(0.01));
}

TEST_CASE("every dispatcher's skew agrees with its simulation")
{
    for (auto const dispatcher : {Dispatcher::alltoall, Dispatcher::allgather, Dispatcher::deepep})
        CHECK(skew(32, 0.4, false, dispatcher) == Approx(skew(32, 0.4, true, dispatcher)).epsilon(0.01));
}

TEST_CASE("tensor slices of an expert are as busy as the expert")
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 2, 64, 16, 4);
    c.plan.etp = 2;
    auto const& e = *c.arch.layers.back().ffn.experts;
    auto const fast = exchange_skew(c.plan, c.cluster, e, 0.4, false);
    CHECK(fast > 1);
    CHECK(fast == Approx(exchange_skew(c.plan, c.cluster, e, 0.4, true)).epsilon(0.01));
}
