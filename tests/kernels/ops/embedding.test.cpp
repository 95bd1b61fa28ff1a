// SPDX-License-Identifier: Apache-2.0
//
// The gradient of an embedding: every token's gradient ends in its id's row, exactly in the order of tokens.
#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

using Ints = std::vector<std::int32_t>;

Values added(Backend& on, Ints const& ids, Values const& d_y, std::int64_t vocabulary, Values const& before)
{
    auto const tokens = static_cast<std::int64_t>(ids.size()),
               cols = static_cast<std::int64_t>(before.size()) / vocabulary;
    Tensor const table = tensor(on, Element::f32, vocabulary, cols, before);
    on.embedding_backward(tensor(on, Element::bf16, tokens, cols, d_y), tensor(on, 1, tokens, ids), table);
    return on.download(table);
}

} // namespace

TEST_CASE("gradients of equal ids add up in their row, other rows stay")
{
    on_every_backend([](Backend& on) {
        CHECK(added(on, {2, 0, 2}, {1, 2, 3, 4, 5, 6}, 4, {10, 10, 20, 20, 30, 30, 40, 40}) ==
              Values{13, 14, 20, 20, 36, 38, 40, 40});
    });
}

TEST_CASE("an embedding's gradient is the same float sum on every back-end, token after token", "[sanitize]")
{
    for (std::int64_t cols : {1, 7, 64, 2000})
        for (int vocabulary : {1, 3, 1000}) {
            CAPTURE(cols, vocabulary);
            auto const ids = integers(150, vocabulary, 1);
            auto const d_y = numbers(150 * cols, 2, 100), before = numbers(vocabulary * cols, 3);
            std::vector<float> sums(before.begin(), before.end());
            for (std::size_t t = 0; t < ids.size(); ++t)
                for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c)
                    sums[static_cast<std::size_t>(ids[t]) * static_cast<std::size_t>(cols) + c] +=
                        static_cast<float>(d_y[t * static_cast<std::size_t>(cols) + c]);
            on_every_backend([&](Backend& on) {
                CHECK(added(on, ids, d_y, vocabulary, before) == Values(sums.begin(), sums.end()));
            });
            CHECK(distance(added(*reference(), ids, d_y, vocabulary, before), Values(sums.begin(), sums.end())) < 1e-5);
        }
}

TEST_CASE("an embedding without tokens changes nothing")
{
    on_every_backend([](Backend& on) { CHECK(added(on, {}, {}, 2, {1, 2, 3, 4}) == Values{1, 2, 3, 4}); });
}

TEST_CASE("an id outside the table is an error on a host and left out on a GPU", "[sanitize]")
{
    auto const host = make_host_backend(false);
    CHECK_THROWS_AS(added(*host, {2}, {1, 1}, 2, {0, 0, 0, 0}), trainfare::InternalError);
    CHECK_THROWS_AS(added(*host, {-1}, {1, 1}, 2, {0, 0, 0, 0}), trainfare::InternalError);
    auto const cuda = cuda_or_warning();
    if (!cuda) return;
    CHECK(added(*cuda, {2, 1, -1, 1 << 30}, {1, 1, 2, 3, 1, 1, 1, 1}, 2, {0, 0, 5, 5}) == Values{0, 0, 7, 8});
}
