// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "kernels/backend.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

constexpr std::pair<int, int> shapes[] = {{1, 1},     {3, 7},     {16, 8},   {128, 128},
                                          {130, 200}, {257, 136}, {48, 384}, {300, 129}};

struct Both {
    Values row, row_scales, turned, turned_scales;
};

Both read(Backend& on, Operand const& row, Operand const& turned)
{
    return {on.download(row.values), on.download(row.scales), on.download(turned.values), on.download(turned.scales)};
}

Both quantised(Backend& on, int rows, int cols, Values const& x)
{
    Operand const row = poisoned_quantised(on, Scaling::vector128, rows, cols);
    Operand const turned = poisoned_quantised(on, Scaling::vector128, cols, rows);
    on.quantise(tensor(on, Element::bf16, rows, cols, x), row, turned);
    return read(on, row, turned);
}

Both in_blocks(Backend& on, int rows, int cols, Values const& x)
{
    Operand const row = poisoned_quantised(on, Scaling::block128, rows, cols);
    Operand const turned = poisoned_quantised(on, Scaling::block128, cols, rows);
    on.quantise_blocks(tensor(on, Element::bf16, rows, cols, x), row, turned);
    return read(on, row, turned);
}

Values transposed(Values const& x, int rows, int cols)
{
    Values out(x.size());
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < cols; ++c)
            out[static_cast<std::size_t>(c * rows + r)] = x[static_cast<std::size_t>(r * cols + c)];
    return out;
}

/// Numbers of very different sizes from one row and column to the next.
Values uneven(int rows, int cols, std::uint64_t seed)
{
    Values out = numbers(rows * cols, seed);
    for (int i = 0; i < rows * cols; ++i)
        out[static_cast<std::size_t>(i)] *= std::ldexp(1, (i / cols * 7 + i % cols * 5) % 23 - 11);
    return out;
}

/// All positive e4m3 numbers in the order of their codes 0x00 to 0x7e: subnormals are multiples of 2^-9.
Values e4m3_numbers()
{
    Values out;
    for (int code = 0; code < 0x7f; ++code) {
        int const exponent = code / 8, mantissa = code % 8;
        out.push_back(exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
    }
    return out;
}

/// The nearest of them; halfway, the even code.
double nearest(Values const& grid, double x)
{
    auto const above = static_cast<std::size_t>(std::lower_bound(grid.begin(), grid.end(), std::abs(x)) - grid.begin());
    if (above == 0) return std::copysign(0.0, x);
    if (above == grid.size()) return std::copysign(448.0, x);
    double const down = std::abs(x) - grid[above - 1], up = grid[above] - std::abs(x);
    bool const lower = down < up || (down == up && above % 2 == 1);
    return std::copysign(grid[lower ? above - 1 : above], x);
}

/// Codes of numbers quantised with scale 1: every 128th is 448, which is left out of what comes back.
Values with_scale_one(Backend& on, Values const& x)
{
    Values padded;
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (i % 127 == 0) padded.push_back(448);
        padded.push_back(x[i]);
    }
    padded.resize((padded.size() + 127) / 128 * 128, 0.0);
    auto const all = quantised(on, static_cast<int>(padded.size() / 128), 128, padded);
    CHECK(all.row_scales == Values(padded.size() / 128, 1.0));
    Values out;
    for (std::size_t i = 0; i < x.size(); ++i) out.push_back(all.row[i / 127 * 128 + i % 127 + 1]);
    return out;
}

} // namespace

TEST_CASE("all 254 finite e4m3 numbers, and halves between neighbours, quantise to the nearest, ties to even")
{
    auto const grid = e4m3_numbers();
    REQUIRE(grid.back() == 448);
    Values x, expected;
    for (double const sign : {1.0, -1.0})
        for (std::size_t i = 0; i < grid.size(); ++i) {
            x.push_back(sign * grid[i]), expected.push_back(sign * grid[i]);
            if (i + 1 == grid.size()) continue;
            x.push_back(sign * (grid[i] + grid[i + 1]) / 2);
            expected.push_back(sign * grid[i % 2 == 0 ? i : i + 1]);
        }
    on_every_backend([&](Backend& on) { CHECK(with_scale_one(on, x) == expected); });
}

TEST_CASE("every bf16 number up to 448 quantises to the nearest e4m3 number")
{
    auto const grid = e4m3_numbers();
    Values x, expected;
    for (std::uint32_t bits = 0; bits <= 0x43e0; ++bits)
        for (std::uint32_t const sign : {0U, 0x8000U}) {
            std::uint32_t const wide = (bits | sign) << 16U;
            float number = 0;
            std::memcpy(&number, &wide, sizeof number);
            x.push_back(static_cast<double>(number));
            expected.push_back(nearest(grid, x.back()));
        }
    REQUIRE(x.back() == -448);
    on_every_backend([&](Backend& on) { CHECK(with_scale_one(on, x) == expected); });
}

TEST_CASE("a scale is the largest size of its 128 numbers over 448, and 1 where they are zero")
{
    Values x(3 * 256, 0.0);
    x[5] = -7, x[127] = 3; // row 0, columns 0-127
    x[256 + 128] = 448;    // row 1, columns 128-255
    on_every_backend([&](Backend& on) {
        auto const out = quantised(on, 3, 256, x);
        CHECK(out.row_scales == Values{0.015625, 1, 1, 1, 1, 1}); // [2 column blocks, 3 rows]
        CHECK(out.row[5] == -448);
        CHECK(out.row[127] == 192);
        CHECK(out.turned_scales.size() == 256); // [1 row block, 256]
        CHECK(out.turned_scales[5] == 0.015625);
        CHECK(out.turned_scales[6] == 1);
        CHECK(out.turned[5 * 3] == -448);
    });
}

TEST_CASE("both directions of quantise have the same bits on every back-end as on cpu, ragged edges included",
          "[sanitize]")
{
    auto const cpu = make_host_backend(false);
    for (auto const& [rows, cols] : shapes) {
        auto const x = uneven(rows, cols, 1);
        auto const expected = quantised(*cpu, rows, cols, x),
                   other = quantised(*cpu, cols, rows, transposed(x, rows, cols));
        CHECK(expected.turned == other.row);
        CHECK(expected.turned_scales == other.row_scales);
        INFO(rows << " x " << cols);
        on_every_backend([&](Backend& on) {
            auto const out = quantised(on, rows, cols, x);
            CHECK(out.row == expected.row);
            CHECK(out.row_scales == expected.row_scales);
            CHECK(out.turned == expected.turned);
            CHECK(out.turned_scales == expected.turned_scales);
        });
    }
}

TEST_CASE("quantised numbers are within 4 % of what they stand for, in either direction")
{
    auto const x = numbers(130 * 200, 1);
    on_every_backend([&](Backend& on) {
        Operand const row = poisoned_quantised(on, Scaling::vector128, 130, 200);
        Operand const turned = poisoned_quantised(on, Scaling::vector128, 200, 130);
        on.quantise(tensor(on, Element::bf16, 130, 200, x), row, turned);
        CHECK(distance(dequantised(on, row), x) < 4e-2);
        CHECK(distance(dequantised(on, turned), transposed(x, 130, 200)) < 4e-2);
    });
}

TEST_CASE("quantise without a transposed copy, and from a column range, writes the same rows")
{
    auto const x = numbers(5 * 136, 1);
    on_every_backend([&](Backend& on) {
        auto const expected = quantised(on, 5, 136, x);
        Operand const row = poisoned_quantised(on, Scaling::vector128, 5, 136);
        on.quantise(inside(on, Element::bf16, 5, 136, x).view, row, Operand{});
        CHECK(on.download(row.values) == expected.row);
        CHECK(on.download(row.scales) == expected.row_scales);
    });
}

TEST_CASE("the smallest and largest bf16 numbers quantise to finite codes and scales")
{
    Values x(256, 0.0);
    std::fill_n(x.begin(), 64, 1e-39); // subnormal; the scale stays a normal number
    std::fill_n(x.begin() + 128, 64, 3e38);
    for (double& each : x) each = rounded_to_bf16(each);
    on_every_backend([&](Backend& on) {
        auto const out = quantised(on, 1, 256, x);
        CHECK(out.row_scales[0] == 0x1p-126);
        CHECK(out.row[0] == Approx(1e-39 * 0x1p126).epsilon(0.07));
        CHECK(out.row[64] == 0);
        CHECK(out.row[128] == 448);
    });
}

TEST_CASE("quantise_blocks gives a block of 128 x 128 one scale, and the transposed copy the same codes", "[sanitize]")
{
    auto const cpu = make_host_backend(false);
    for (auto const& [rows, cols] : shapes) {
        auto const x = uneven(rows, cols, 2);
        auto const expected = in_blocks(*cpu, rows, cols, x);
        CHECK(expected.turned == transposed(expected.row, rows, cols));
        INFO(rows << " x " << cols);
        on_every_backend([&](Backend& on) {
            auto const out = in_blocks(on, rows, cols, x);
            CHECK(out.row == expected.row);
            CHECK(out.row_scales == expected.row_scales);
            CHECK(out.turned == expected.turned);
            CHECK(out.turned_scales == expected.turned_scales);
        });
    }
}

TEST_CASE("block scales come in rows of four, ones behind the last block")
{
    Values x(130 * 200, 0.0);
    x[0] = 7, x[199] = -14, x[129 * 200] = 3.5; // blocks (0, 0), (0, 1), (1, 0)
    on_every_backend([&](Backend& on) {
        auto const out = in_blocks(on, 130, 200, x);
        CHECK(out.row_scales == Values{0.015625, 0.03125, 1, 1, 0.0078125, 1, 1, 1});
        CHECK(out.turned_scales == Values{0.015625, 0.0078125, 1, 1, 0.03125, 1, 1, 1});
    });
}

TEST_CASE("transpose_quantised has the same bits on every back-end and stands for the transposed numbers", "[sanitize]")
{
    auto const cpu = make_host_backend(false);
    for (auto const& [rows, cols] : shapes) {
        auto const x = uneven(rows, cols, 3);
        auto const run = [&, r = rows, c = cols](Backend& on) {
            Operand const from = make_quantised(on, Scaling::vector128, r, c);
            Operand const to = poisoned_quantised(on, Scaling::vector128, c, r);
            on.quantise(tensor(on, Element::bf16, r, c, x), from, Operand{});
            on.transpose_quantised(from, to);
            auto const meant = transposed(dequantised(on, from), r, c);
            CHECK(distance(dequantised(on, to), meant) < 4e-2);
            return read(on, from, to);
        };
        auto const expected = run(*cpu);
        INFO(rows << " x " << cols);
        on_every_backend([&](Backend& on) {
            auto const out = run(on);
            CHECK(out.turned == expected.turned);
            CHECK(out.turned_scales == expected.turned_scales);
        });
    }
}

TEST_CASE("ref keeps the numbers and scales by 1")
{
    auto const x = numbers(3 * 130, 1);
    auto const out = quantised(*reference(), 3, 130, x);
    CHECK(out.row == x);
    CHECK(out.row_scales == Values(6, 1.0));
    CHECK(out.turned == transposed(x, 3, 130));
    CHECK(in_blocks(*reference(), 3, 130, x).row == x);
}

TEST_CASE("quantising does nothing to no rows and refuses operands that do not fit")
{
    on_every_backend([](Backend& on) {
        auto const vectors = [&](int rows, int cols) { return make_quantised(on, Scaling::vector128, rows, cols); };
        on.quantise(on.make(Element::bf16, 0, 128), vectors(0, 128), vectors(128, 0));
        on.transpose_quantised(vectors(0, 128), vectors(128, 0));
        Tensor const x = on.make(Element::bf16, 4, 128);
        CHECK_THROWS_AS(on.quantise(x, vectors(128, 4), Operand{}), InternalError);
        CHECK_THROWS_AS(on.quantise(x, vectors(4, 128), vectors(4, 128)), InternalError);
        CHECK_THROWS_AS(on.quantise_blocks(x, vectors(4, 128), Operand{}), InternalError);
        CHECK_THROWS_AS(on.transpose_quantised(vectors(4, 128), vectors(4, 128)), InternalError);
    });
}
