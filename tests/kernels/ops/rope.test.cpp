// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/backend.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

Rope heads_of(int seq, int heads, int width, int first, int dim)
{
    Rope rope;
    rope.seq = seq, rope.heads = heads, rope.width = width, rope.first = first, rope.dim = dim;
    return rope;
}

Values rotated(Backend& on, Rope const& rope, int rows, Values const& x, bool inverse)
{
    Inside const t = inside(on, Element::bf16, rows, rope.heads * rope.width, x);
    on.rope(rope, t.view, inverse);
    CHECK(t.margins_untouched(on));
    return t.values(on);
}

} // namespace

TEST_CASE("rope turns (1, 0) at position 1 into (cos 1, sin 1)")
{
    auto const out = rotated(*reference(), heads_of(2, 1, 2, 0, 2), 2, {1, 0, 1, 0}, false);
    CHECK(out[0] == 1);
    CHECK(out[1] == 0);
    CHECK(out[2] == Approx(0.5403).epsilon(1e-4));
    CHECK(out[3] == Approx(0.8415).epsilon(1e-4));
}

TEST_CASE("rope pairs column i with i + dim/2 and turns it by position / base^(2 i/dim)")
{
    auto const out = rotated(*reference(), heads_of(101, 1, 64, 0, 64), 101, Values(101 * 64, 1.0), false);
    double const angle = 100 * 0.01; // pair 16 of 32 at base 10000
    CHECK(out[100 * 64 + 16] == Approx(std::cos(angle) - std::sin(angle)));
    CHECK(out[100 * 64 + 48] == Approx(std::cos(angle) + std::sin(angle)));
}

TEST_CASE("rope agrees with the double reference for wide and odd layouts, and leaves other columns alone",
          "[sanitize]")
{
    for (Rope const& rope : {heads_of(17, 5, 24, 8, 16), heads_of(50, 128, 64, 0, 64), heads_of(9, 3, 11, 3, 6),
                             heads_of(50, 1, 64, 0, 64), heads_of(4, 2, 256, 0, 256), heads_of(4, 2, 257, 1, 256)}) {
        int const rows = 50, all = rows * rope.heads * rope.width;
        auto const x = numbers(all, 1);
        auto const expected = rotated(*reference(), rope, rows, x, false),
                   back = rotated(*reference(), rope, rows, x, true);
        INFO(rope.heads << " heads of " << rope.width << ", " << rope.dim << " columns rotated");
        on_every_backend([&](Backend& on) {
            auto const out = rotated(on, rope, rows, x, false);
            CHECK(distance(out, expected) < 5e-3);
            CHECK(distance(rotated(on, rope, rows, x, true), back) < 5e-3);
            for (int i = 0; i < all; ++i)
                if (int const col = i % rope.width; col < rope.first || col >= rope.first + rope.dim)
                    REQUIRE(out[static_cast<std::size_t>(i)] == x[static_cast<std::size_t>(i)]);
        });
    }
}

TEST_CASE("the inverse rotation undoes the rotation, so it is its backward pass")
{
    auto const rope = heads_of(7, 2, 12, 4, 8);
    auto const x = numbers(7 * 24, 1), dy = numbers(7 * 24, 2);
    auto const on = reference();
    CHECK(distance(rotated(*on, rope, 7, rotated(*on, rope, 7, x, false), true), x) < 1e-14);
    auto const slopes = gradient([&](Values const& at) { return dot(rotated(*on, rope, 7, at, false), dy); }, x);
    CHECK(distance(rotated(*on, rope, 7, dy, true), slopes) < 1e-6);
}

TEST_CASE("rope is exact to bf16 up to position 131,072")
{
    // (1, 0) becomes (cos, sin). An angle that is wrong by 1e-6 changes about one in two thousand of the rounded
    // results; fp32 products of position and frequency are wrong by up to 4e-3 here and change most of them.
    constexpr int rows = 131073;
    Values x(rows * 4);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 4 < 2 ? 1 : 0;
    on_every_backend([&](Backend& on) {
        auto const out = rotated(on, heads_of(rows, 1, 4, 0, 4), rows, x, false);
        int wrong = 0;
        for (int row = 0; row < rows; ++row)
            for (int pair = 0; pair < 2; ++pair) {
                double const angle = row * (pair == 0 ? 1 : 0.01);
                auto const at = static_cast<std::size_t>(row * 4 + pair);
                wrong += out[at] != rounded_to_bf16(std::cos(angle));
                wrong += out[at + 2] != rounded_to_bf16(std::sin(angle));
            }
        CHECK(wrong <= 4 * rows / 2000);
    });
}

TEST_CASE("rope does nothing to no rows and refuses layouts that do not fit")
{
    on_every_backend([](Backend& on) {
        on.rope(heads_of(8, 2, 16, 0, 16), on.make(Element::bf16, 0, 32), false);
        Tensor const x = on.make(Element::bf16, 4, 32);
        CHECK_THROWS_AS(on.rope(heads_of(8, 2, 16, 8, 16), x, false), InternalError);
        CHECK_THROWS_AS(on.rope(heads_of(8, 2, 16, 0, 15), x, false), InternalError);
        CHECK_THROWS_AS(on.rope(heads_of(8, 3, 16, 0, 16), x, false), InternalError);
        CHECK_THROWS_AS(on.rope(heads_of(0, 2, 16, 0, 16), x, false), InternalError);
    });
}
