// SPDX-License-Identifier: Apache-2.0
//
// Transposing f32: exact, at any size, and twice is nothing.
#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

TEST_CASE("transposing exchanges rows and columns, bit by bit, at any size", "[sanitize]")
{
    for (auto const& [rows, cols] : {std::pair{1, 1}, {1, 70}, {70, 1}, {32, 32}, {33, 65}, {56, 1000}, {301, 56}}) {
        auto const x = numbers(std::int64_t{rows} * cols, 1);
        Values expected(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) {
            auto const width = static_cast<std::size_t>(cols);
            expected[i % width * static_cast<std::size_t>(rows) + i / width] = x[i];
        }
        INFO(rows << " x " << cols);
        on_every_backend([&, r = rows, c = cols](Backend& on) {
            Tensor const turned = poisoned(on, Element::f32, c, r), again = poisoned(on, Element::f32, r, c);
            on.transpose(tensor(on, Element::f32, r, c, x), turned);
            CHECK(on.download(turned) == expected);
            on.transpose(turned, again);
            CHECK(on.download(again) == x);
        });
    }
}

TEST_CASE("transposing does nothing to no rows and refuses shapes that do not fit")
{
    on_every_backend([](Backend& on) {
        auto const f32 = [&](std::int64_t rows, std::int64_t cols) { return on.make(Element::f32, rows, cols); };
        on.transpose(f32(0, 5), f32(5, 0));
        CHECK_THROWS_AS(on.transpose(f32(3, 5), f32(3, 5)), InternalError);
        CHECK_THROWS_AS(on.transpose(on.make(Element::bf16, 3, 5), f32(5, 3)), InternalError);
        CHECK_THROWS_AS(on.transpose(f32(3, 5).column_range(0, 4), f32(4, 3)), InternalError);
    });
}
