// SPDX-License-Identifier: Apache-2.0
//
// The number formats against their definitions: every e4m3 number and the middle between each two; bf16 by distance and
// parity.
#include "kernels/host/rounding.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/host/backend.hpp"
#include "tests/kernels/backends.hpp"

namespace trainfare::kernels {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
float const nan = std::numeric_limits<float>::quiet_NaN();

/// The number of an e4m3 code without sign (OCP FP8: bias 7, exponent 0 is subnormal, 0x7f is NaN).
float e4m3_number(int code)
{
    int const exponent = code / 8, mantissa = code % 8;
    return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                         : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

} // namespace

TEST_CASE("every e4m3 number rounds to itself, the middle of two to the one with an even code")
{
    CHECK(e4m3_number(0x7e) == 448.0F);
    for (int code = 0; code < 0x7e; ++code) {
        float const here = e4m3_number(code), next = e4m3_number(code + 1), middle = (here + next) / 2;
        INFO("code " << code);
        CHECK(round_to_e4m3(here) == here);
        CHECK(round_to_e4m3(-here) == -here);
        CHECK(round_to_e4m3(middle) == (code % 2 == 0 ? here : next));
        CHECK(round_to_e4m3(std::nextafter(middle, 0.0F)) == here);
        CHECK(round_to_e4m3(-std::nextafter(middle, infinity)) == -next);
    }
}

TEST_CASE("e4m3 saturates at 448, keeps NaN and the sign of zero")
{
    for (float const x : {448.0F, 464.0F, 465.0F, 1e30F, infinity}) {
        CHECK(round_to_e4m3(x) == 448.0F);
        CHECK(round_to_e4m3(-x) == -448.0F);
    }
    CHECK(std::isnan(round_to_e4m3(nan)));
    CHECK(std::signbit(round_to_e4m3(-0.0F)));
    CHECK(std::signbit(round_to_e4m3(-1e-30F)));
    CHECK(round_to_e4m3(17) == 16);
    CHECK(round_to_e4m3(19) == 20);
    CHECK(round_to_e4m3(0.001F) == 0x1p-9F);
    CHECK(round_to_e4m3(0x1p-10F) == 0);
}

TEST_CASE("bf16 is the nearest number with eight bits of mantissa, the even one of two")
{
    CHECK(round_to_bf16(1 + 0x1p-8F) == 1);
    CHECK(round_to_bf16(1 + 3 * 0x1p-8F) == 1 + 0x1p-6F);
    for (float const x : {1.0F, -3.14159F, 1e-30F, 6.7e37F, 0x1p-133F, -0x1.8p-130F}) {
        float const rounded = round_to_bf16(x);
        int exponent = 0;
        static_cast<void>(std::frexp(x, &exponent));
        float const unit = std::ldexp(1.0F, std::max(exponent - 8, -133)); // between neighbours; -133: subnormal
        INFO(x << " -> " << rounded);
        CHECK(std::fabs(rounded - x) <= unit / 2);
        CHECK(std::fmod(rounded, unit) == 0);
    }
}

TEST_CASE("bf16 keeps infinity, NaN and the sign of zero, and rounds the largest floats to infinity")
{
    CHECK(round_to_bf16(infinity) == infinity);
    CHECK(round_to_bf16(-std::numeric_limits<float>::max()) == -infinity);
    CHECK(std::isnan(round_to_bf16(nan)));
    CHECK(std::isnan(round_to_bf16(std::bit_cast<float>(0x7f800001U)))); // its set bits are beyond bf16
    CHECK(std::signbit(round_to_bf16(-0.0F)));
}

TEST_CASE("`cpu` stores rounded numbers, `ref` the numbers themselves")
{
    CHECK(stored(Element::bf16, 1.001F) == 1.0F);
    CHECK(stored(Element::e4m3, 1.1F) == 1.125F);
    CHECK(stored(Element::f32, 1.001F) == 1.001F);
    CHECK(stored(Element::bf16, 1.001) == 1.001);
    CHECK(stored(Element::e4m3, 1e9) == 1e9);
}

} // namespace trainfare::kernels
