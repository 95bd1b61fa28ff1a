// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

constexpr float eps = 1e-6F;

/// One width for each way the GPU kernels hold a row, and odd ones.
constexpr int widths[] = {1,    7,    8,    512,  520,   1032,  1536,  2056, 4104,
                          6152, 7168, 7176, 8200, 12296, 16392, 18432, 20488};

struct Forward {
    Values y, rstd, residual;
};

struct Backward {
    Values d_x, d_weight;
};

Forward norm(Backend& on, int rows, int cols, Values const& x, Values const& w)
{
    Inside const in = inside(on, Element::bf16, rows, cols, x), y = inside(on, Element::bf16, rows, cols);
    Tensor const rstd = poisoned(on, Element::f32, 1, rows);
    on.rms_norm(in.view, tensor(on, Element::bf16, 1, cols, w), eps, y.view, rstd);
    CHECK(y.margins_untouched(on));
    return {y.values(on), on.download(rstd), {}};
}

Forward add_norm(Backend& on, int rows, int cols, Values const& x, Values const& delta, Values const& w)
{
    Tensor const residual = tensor(on, Element::bf16, rows, cols, x), y = poisoned(on, Element::bf16, rows, cols);
    Tensor const rstd = poisoned(on, Element::f32, 1, rows);
    on.add_rms_norm(residual, tensor(on, Element::bf16, rows, cols, delta), tensor(on, Element::bf16, 1, cols, w), eps,
                    y, rstd);
    return {on.download(y), on.download(rstd), on.download(residual)};
}

/// d_weight begins as ones; d_x as @p before if that is to be accumulated to.
Backward norm_backward(Backend& on, int rows, int cols, Values const& dy, Values const& x, Values const& w,
                       Values const& before = {})
{
    Inside const in = inside(on, Element::bf16, rows, cols, x), slope = inside(on, Element::bf16, rows, cols, dy);
    Inside const d_x = inside(on, Element::bf16, rows, cols, before);
    Tensor const weight = tensor(on, Element::bf16, 1, cols, w), rstd = poisoned(on, Element::f32, 1, rows);
    Tensor const y = on.make(Element::bf16, rows, cols);
    Tensor const d_weight = tensor(on, Element::f32, 1, cols, Values(static_cast<std::size_t>(cols), 1));
    on.rms_norm(in.view, weight, eps, y, rstd);
    on.rms_norm_backward(slope.view, in.view, weight, rstd, d_x.view, !before.empty(), d_weight);
    CHECK(d_x.margins_untouched(on));
    return {d_x.values(on), on.download(d_weight)};
}

} // namespace

TEST_CASE("rms_norm of (3, 4) with weight 1 is (0.84853, 1.13137)")
{
    auto const out = norm(*reference(), 1, 2, {3, 4}, {1, 1});
    CHECK(out.y[0] == Approx(0.84853).epsilon(1e-5));
    CHECK(out.y[1] == Approx(1.13137).epsilon(1e-5));
    CHECK(out.rstd[0] == Approx(0.28284).epsilon(1e-4));
}

TEST_CASE("rms_norm agrees with the double reference at every width, in column ranges too", "[sanitize]")
{
    for (int const cols : widths) {
        int const rows = cols < 2000 ? 37 : 5;
        auto const x = numbers(rows * cols, 1, 2), w = numbers(cols, 2);
        auto const expected = norm(*reference(), rows, cols, x, w);
        INFO(cols << " columns");
        on_every_backend([&](Backend& on) {
            auto const out = norm(on, rows, cols, x, w);
            CHECK(distance(out.y, expected.y) < 5e-3);
            CHECK(distance(out.rstd, expected.rstd) < 1e-5);
        });
    }
}

TEST_CASE("add_rms_norm updates the residual, rounded, and norms what it stored", "[sanitize]")
{
    for (int const cols : widths) {
        int const rows = cols < 2000 ? 37 : 5;
        auto const x = numbers(rows * cols, 1, 2), delta = numbers(rows * cols, 3), w = numbers(cols, 2);
        auto const expected = add_norm(*reference(), rows, cols, x, delta, w);
        INFO(cols << " columns");
        on_every_backend([&](Backend& on) {
            auto const out = add_norm(on, rows, cols, x, delta, w);
            CHECK(distance(out.residual, expected.residual) < 5e-3);
            CHECK(distance(out.y, expected.y) < 5e-3);
            auto const again = norm(on, rows, cols, out.residual, w);
            CHECK(distance(again.y, out.y) < 1e-5);
            CHECK(distance(again.rstd, out.rstd) < 1e-5);
        });
    }
}

TEST_CASE("the gradients of rms_norm are the slopes of its output")
{
    constexpr int rows = 3, cols = 10;
    auto const x = numbers(rows * cols, 1), w = numbers(cols, 2), dy = numbers(rows * cols, 3);
    auto const on = reference();
    auto const out = norm_backward(*on, rows, cols, dy, x, w);
    auto const by_x = gradient([&](Values const& at) { return dot(norm(*on, rows, cols, at, w).y, dy); }, x);
    auto by_w = gradient([&](Values const& at) { return dot(norm(*on, rows, cols, x, at).y, dy); }, w);
    CHECK(distance(out.d_x, by_x) < 1e-6);
    for (double& slope : by_w) slope += 1; // what was in d_weight
    CHECK(distance(out.d_weight, by_w) < 1e-6);
}

TEST_CASE("rms_norm_backward agrees with the double reference at every width, and accumulates", "[sanitize]")
{
    for (int const cols : widths) {
        int const rows = cols < 2000 ? 37 : 5;
        auto const x = numbers(rows * cols, 1), w = numbers(cols, 2), dy = numbers(rows * cols, 3),
                   before = numbers(rows * cols, 4);
        INFO(cols << " columns");
        auto const expected = norm_backward(*reference(), rows, cols, dy, x, w);
        auto const onto = norm_backward(*reference(), rows, cols, dy, x, w, before);
        on_every_backend([&](Backend& on) {
            auto const out = norm_backward(on, rows, cols, dy, x, w);
            CHECK(distance(out.d_x, expected.d_x) <
                  (cols == 1 ? 10 : 5e-3)); // one column: d_x is nothing but cancellation
            CHECK(distance(out.d_weight, expected.d_weight) < 1e-5);
            auto const added = norm_backward(on, rows, cols, dy, x, w, before);
            CHECK(distance(added.d_x, onto.d_x) < 5e-3);
            CHECK(norm_backward(on, rows, cols, dy, x, w).d_weight == out.d_weight);
        });
    }
}

TEST_CASE("rms_norm_backward of many rows sums the weight's gradient over all of them")
{
    constexpr int rows = 1500, cols = 16;
    auto const x = numbers(rows * cols, 1), w = numbers(cols, 2), dy = numbers(rows * cols, 3);
    auto const expected = norm_backward(*reference(), rows, cols, dy, x, w);
    on_every_backend([&](Backend& on) {
        auto const out = norm_backward(on, rows, cols, dy, x, w);
        CHECK(distance(out.d_weight, expected.d_weight) < 1e-5);
        CHECK(distance(out.d_x, expected.d_x) < 5e-3);
    });
}

TEST_CASE("a row of zeros has a norm of zeros")
{
    on_every_backend([](Backend& on) {
        auto const out = norm(on, 2, 16, Values(32, 0.0), Values(16, 1.0));
        CHECK(out.y == Values(32, 0.0));
        CHECK(out.rstd[1] == Approx(1000).epsilon(1e-5)); // 1/sqrt(eps)
    });
}

TEST_CASE("norms do nothing to no rows and refuse shapes that do not fit")
{
    on_every_backend([](Backend& on) {
        Tensor const none = on.make(Element::bf16, 0, 16), weight = on.make(Element::bf16, 1, 16),
                     rstd = on.make(Element::f32, 1, 0);
        Tensor const d_weight = tensor(on, Element::f32, 1, 16, Values(16, 3.0));
        on.rms_norm(none, weight, eps, none, rstd);
        on.add_rms_norm(none, none, weight, eps, none, rstd);
        on.rms_norm_backward(none, none, weight, rstd, none, false, d_weight);
        CHECK(on.download(d_weight) == Values(16, 3.0));
        Tensor const x = on.make(Element::bf16, 2, 16), wrong = on.make(Element::bf16, 1, 8),
                     r = on.make(Element::f32, 1, 2);
        CHECK_THROWS_AS(on.rms_norm(x, wrong, eps, x, r), InternalError);
        CHECK_THROWS_AS(on.rms_norm(x, weight, eps, x, rstd), InternalError);
    });
}
