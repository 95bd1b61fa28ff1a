// SPDX-License-Identifier: Apache-2.0
//
// Sums that add to what is there, the same bits every time, and the scale of gradient clipping.
#include <cmath>
#include <limits>
#include <utility>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

double sum(Backend& on, Tensor const& x, bool squares, double before = 0)
{
    Tensor const out = tensor(on, Element::f32, 1, 1, {before});
    on.sum(x, out, squares);
    return on.download(out)[0];
}

double clip_scale(Backend& on, double sum_of_squares, float limit)
{
    Tensor const out = poisoned(on, Element::f32, 1, 1);
    on.clip_scale(tensor(on, Element::f32, 1, 1, {sum_of_squares}), limit, out);
    return on.download(out)[0];
}

} // namespace

TEST_CASE("a sum adds to what is there, of numbers or of their squares")
{
    on_every_backend([](Backend& on) {
        CHECK(sum(on, tensor(on, Element::f32, 1, 3, {1, -2, 5}), false, 10) == 14);
        CHECK(sum(on, tensor(on, Element::f32, 3, 1, {1, -2, 5}), true, 10) == 40);
        CHECK(sum(on, on.make(Element::f32, 0, 4), true, 10) == 10);
    });
}

TEST_CASE("sums of any length, whole numbers exactly")
{
    for (std::int64_t n : {1, 4, 1023, 4096, 4097, 100003, 4300000}) {
        auto const whole = integers(n, 3, 1);
        double exact = 0;
        for (int x : whole) exact += x;
        on_every_backend([&](Backend& on) {
            Tensor const x = tensor(on, Element::f32, 1, n, Values(whole.begin(), whole.end()));
            CHECK(sum(on, x, false) == exact); // all partial sums are below 2^24
        });
    }
}

TEST_CASE("sums agree with the reference and repeat bit by bit, also of a part that begins anywhere", "[sanitize]")
{
    auto const x = numbers(30001, 2);
    auto const ref = reference();
    on_every_backend([&](Backend& on) {
        Tensor const mine = tensor(on, Element::f32, 30001, 1, x), exact = tensor(*ref, Element::f32, 30001, 1, x);
        for (auto [first, count] : {std::pair{0, 30001}, std::pair{1, 30000}, std::pair{3, 7}, std::pair{30000, 1}})
            for (bool squares : {true, false}) {
                double const out = sum(on, mine.row_range(first, count), squares);
                double const expected = sum(*ref, exact.row_range(first, count), squares);
                CHECK(std::abs(out - expected) < 1e-5 * (squares ? expected : std::sqrt(30001.0)));
                CHECK(sum(on, mine.row_range(first, count), squares) == out);
            }
    });
}

TEST_CASE("a sum does not depend on the SMs in use")
{
    on_every_backend([](Backend& on) {
        Tensor const x = tensor(on, Element::f32, 1, 50000, numbers(50000, 3));
        double const all = sum(on, x, true);
        on.limit_sms(1);
        CHECK(sum(on, x, true) == all);
        on.limit_sms(0);
    });
}

TEST_CASE("a norm of 2 under a limit of 1 halves the gradient; a small one is left alone")
{
    on_every_backend([](Backend& on) {
        CHECK(clip_scale(on, 4, 1) == 0.5);
        CHECK(clip_scale(on, 0.25, 1) == 1);
        CHECK(clip_scale(on, 1, 1) == 1);
        CHECK(clip_scale(on, 0, 1) == 1);
        CHECK(std::isnan(clip_scale(on, std::numeric_limits<double>::quiet_NaN(), 1))); // is seen, not hidden
    });
}
