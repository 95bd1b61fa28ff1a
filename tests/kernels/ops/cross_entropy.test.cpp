// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy and its gradient in place of the logits.
#include <cmath>
#include <limits>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

using Ints = std::vector<std::int32_t>;

struct Loss {
    Values loss, slopes;
};

Loss cross_entropy(Backend& on, Element element, Values const& logits, Ints const& targets, float scale = 1)
{
    auto const rows = static_cast<std::int64_t>(targets.size()), cols = static_cast<std::int64_t>(logits.size()) / rows;
    Tensor const x = tensor(on, element, rows, cols, logits), loss = poisoned(on, Element::f32, 1, rows);
    on.cross_entropy(x, tensor(on, 1, rows, targets), scale, loss);
    return {on.download(loss), on.download(x)};
}

double sum(Values const& x)
{
    double total = 0;
    for (double v : x) total += v;
    return total;
}

} // namespace

TEST_CASE("of two equal logits each costs ln 2 and is pulled by one half")
{
    on_every_backend([](Backend& on) {
        for (auto element : {Element::f32, Element::bf16}) {
            auto const out = cross_entropy(on, element, {3, 3}, {1}, 4);
            CHECK(out.loss[0] == Approx(0.69314718));
            CHECK(out.slopes == Values{2, -2});
        }
    });
}

TEST_CASE("the gradient of cross-entropy is the slope of its loss")
{
    auto const ref = reference();
    auto const logits = numbers(3 * 11, 1);
    Ints const targets{0, 10, -1};
    auto const out = cross_entropy(*ref, Element::f32, logits, targets, 0.5F);
    auto const slope = gradient(
        [&](Values const& x) { return 0.5 * sum(cross_entropy(*ref, Element::f32, x, targets).loss); }, logits);
    CHECK(distance(out.slopes, slope) < 1e-6);
}

TEST_CASE("cross-entropy is alike on every back-end, for rows of any width", "[sanitize]")
{
    for (std::int64_t cols : {1, 2, 9, 1000, 1001, 8192, 40001})
        for (auto element : {Element::f32, Element::bf16}) {
            CAPTURE(cols, element == Element::bf16);
            auto const logits = numbers(4 * cols, 2, 3);
            auto const last = static_cast<std::int32_t>(cols - 1);
            Ints const targets{0, last, -1, last / 2};
            auto const expected = cross_entropy(*reference(), element, logits, targets, 0.125F);
            on_every_backend([&](Backend& on) {
                auto const out = cross_entropy(on, element, logits, targets, 0.125F);
                CHECK(distance(out.loss, expected.loss) < 1e-5);
                CHECK(distance(out.slopes, expected.slopes) < (element == Element::f32 ? 1e-5 : 1e-2));
            });
        }
}

TEST_CASE("a row wider than a block keeps is alike on every back-end", "[sanitize]")
{
    std::int64_t const cols = 129280; // of DeepSeek-V3
    auto const logits = numbers(2 * cols, 3);
    Ints const targets{129279, 77};
    for (auto element : {Element::f32, Element::bf16}) {
        auto const expected = cross_entropy(*reference(), element, logits, targets);
        on_every_backend([&](Backend& on) {
            auto const out = cross_entropy(on, element, logits, targets);
            CHECK(distance(out.loss, expected.loss) < 1e-5);
            CHECK(distance(out.slopes, expected.slopes) < (element == Element::f32 ? 1e-5 : 1e-2));
            if (element == Element::f32) CHECK(std::abs(sum(out.slopes)) < 1e-4); // probabilities sum to 1
        });
    }
}

TEST_CASE("target -1 costs nothing and pulls nothing")
{
    on_every_backend([](Backend& on) {
        auto const out = cross_entropy(on, Element::bf16, numbers(3 * 17, 4), {-1, 5, -1});
        CHECK(out.loss[0] == 0);
        CHECK(out.loss[1] > 0);
        CHECK(out.loss[2] == 0);
        CHECK(Values(out.slopes.begin(), out.slopes.begin() + 17) == Values(17, 0));
    });
}

TEST_CASE("large logits do not overflow")
{
    on_every_backend([](Backend& on) {
        auto const out = cross_entropy(on, Element::f32, {10000, 9999, -10000, -1e30}, {1});
        CHECK(out.loss[0] == Approx(1.31326169)); // 1 + ln(1 + 1/e)
        CHECK(out.slopes[0] == Approx(0.73105858));
        CHECK(out.slopes[3] == 0);
    });
}

TEST_CASE("NaN in a row is NaN in its loss and in no other row")
{
    on_every_backend([](Backend& on) {
        Values logits = numbers(2 * 40, 5);
        logits[13] = std::numeric_limits<double>::quiet_NaN();
        auto const out = cross_entropy(on, Element::bf16, logits, {3, 3});
        CHECK(std::isnan(out.loss[0]));
        CHECK(std::isfinite(out.loss[1]));
        for (std::size_t i = 40; i < 80; ++i) CHECK(std::isfinite(out.slopes[i]));
    });
}

TEST_CASE("a target that is no column is an error on a host and a loss of NaN on a GPU")
{
    auto const host = make_host_backend(false);
    for (std::int32_t target : {-2, 8, 1 << 30})
        CHECK_THROWS_AS(cross_entropy(*host, Element::bf16, Values(8, 0), {target}), trainfare::InternalError);
    auto const cuda = cuda_or_warning();
    if (!cuda) return;
    auto const out = cross_entropy(*cuda, Element::bf16, Values(4 * 8, 0), {-2, 8, 1 << 30, 0});
    for (std::size_t row = 0; row < 3; ++row) CHECK(std::isnan(out.loss[row]));
    CHECK(Values(out.slopes.begin(), out.slopes.begin() + 24) == Values(24, 0));
    CHECK(out.loss[3] == Approx(std::log(8)));
}
