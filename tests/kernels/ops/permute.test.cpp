// SPDX-License-Identifier: Apache-2.0
//
// Rows to experts and back: gathering any element (with its scales), the weighted sum of a token's rows, and its
// derivative.
#include <algorithm>
#include <numeric>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

using Ints = std::vector<std::int32_t>;

/// A permutation of 0 to count - 1.
Ints shuffled(std::int64_t count, std::uint64_t seed)
{
    Ints out(static_cast<std::size_t>(count));
    std::iota(out.begin(), out.end(), 0);
    for (std::size_t i = out.size(); i > 1; --i)
        std::swap(out[i - 1], out[static_cast<std::size_t>(uniform(seed, i) * static_cast<double>(i))]);
    return out;
}

Values gathered(Values const& x, std::int64_t cols, Ints const& source, int divide)
{
    Values out;
    for (auto const from : source)
        for (std::int64_t c = 0; c < cols; ++c)
            out.push_back(from < 0 ? 0 : x[static_cast<std::size_t>(from / divide * cols + c)]);
    return out;
}

/// Tokens, experts of a token, rows in expert order (more than needed), and where each goes; some go nowhere.
struct Layout {
    std::int64_t tokens = 9, rows = 50, cols = 64;
    int k = 4;
    Ints position;

    Layout(std::int64_t t, int choices, std::int64_t p, std::int64_t h) : tokens{t}, rows{p}, cols{h}, k{choices}
    {
        position = shuffled(rows, 3);
        position.resize(static_cast<std::size_t>(tokens * k));
        for (std::size_t i = 0; i < position.size(); i += 7) position[i] = -1;
    }
};

std::vector<Layout> layouts()
{
    return {{9, 4, 50, 64}, {5, 1, 5, 7}, {3, 16, 60, 2056}, {4, 3, 13, 1}, {2, 6, 12, 1023}, {7, 2, 200, 8}};
}

Values combined(Backend& on, Layout const& l, Values const& rows, Values const& weights)
{
    Tensor const y = poisoned(on, Element::bf16, l.tokens, l.cols);
    on.combine_rows(tensor(on, Element::bf16, l.rows, l.cols, rows), tensor(on, l.tokens, l.k, l.position),
                    weights.empty() ? Tensor{} : tensor(on, Element::f32, l.tokens, l.k, weights), l.k, y);
    return on.download(y);
}

struct Slopes {
    Values rows, weights;
};

Slopes combine_slopes(Backend& on, Layout const& l, Values const& d_y, Values const& rows, Values const& weights)
{
    Tensor const d_rows = poisoned(on, Element::bf16, l.rows, l.cols),
                 d_weights = poisoned(on, Element::f32, l.tokens, l.k);
    on.combine_rows_backward(tensor(on, Element::bf16, l.tokens, l.cols, d_y),
                             tensor(on, Element::bf16, l.rows, l.cols, rows), tensor(on, l.tokens, l.k, l.position),
                             weights.empty() ? Tensor{} : tensor(on, Element::f32, l.tokens, l.k, weights), l.k, d_rows,
                             d_weights);
    return {on.download(d_rows), on.download(d_weights)};
}

} // namespace

TEST_CASE("gather_rows moves rows of every element and makes zeros where there is none", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        for (std::int64_t cols : {1, 3, 8, 50, 64, 264, 1000}) {
            auto const x = numbers(6 * cols, 1);
            Ints const source{3, -1, 0, 0, 5, 4, -1, 3, 2};
            for (auto element : {Element::f32, Element::bf16}) {
                Tensor const y = poisoned(on, element, 9, cols);
                on.gather_rows(tensor(on, element, 6, cols, x), tensor(on, 1, 9, source), 1, y);
                CHECK(on.download(y) == gathered(x, cols, source, 1));
            }
            auto const whole = integers(6 * cols, 1000, 2);
            Tensor const y = poisoned(on, Element::i32, 9, cols);
            on.gather_rows(tensor(on, 6, cols, whole), tensor(on, 1, 9, source), 1, y);
            CHECK(on.download(y) == gathered(Values(whole.begin(), whole.end()), cols, source, 1));
        }
    });
}

TEST_CASE("a source is divided, so that k rows of a token share it")
{
    on_every_backend([](Backend& on) {
        Ints const source{11, 0, 3, -1, 7, 8};
        auto const x = numbers(4 * 16, 3);
        Tensor const y = poisoned(on, Element::bf16, 6, 16);
        on.gather_rows(tensor(on, Element::bf16, 4, 16, x), tensor(on, 1, 6, source), 3, y);
        CHECK(on.download(y) == gathered(x, 16, source, 3));
    });
}

TEST_CASE("quantised rows move with their scales", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        for (std::int64_t cols : {16, 100, 128, 300, 1024}) {
            Ints const source{2, -1, 0, 4, 4, 1, 3};
            auto const x = poisoned_quantised(on, Scaling::vector128, 5, cols);
            on.quantise(tensor(on, Element::bf16, 5, cols, numbers(5 * cols, 4)), x, {});
            auto const y = poisoned_quantised(on, Scaling::vector128, 7, cols);
            on.gather_rows(x, tensor(on, 1, 7, source), 1, y);
            CHECK(dequantised(on, y) == gathered(dequantised(on, x), cols, source, 1));
        }
        auto const x = poisoned_quantised(on, Scaling::vector128, 600, 256); // more rows than a block of threads
        on.quantise(tensor(on, Element::bf16, 600, 256, numbers(600 * 256, 5)), x, {});
        auto const source = integers(900, 600 * 8, 6);
        auto const y = poisoned_quantised(on, Scaling::vector128, 900, 256);
        on.gather_rows(x, tensor(on, 1, 900, source), 8, y);
        CHECK(dequantised(on, y) == gathered(dequantised(on, x), 256, source, 8));
    });
}

TEST_CASE("combine_rows is the weighted sum of a token's rows", "[sanitize]")
{
    for (auto const& l : layouts())
        for (bool weighted : {true, false}) {
            CAPTURE(l.tokens, l.k, l.cols, weighted);
            auto const rows = numbers(l.rows * l.cols, 1), w = weighted ? numbers(l.tokens * l.k, 2) : Values{};
            auto const expected = combined(*reference(), l, rows, w);
            for (std::int64_t t = 0; t < l.tokens; ++t) { // one element by hand
                double sum = 0;
                for (auto i = static_cast<std::size_t>(t * l.k); i < static_cast<std::size_t>((t + 1) * l.k); ++i)
                    if (l.position[i] >= 0)
                        sum += (weighted ? w[i] : 1) * rows[static_cast<std::size_t>((l.position[i] + 1) * l.cols - 1)];
                CHECK(expected[static_cast<std::size_t>((t + 1) * l.cols - 1)] == Approx(sum).margin(1e-12));
            }
            on_every_backend([&](Backend& on) { CHECK(distance(combined(on, l, rows, w), expected) < 1e-2); });
        }
}

TEST_CASE("combine_rows undoes gather_rows, where each of k rows counts 1/k")
{
    on_every_backend([](Backend& on) {
        auto const x = numbers(10 * 40, 7);
        auto const position = shuffled(20, 8); // of rows 2 t and 2 t + 1 of token t
        Ints source(20);
        for (std::size_t i = 0; i < 20; ++i)
            source[static_cast<std::size_t>(position[i])] = static_cast<std::int32_t>(i);
        Tensor const rows = poisoned(on, Element::bf16, 20, 40), y = poisoned(on, Element::bf16, 10, 40);
        on.gather_rows(tensor(on, Element::bf16, 10, 40, x), tensor(on, 1, 20, source), 2, rows);
        on.combine_rows(rows, tensor(on, 1, 20, position), tensor(on, Element::f32, 10, 2, Values(20, 0.5)), 2, y);
        CHECK(on.download(y) == x);
    });
}

TEST_CASE("the gradient of combine_rows is its slope, and rows of no token get zeros", "[sanitize]")
{
    for (auto const& l : {Layout{3, 2, 9, 8}, Layout{2, 3, 7, 5}}) {
        auto const ref = reference();
        auto const rows = numbers(l.rows * l.cols, 1), w = numbers(l.tokens * l.k, 2),
                   d_y = numbers(l.tokens * l.cols, 3);
        auto const slopes = combine_slopes(*ref, l, d_y, rows, w);
        CHECK(distance(slopes.rows,
                       gradient([&](Values const& x) { return dot(combined(*ref, l, x, w), d_y); }, rows)) < 1e-6);
        CHECK(distance(slopes.weights,
                       gradient([&](Values const& x) { return dot(combined(*ref, l, rows, x), d_y); }, w)) < 1e-6);
    }
    for (auto const& l : layouts())
        for (bool weighted : {true, false}) {
            CAPTURE(l.tokens, l.k, l.cols, weighted);
            auto const rows = numbers(l.rows * l.cols, 1), d_y = numbers(l.tokens * l.cols, 3);
            auto const w = weighted ? numbers(l.tokens * l.k, 2) : Values{};
            auto const expected = combine_slopes(*reference(), l, d_y, rows, w);
            on_every_backend([&](Backend& on) {
                auto const out = combine_slopes(on, l, d_y, rows, w);
                CHECK(distance(out.rows, expected.rows) < 1e-2);
                CHECK(distance(out.weights, expected.weights) < 1e-5);
            });
        }
}

TEST_CASE("without weights' gradient the rows are not needed")
{
    on_every_backend([](Backend& on) {
        Layout const l{3, 2, 9, 8};
        auto const d_y = numbers(3 * 8, 3);
        Tensor const d_rows = poisoned(on, Element::bf16, 9, 8);
        on.combine_rows_backward(tensor(on, Element::bf16, 3, 8, d_y), {}, tensor(on, 3, 2, l.position), {}, 2, d_rows,
                                 {});
        CHECK(on.download(d_rows) == combine_slopes(on, l, d_y, numbers(9 * 8, 1), {}).rows);
    });
}

TEST_CASE("no tokens, no rows, no columns")
{
    on_every_backend([](Backend& on) {
        CHECK(combined(on, Layout{0, 2, 4, 8}, numbers(32, 1), {}).empty());
        CHECK(combine_slopes(on, Layout{0, 2, 4, 8}, {}, numbers(32, 1), {}).rows == Values(32, 0));
        Layout nowhere{2, 2, 4, 8};
        nowhere.rows = 0, nowhere.position.assign(4, -1);
        CHECK(combined(on, nowhere, {}, {}) == Values(16, 0));
        CHECK(combine_slopes(on, nowhere, numbers(16, 1), {}, {}).weights == Values(4, 0));
        Tensor const none = on.make(Element::bf16, 0, 8);
        on.gather_rows(tensor(on, Element::bf16, 2, 8, numbers(16, 1)), tensor(on, 1, 0, Ints{}), 1, none);
        Tensor const zeros = poisoned(on, Element::bf16, 2, 8);
        on.gather_rows(none, tensor(on, 1, 2, Ints{-1, -1}), 1, zeros);
        CHECK(on.download(zeros) == Values(16, 0));
    });
}

TEST_CASE("a row that does not exist is an error on a host and never read by a GPU", "[sanitize]")
{
    auto const host = make_host_backend(false);
    Layout l{2, 2, 4, 8};
    l.position = {0, 1, 2, 4};
    CHECK_THROWS_AS(combined(*host, l, numbers(32, 1), {}), trainfare::InternalError);
    CHECK_THROWS_AS(combine_slopes(*host, l, numbers(16, 1), numbers(32, 1), {}), trainfare::InternalError);
    Layout twice = l;
    twice.position = {0, 1, 2, 1};
    CHECK_THROWS_AS(combine_slopes(*host, twice, numbers(16, 1), numbers(32, 1), {}), trainfare::InternalError);
    auto const cuda = cuda_or_warning();
    if (!cuda) return;
    auto const x = numbers(32, 1);
    CHECK(combined(*cuda, l, x, {}).size() == 16);
    Tensor const y = poisoned(*cuda, Element::bf16, 3, 8);
    cuda->gather_rows(tensor(*cuda, Element::bf16, 4, 8, x), tensor(*cuda, 1, 3, Ints{4, 1 << 30, 3}), 1, y);
    CHECK(cuda->download(y) == gathered(x, 8, {-1, -1, 3}, 1));
}

TEST_CASE("permuting refuses shapes that cannot be")
{
    on_every_backend([](Backend& on) {
        Tensor const x = on.make(Element::bf16, 4, 8), source = tensor(on, 1, 2, Ints{0, 1});
        CHECK_THROWS_AS(on.gather_rows(x, source, 1, on.make(Element::bf16, 3, 8)), trainfare::InternalError);
        CHECK_THROWS_AS(on.gather_rows(x, source, 1, on.make(Element::f32, 2, 8)), trainfare::InternalError);
        CHECK_THROWS_AS(on.gather_rows(x, source, 0, on.make(Element::bf16, 2, 8)), trainfare::InternalError);
        CHECK_THROWS_AS(on.combine_rows(x, source, {}, 3, on.make(Element::bf16, 1, 8)), trainfare::InternalError);
        CHECK_THROWS_AS(on.combine_rows(x, tensor(on, 1, 17, Ints(17, 0)), {}, 17, on.make(Element::bf16, 1, 8)),
                        trainfare::InternalError);
    });
}
