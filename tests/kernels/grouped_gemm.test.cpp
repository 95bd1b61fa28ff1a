// SPDX-License-Identifier: Apache-2.0
//
// Products of groups: each expert's rows times its own weights, with groups that are empty, small or everything.
#include "tests/kernels/products.hpp"

#include "model/error.hpp"

namespace trainfare::kernels::test {

namespace {

/// Rows of experts as they lie in memory: random where a token is, zero in the padding.
Matrix padded_rows(Groups const& groups, std::int64_t cols, std::uint64_t seed)
{
    Matrix out = random_matrix(groups.padded_rows(), cols, seed);
    for (std::size_t g = 0; g < groups.count(); ++g)
        std::fill(out.values.begin() + (groups.starts[g] + groups.rows[g]) * cols,
                  out.values.begin() + groups.starts[g + 1] * cols, 0.0);
    return out;
}

/// Products group by group, by the loop that is checked in gemm.test.cpp. @p part: rows of b (nt, nn) that are one
/// group's.
Matrix expected_rows(Form form, Matrix const& a, Matrix const& b, Groups const& groups, std::int64_t part)
{
    Matrix out{a.rows, form == Form::nt ? part : b.cols, {}};
    for (std::size_t g = 0; g < groups.count(); ++g) {
        Matrix const own = a.row_range(groups.starts[g], groups.starts[g + 1] - groups.starts[g]);
        Values const rows = product(form, own, b.row_range(static_cast<std::int64_t>(g) * part, part)).values;
        out.values.insert(out.values.end(), rows.begin(), rows.end());
    }
    return out;
}

Matrix expected_weights(Matrix const& a, Matrix const& b, Groups const& groups)
{
    Matrix out{static_cast<std::int64_t>(groups.count()) * a.cols, b.cols, {}};
    for (std::size_t g = 0; g < groups.count(); ++g) {
        std::int64_t const first = groups.starts[g], count = groups.rows[g];
        Values const part = product(Form::tn, a.row_range(first, count), b.row_range(first, count)).values;
        out.values.insert(out.values.end(), part.begin(), part.end());
    }
    return out;
}

/// Rows that belong to nobody.
double largest_in_padding(Matrix const& m, Groups const& groups)
{
    double largest = 0;
    for (std::size_t g = 0; g < groups.count(); ++g)
        for (std::int64_t r = groups.starts[g] + groups.rows[g]; r < groups.starts[g + 1]; ++r)
            for (std::int64_t c = 0; c < m.cols; ++c) largest = std::max(largest, std::fabs(m.at(r, c)));
    return largest;
}

Groups const uneven = groups_from_counts({37, 0, 130, 1}, 16);
Groups const one_takes_all = groups_from_counts({0, 0, 77, 0}, 8);
Groups const unpadded = groups_from_counts({8, 16, 24}, 1);

} // namespace

TEST_CASE("each group's rows meet its own weights, nt and nn, and padding stays zero")
{
    for (Groups const& groups : {uneven, one_takes_all, unpadded})
        for (Form const form : {Form::nt, Form::nn}) {
            std::int64_t const part = 24, other = 40, count = static_cast<std::int64_t>(groups.count());
            Matrix const a = padded_rows(groups, form == Form::nt ? other : part, 1),
                         b = random_matrix(count * part, other, 2);
            Matrix const expected = expected_rows(form, a, b, groups, part);
            auto const run = [&](Backend& on, Element in, Element out) {
                Tensor const c = poisoned(on, out, expected.rows + 3, expected.cols); // room that belongs to no group
                on.grouped_gemm(c, tensor(on, in, a), tensor(on, in, b), form, groups, false);
                Values const beyond = on.download(c.row_range(expected.rows, 3));
                CHECK(std::all_of(beyond.begin(), beyond.end(), [](double x) { return std::isnan(x); }));
                return Matrix{expected.rows, expected.cols, on.download(c.row_range(0, expected.rows))};
            };
            CHECK(distance(run(*reference(), Element::bf16, Element::f32).values, expected.values) < 1e-13);
            on_every_backend([&](Backend& on) {
                Matrix const out = run(on, Element::bf16, Element::bf16);
                CHECK(distance(out.values, expected.values) < 1e-2);
                CHECK(largest_in_padding(out, groups) == 0);
                CHECK(distance(run(on, Element::bf16, Element::f32).values, expected.values) < 1e-5);
            });
        }
}

TEST_CASE("weight gradients sum over a group's rows; an empty group's are zero, or what they were when accumulating")
{
    for (Groups const& groups : {uneven, one_takes_all, unpadded}) {
        Matrix const a = padded_rows(groups, 24, 1), b = padded_rows(groups, 40, 2);
        Matrix const expected = expected_weights(a, b, groups), before = random_matrix(expected.rows, 40, 3);
        auto const run = [&](Backend& on, Tensor const& c, bool accumulate) {
            on.grouped_gemm(c, tensor(on, Element::bf16, a), tensor(on, Element::bf16, b), Form::tn, groups,
                            accumulate);
            return on.download(c);
        };
        auto const exact = reference();
        CHECK(distance(run(*exact, poisoned(*exact, Element::f32, expected.rows, 40), false), expected.values) < 1e-13);
        on_every_backend([&](Backend& on) {
            CHECK(distance(run(on, poisoned(on, Element::f32, expected.rows, 40), false), expected.values) < 1e-5);
            CHECK(distance(run(on, tensor(on, Element::f32, before), true), (expected + before).values) < 1e-5);
            CHECK(distance(run(on, poisoned(on, Element::bf16, expected.rows, 40), false), expected.values) < 1e-2);
        });
    }
}

TEST_CASE("quantised groups give the products of the numbers they stand for, by every library there is",
          "[sanitize][library]")
{
    Groups const groups = groups_from_counts({37, 0, 130, 1}, 128);
    std::int64_t const n = 256, depth = 512, count = 4;
    Matrix const a = padded_rows(groups, depth, 1), b = random_matrix(count * n, depth, 2);
    Matrix const unquantised = expected_rows(Form::nt, a, b, groups, n);
    on_every_backend([&](Backend& on) {
        Operand const rows = quantised(on, Scaling::vector128, a), weights = quantised(on, Scaling::block128, b);
        Matrix const exact = expected_rows(Form::nt, {a.rows, depth, dequantised(on, rows)},
                                           {b.rows, depth, dequantised(on, weights)}, groups, n);
        auto const check = [&] {
            Tensor const c = poisoned(on, Element::bf16, a.rows, n);
            on.grouped_gemm(c, rows, weights, Form::nt, groups, false);
            Matrix const out{a.rows, n, on.download(c)};
            CHECK(distance(out.values, exact.values) < 1e-2);
            CHECK(distance(out.values, unquantised.values) < 4e-2);
            CHECK(largest_in_padding(out, groups) == 0);
        };
        check();
        for (std::string_view const library : on.grouped_libraries()) {
            INFO("library: " << library);
            on.use_grouped_library(library);
            check();
        }
    });
}

TEST_CASE("quantised weight gradients sum over a group's columns of transposed operands")
{
    Groups const groups = groups_from_counts({37, 0, 130, 1}, 128);
    Matrix const a = padded_rows(groups, 128, 1), b = padded_rows(groups, 256, 2);
    Matrix const unquantised = expected_weights(a, b, groups), before = random_matrix(unquantised.rows, 256, 3);
    on_every_backend([&](Backend& on) {
        Operand const left = quantised(on, Scaling::vector128, a.transposed()),
                      right = quantised(on, Scaling::vector128, b.transposed());
        auto const meant = [&](Operand const& x, std::int64_t cols) {
            return Matrix{cols, groups.padded_rows(), dequantised(on, x)}.transposed();
        };
        Matrix const exact = expected_weights(meant(left, 128), meant(right, 256), groups);
        Tensor const c = poisoned(on, Element::f32, exact.rows, 256);
        on.grouped_gemm(c, left, right, Form::tn, groups, false);
        CHECK(distance(on.download(c), exact.values) < 4e-3); // e4m3 products are not summed in full fp32
        CHECK(distance(on.download(c), unquantised.values) < 4e-2);
        put(on, c, before.values);
        on.grouped_gemm(c, left, right, Form::tn, groups, true);
        CHECK(distance(on.download(c), (exact + before).values) < 4e-3);
    });
}

TEST_CASE("a recorded grouped product gives the same numbers when it runs again")
{
    Groups const groups = groups_from_counts({37, 0, 130, 1}, 128);
    Matrix const a = padded_rows(groups, 512, 1), b = random_matrix(4 * 256, 512, 2);
    on_every_backend([&](Backend& on) {
        Operand const rows = quantised(on, Scaling::vector128, a), weights = quantised(on, Scaling::block128, b);
        Tensor const c = poisoned(on, Element::bf16, a.rows, 256);
        auto const work = [&] { on.grouped_gemm(c, rows, weights, Form::nt, groups, false); };
        work();
        Values const first = on.download(c);
        auto const graph = on.capture(work);
        poison(on, c);
        graph->replay();
        CHECK(on.download(c) == first);
    });
}

TEST_CASE("groups that do not fit their tensors are an internal error")
{
    on_every_backend([](Backend& on) {
        Groups const groups = groups_from_counts({8, 8}, 8);
        auto const bf16 = [&](std::int64_t rows, std::int64_t cols) { return on.make(Element::bf16, rows, cols); };
        CHECK_THROWS_AS(on.grouped_gemm(bf16(15, 8), bf16(16, 8), bf16(16, 8), Form::nt, groups, false), InternalError);
        CHECK_THROWS_AS(on.grouped_gemm(bf16(16, 8), bf16(16, 8), bf16(24, 8), Form::nt, groups, false), InternalError);
        CHECK_THROWS_AS(on.grouped_gemm(bf16(16, 9), bf16(16, 8), bf16(16, 8), Form::tn, groups, false), InternalError);
        CHECK_THROWS_AS(on.grouped_gemm(bf16(16, 8), bf16(16, 8), bf16(16, 8), Form::nt, Groups{}, false),
                        InternalError);
        Operand const rows = make_quantised(on, Scaling::vector128, 16, 128);
        Operand const weights = make_quantised(on, Scaling::block128, 256, 128);
        CHECK_THROWS_AS(on.grouped_gemm(bf16(16, 128), rows, weights, Form::nt, groups, false), InternalError);
    });
}

} // namespace trainfare::kernels::test
