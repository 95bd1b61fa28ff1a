// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.hpp"

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

TEST_CASE("groups of 130, 0 and 1 rows begin at 0, 256, 256 and end at 384 when aligned to 128")
{
    auto const groups = groups_from_counts({130, 0, 1}, 128);
    CHECK(groups.rows == std::vector<std::int64_t>{130, 0, 1});
    CHECK(groups.starts == std::vector<std::int64_t>{0, 256, 256, 384});
    CHECK(groups.count() == 3);
    CHECK(groups.padded_rows() == 384);
}

TEST_CASE("groups without alignment have no padding, and no counts make no groups")
{
    CHECK(groups_from_counts({3, 2}, 1).starts == std::vector<std::int64_t>{0, 3, 5});
    auto const none = groups_from_counts({}, 128);
    CHECK(none.count() == 0);
    CHECK(none.padded_rows() == 0);
}

TEST_CASE("groups do not overflow 32 bits")
{
    auto const groups = groups_from_counts({2147483647, 2147483647}, 128);
    CHECK(groups.padded_rows() == 4294967296);
}

TEST_CASE("a negative count or an alignment of zero is refused")
{
    CHECK_THROWS_AS(groups_from_counts({1, -1}, 128), InternalError);
    CHECK_THROWS_AS(groups_from_counts({1}, 0), InternalError);
}

TEST_CASE("a quantised matrix [130, 200] has scales [2, 130] by vectors and [2, 4] by blocks")
{
    auto const on = reference();
    auto const vectors = make_quantised(*on, Scaling::vector128, 130, 200);
    CHECK(vectors.values.element == Element::e4m3);
    CHECK(vectors.values.rows == 130);
    CHECK(vectors.values.cols == 200);
    CHECK(vectors.scales.element == Element::f32);
    CHECK(vectors.scales.rows == 2);
    CHECK(vectors.scales.cols == 130);
    auto const blocks = make_quantised(*on, Scaling::block128, 130, 200);
    CHECK(blocks.scales.rows == 2);
    CHECK(blocks.scales.cols == 4);
    CHECK(blocks.scaling == Scaling::block128);
    CHECK_THROWS_AS(make_quantised(*on, Scaling::none, 1, 1), InternalError);
}

TEST_CASE("ranges of rows and columns look at the same memory")
{
    auto const on = reference();
    Values values(6 * 10);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
    auto const whole = tensor(*on, Element::f32, 6, 10, values);
    auto const part = whole.row_range(2, 3).column_range(4, 2);
    CHECK(part.rows == 3);
    CHECK(part.cols == 2);
    CHECK_FALSE(part.contiguous());
    CHECK(on->download(part) == Values{24, 25, 34, 35, 44, 45});
    CHECK(on->download(whole.reshaped(10, 6).row_range(9, 1)) == Values{54, 55, 56, 57, 58, 59});
    auto const copy = part; // keeps the memory
    CHECK(copy.owner == whole.owner);
}
