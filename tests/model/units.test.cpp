// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of quantities: what a quotient is, and that nothing else converts. What must not compile is in
// tests/must_not_compile.
#include "tests/catch.hpp"

#include <type_traits>

#include "model/units.hpp"

using namespace trainfare;
using namespace trainfare::units;

TEST_CASE("FLOP over FLOP per second is seconds")
{
    auto const time = 989.0 * TFLOP / (494.5 * TFLOPps);
    STATIC_REQUIRE(std::is_same_v<decltype(time), Seconds const>);
    CHECK(time.value() == Approx(2));
}

TEST_CASE("bytes over bandwidth is seconds and bandwidth times seconds is bytes")
{
    STATIC_REQUIRE(std::is_same_v<decltype(Bytes{1} / Bandwidth{1}), Seconds>);
    STATIC_REQUIRE(std::is_same_v<decltype(Bandwidth{1} * Seconds{1}), Bytes>);
    CHECK((100 * GB / (50 * GBps)).value() == Approx(2));
    CHECK((400 * Gbitps).value() == Approx((50 * GBps).value()));
}

TEST_CASE("a quotient of equal dimensions is a plain number")
{
    STATIC_REQUIRE(std::is_same_v<decltype(Bytes{1} / Bytes{1}), double>);
    STATIC_REQUIRE(std::is_same_v<decltype(Seconds{1} * (1.0 / Seconds{1})), double>);
    CHECK(GiB / GB == Approx(1.073741824));
}

TEST_CASE("GPU-hours times a price are dollars: 2.788M GPU-hours at 2 dollars cost 5.576 million")
{
    auto const cost = 2.788e6 * gpu_hour * (2 * usd_per_gpu_hour);
    STATIC_REQUIRE(std::is_same_v<decltype(cost), Dollars const>);
    CHECK(cost.value() == Approx(5.576e6));
}

TEST_CASE("watts times seconds are joules, and a kilowatt for an hour is a kilowatt-hour")
{
    STATIC_REQUIRE(std::is_same_v<decltype(Watts{1} * Seconds{1}), Joules>);
    CHECK(kW * hour / kWh == Approx(1));
}

TEST_CASE("sums, differences, scaling and order act on the value")
{
    Seconds t = 2 * s;
    t += 500 * ms;
    t -= 1 * s;
    t *= 4;
    t /= 3;
    CHECK(t.value() == Approx(2));
    CHECK((-t).value() == Approx(-2));
    CHECK(us < ms);
    CHECK(1000 * ms == s);
    CHECK(Bytes{}.value() == 0);
}

TEST_CASE("a quantity costs no more than its double and is usable at compile time")
{
    STATIC_REQUIRE(sizeof(Flops) == sizeof(double));
    STATIC_REQUIRE(std::is_trivially_copyable_v<Flops>);
    STATIC_REQUIRE((2 * TFLOP / TFLOPps).value() == 2);
}

TEST_CASE("plain numbers and other dimensions do not convert")
{
    STATIC_REQUIRE_FALSE(std::is_convertible_v<double, Bytes>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<Bytes, double>);
    STATIC_REQUIRE_FALSE(std::is_constructible_v<Flops, Bytes>);
    STATIC_REQUIRE_FALSE(std::is_assignable_v<Seconds&, Bytes>);
}
