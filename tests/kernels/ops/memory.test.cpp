// SPDX-License-Identifier: Apache-2.0
//
// fill, copy and normal: every shape and conversion, and that random numbers are the documented generator's on every
// back-end.
#include <algorithm>
#include <cmath>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

double mean_of_powers(Values const& x, int power)
{
    double sum = 0;
    for (double v : x) sum += std::pow(v, power);
    return sum / static_cast<double>(x.size());
}

Values normal_values(Backend& on, Element element, std::int64_t rows, std::int64_t cols, std::uint64_t seed)
{
    Tensor const t = poisoned(on, element, rows, cols);
    on.normal(t, 0.5F, 2, seed);
    return on.download(t);
}

} // namespace

TEST_CASE("fill writes every element of a tensor and none beside it", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        for (auto element : {Element::f32, Element::bf16, Element::i32})
            for (std::int64_t cols : {0, 1, 7, 8, 64, 1000}) {
                Tensor const t = poisoned(on, element, 3, cols);
                on.fill(t, -3);
                CHECK(on.download(t) == Values(static_cast<std::size_t>(3 * cols), -3));
                Tensor const rows = poisoned(on, element, 4, cols);
                on.fill(rows, 1);
                on.fill(rows.row_range(1, 2), 2);
                Values expected(static_cast<std::size_t>(4 * cols), 1);
                std::fill_n(expected.begin() + cols, 2 * cols, 2);
                CHECK(on.download(rows) == expected);
            }
        Tensor const t = poisoned(on, Element::bf16, 1, 24);
        on.fill(t, 0.1F);
        CHECK(on.download(t) == Values(24, rounded_to_bf16(0.1)));
    });
}

TEST_CASE("copy keeps every element and converts between f32 and bf16", "[sanitize]")
{
    auto const x = numbers(5 * 1000, 1);
    on_every_backend([&](Backend& on) {
        for (auto from : {Element::f32, Element::bf16})
            for (auto to : {Element::f32, Element::bf16})
                for (std::int64_t cols : {0, 1, 7, 8, 100, 1000}) {
                    Values const some(x.begin(), x.begin() + 5 * cols);
                    Tensor const target = poisoned(on, to, 5, cols);
                    on.copy(target, tensor(on, from, 5, cols, some));
                    CHECK(on.download(target) == some);
                }
        Tensor const exact = tensor(on, Element::f32, 1, 2, {0.1F, 1e30F}), rounded = poisoned(on, Element::bf16, 1, 2);
        on.copy(rounded, exact);
        CHECK(on.download(rounded) == Values{rounded_to_bf16(0.1), rounded_to_bf16(1e30)});

        Tensor const integers = tensor(on, 3, 3, {1, -2, 3, 1 << 30, 5, 6, 7, 8, -9}),
                     more = poisoned(on, Element::i32, 3, 3);
        on.copy(more, integers);
        CHECK(on.download_ints(more) == on.download_ints(integers));
    });
}

TEST_CASE("copy moves e4m3 unchanged")
{
    on_every_backend([](Backend& on) {
        for (std::int64_t cols : {5, 32}) {
            auto const x = poisoned_quantised(on, Scaling::vector128, 3, cols);
            on.quantise(tensor(on, Element::bf16, 3, cols, numbers(3 * cols, 1)), x, {});
            Tensor const to = poisoned(on, Element::e4m3, 3, cols);
            on.copy(to, x.values);
            CHECK(on.download_bytes(to) == on.download_bytes(x.values));
        }
    });
}

TEST_CASE("copy reads and writes column ranges and leaves what is beside them", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        for (auto from : {Element::f32, Element::bf16})
            for (auto to : {Element::f32, Element::bf16})
                for (std::int64_t cols : {5, 64, 520}) {
                    auto const x = numbers(7 * cols, 2);
                    auto const source = inside(on, from, 7, cols, x), target = inside(on, to, 7, cols);
                    on.copy(target.view, source.view);
                    CHECK(target.values(on) == x);
                    CHECK(target.margins_untouched(on));
                }
    });
}

TEST_CASE("normal numbers have the mean and deviation asked for and no memory")
{
    on_every_backend([](Backend& on) {
        Tensor const t = poisoned(on, Element::f32, 100, 1000);
        on.normal(t, 0, 1, 7);
        auto const x = on.download(t);
        CHECK(std::abs(mean_of_powers(x, 1)) < 0.01); // deviation of the estimate: 0.003
        CHECK(mean_of_powers(x, 2) == Approx(1).margin(0.02));
        CHECK(mean_of_powers(x, 4) == Approx(3).margin(0.15)); // 3: the fourth moment of a normal distribution
        double neighbours = 0;
        for (std::size_t i = 1; i < x.size(); ++i) neighbours += x[i] * x[i - 1];
        CHECK(std::abs(neighbours / 1e5) < 0.015);
        CHECK(*std::max_element(x.begin(), x.end()) < 5.77);
    });
}

TEST_CASE("an element's random number depends on seed and index alone")
{
    on_every_backend([](Backend& on) {
        auto const long_one = normal_values(on, Element::f32, 1, 1000, 3),
                   short_one = normal_values(on, Element::f32, 3, 7, 3);
        CHECK(std::equal(short_one.begin(), short_one.end(), long_one.begin()));
        CHECK(normal_values(on, Element::f32, 1, 1000, 3) == long_one);
        auto const other = normal_values(on, Element::f32, 1, 1000, 4);
        CHECK(distance(other, long_one) > 0.5);
        CHECK(std::search(other.begin(), other.end(), long_one.begin() + 10, long_one.begin() + 12) == other.end());
    });
}

TEST_CASE("normal is the documented generator: splitmix64 and Box-Muller")
{
    // splitmix64 from state 0 gives 0xe220a8397b1dcdaf, so that is the state for seed 0; the first two numbers follow.
    auto const next = [](std::uint64_t& state) {
        std::uint64_t z = state += 0x9e3779b97f4a7c15U;
        z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31U);
    };
    std::uint64_t zero = 0;
    std::uint64_t state = next(zero);
    CHECK(state == 0xe220a8397b1dcdafU);
    Values expected;
    for (int i = 0; i < 50; ++i) {
        auto const bits = next(state);
        double const u = static_cast<double>((bits >> 40U) + 1) * 0x1p-24,
                     v = static_cast<double>(bits >> 8U & 0xffffffU) * 0x1p-24;
        expected.push_back(0.5 + 2 * std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
    }
    CHECK(distance(normal_values(*reference(), Element::f32, 5, 10, 0), expected) < 1e-12);
    on_every_backend([&](Backend& on) {
        CHECK(distance(normal_values(on, Element::f32, 5, 10, 0), expected) < 1e-6);
        CHECK(distance(normal_values(on, Element::bf16, 5, 10, 0), expected) < 4e-3);
    });
}

TEST_CASE("memory operations refuse what they cannot do")
{
    on_every_backend([](Backend& on) {
        Tensor const f32 = on.make(Element::f32, 2, 3), e4m3 = on.make(Element::e4m3, 2, 3),
                     i32 = on.make(Element::i32, 2, 3);
        CHECK_THROWS_AS(on.fill(e4m3, 0), trainfare::InternalError);
        CHECK_THROWS_AS(on.fill(f32.column_range(0, 2), 0), trainfare::InternalError);
        CHECK_THROWS_AS(on.copy(f32, on.make(Element::f32, 3, 2)), trainfare::InternalError);
        CHECK_THROWS_AS(on.copy(f32, i32), trainfare::InternalError);
        CHECK_THROWS_AS(on.normal(i32, 0, 1, 0), trainfare::InternalError);
    });
}
