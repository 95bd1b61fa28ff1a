// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

constexpr std::pair<int, int> shapes[] = {{1, 1}, {3, 7}, {5, 8}, {2, 128}, {37, 200}, {9, 2048}, {3, 131}};

Values forward(Backend& on, int rows, int cols, Values const& gate_up)
{
    Tensor const y = poisoned(on, Element::bf16, rows, cols);
    on.swiglu(tensor(on, Element::bf16, rows, 2 * cols, gate_up), y);
    return on.download(y);
}

Values backward(Backend& on, int rows, int cols, Values const& dy, Values const& gate_up)
{
    Tensor const d_gate_up = poisoned(on, Element::bf16, rows, 2 * cols);
    on.swiglu_backward(tensor(on, Element::bf16, rows, cols, dy), tensor(on, Element::bf16, rows, 2 * cols, gate_up),
                       d_gate_up);
    return on.download(d_gate_up);
}

Operand quantised(Backend& on, int rows, int cols, Values const& gate_up)
{
    Operand const y = poisoned_quantised(on, Scaling::vector128, rows, cols);
    on.swiglu_quantise(tensor(on, Element::bf16, rows, 2 * cols, gate_up), y);
    return y;
}

} // namespace

TEST_CASE("swiglu of gate 1 and up 2 is 1.46212")
{
    auto const out = forward(*reference(), 1, 1, {1, 2});
    CHECK(out[0] == Approx(1.46212).epsilon(1e-5));
}

TEST_CASE("swiglu agrees with the double reference at every shape", "[sanitize]")
{
    for (auto const& [rows, cols] : shapes) {
        auto const x = numbers(rows * 2 * cols, 1, 2);
        auto const expected = forward(*reference(), rows, cols, x);
        INFO(rows << " x " << cols);
        on_every_backend([&](Backend& on) { CHECK(distance(forward(on, rows, cols, x), expected) < 5e-3); });
    }
}

TEST_CASE("the gradients of swiglu are the slopes of its output")
{
    auto const x = numbers(3 * 10, 1), dy = numbers(3 * 5, 2);
    auto const on = reference();
    auto const slopes = gradient([&](Values const& at) { return dot(forward(*on, 3, 5, at), dy); }, x);
    CHECK(distance(backward(*on, 3, 5, dy, x), slopes) < 1e-6);
}

TEST_CASE("swiglu_backward agrees with the double reference at every shape", "[sanitize]")
{
    for (auto const& [rows, cols] : shapes) {
        auto const x = numbers(rows * 2 * cols, 1, 2), dy = numbers(rows * cols, 2);
        auto const expected = backward(*reference(), rows, cols, dy, x);
        INFO(rows << " x " << cols);
        on_every_backend([&](Backend& on) { CHECK(distance(backward(on, rows, cols, dy, x), expected) < 5e-3); });
    }
}

TEST_CASE("swiglu_quantise stands for the same numbers as swiglu, to the precision of e4m3", "[sanitize]")
{
    for (auto const& [rows, cols] : shapes) {
        auto const x = numbers(rows * 2 * cols, 1, 2);
        auto const expected = forward(*reference(), rows, cols, x);
        CHECK(dequantised(*reference(), quantised(*reference(), rows, cols, x)).size() == expected.size());
        INFO(rows << " x " << cols);
        on_every_backend([&](Backend& on) {
            auto const out = quantised(on, rows, cols, x);
            CHECK(distance(dequantised(on, out), expected) < 4e-2);
            double largest = 0;
            for (double code : on.download(out.values)) largest = std::max(largest, std::abs(code));
            CHECK(largest == 448); // each block's largest number has the largest code
        });
    }
}

TEST_CASE("gates far from zero neither overflow nor lose their sign")
{
    Values const x{200, -200, 88, -88, 1e30, -1e30, 2, 2, 2, 2, 2, 2};
    auto const rounded = [&] {
        Values out;
        for (double each : x) out.push_back(rounded_to_bf16(each));
        return out;
    }();
    auto const expected = forward(*reference(), 1, 6, rounded);
    on_every_backend([&](Backend& on) {
        auto const out = forward(on, 1, 6, rounded);
        CHECK(out[0] == 400);
        CHECK(std::abs(out[1]) < 1e-30);
        CHECK(std::abs(out[5]) < 1e-30);
        CHECK(distance(out, expected) < 1e-2);
        auto const slopes = backward(on, 1, 6, Values(6, 1.0), rounded);
        CHECK(slopes[0] == 2); // d_gate = up
        for (double each : slopes) CHECK(std::isfinite(each));
    });
}

TEST_CASE("swiglu does nothing to no rows and refuses shapes that do not fit")
{
    on_every_backend([](Backend& on) {
        on.swiglu(on.make(Element::bf16, 0, 16), on.make(Element::bf16, 0, 8));
        on.swiglu_backward(on.make(Element::bf16, 0, 8), on.make(Element::bf16, 0, 16), on.make(Element::bf16, 0, 16));
        on.swiglu_quantise(on.make(Element::bf16, 0, 16), make_quantised(on, Scaling::vector128, 0, 8));
        CHECK_THROWS_AS(on.swiglu(on.make(Element::bf16, 2, 16), on.make(Element::bf16, 2, 16)), InternalError);
        CHECK_THROWS_AS(on.swiglu_quantise(on.make(Element::bf16, 2, 16), make_quantised(on, Scaling::block128, 2, 8)),
                        InternalError);
    });
}
