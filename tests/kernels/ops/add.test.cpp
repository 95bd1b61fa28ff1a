// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

TEST_CASE("add adds bf16 and f32 tensors of any size to rounding", "[sanitize]")
{
    for (auto const element : {Element::bf16, Element::f32})
        for (auto const& [rows, cols] : {std::pair{3, 70}, {1, 8}, {5, 7}, {1, 1}, {37, 1032}}) {
            auto const a = numbers(rows * cols, 1), b = numbers(rows * cols, 2);
            auto const run = [&](Backend& on) {
                Tensor const to = tensor(on, element, rows, cols, a);
                on.add(to, tensor(on, element, rows, cols, b));
                return on.download(to);
            };
            auto const expected = run(*reference());
            CHECK(expected[0] == a[0] + b[0]);
            INFO(rows << " x " << cols);
            on_every_backend(
                [&](Backend& on) { CHECK(distance(run(on), expected) < (element == Element::bf16 ? 1e-2 : 1e-6)); });
        }
}

TEST_CASE("add writes rows that do not begin at 16 bytes, and none beside them", "[sanitize]")
{
    auto const a = numbers(6 * 7, 1), b = numbers(3 * 7, 2);
    auto const run = [&](Backend& on) {
        Tensor const whole = tensor(on, Element::bf16, 6, 7, a);
        on.add(whole.row_range(1, 3), tensor(on, Element::bf16, 3, 7, b));
        return on.download(whole);
    };
    auto const expected = run(*reference());
    on_every_backend([&](Backend& on) {
        auto const out = run(on);
        CHECK(distance(out, expected) < 1e-2);
        CHECK(Values(out.begin(), out.begin() + 7) == Values(a.begin(), a.begin() + 7));
        CHECK(Values(out.end() - 14, out.end()) == Values(a.end() - 14, a.end()));
    });
}

TEST_CASE("add rounds a bf16 sum once, to even: 256 + 1 is 256, 256 + 3 is 260")
{
    on_every_backend([](Backend& on) {
        Tensor const to = tensor(on, Element::bf16, 1, 2, {256, 256});
        on.add(to, tensor(on, Element::bf16, 1, 2, {1, 3}));
        CHECK(on.download(to) == Values{256, 260});
    });
}

TEST_CASE("add does nothing to no rows and refuses tensors that do not match")
{
    on_every_backend([](Backend& on) {
        on.add(on.make(Element::bf16, 0, 8), on.make(Element::bf16, 0, 8));
        CHECK_THROWS_AS(on.add(on.make(Element::bf16, 2, 8), on.make(Element::bf16, 8, 2)), InternalError);
        CHECK_THROWS_AS(on.add(on.make(Element::bf16, 2, 8), on.make(Element::f32, 2, 8)), InternalError);
    });
}
