// SPDX-License-Identifier: Apache-2.0
//
// Sorting rows by expert: stable, aligned, every row in exactly one place, the rest marked as padding.
#include <algorithm>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

using Ints = std::vector<std::int32_t>;

struct Sorted {
    Ints position, source, counts;
    bool operator==(Sorted const&) const = default;
};

Sorted sorted(Backend& on, Ints const& keys, int buckets, std::int64_t alignment, std::int64_t capacity)
{
    auto const rows = static_cast<std::int64_t>(keys.size());
    Tensor const position = poisoned(on, Element::i32, 1, rows), source = poisoned(on, Element::i32, 1, capacity);
    Tensor const counts = poisoned(on, Element::i32, 1, buckets);
    on.sort_rows(tensor(on, 1, rows, keys), buckets, alignment, position, source, counts);
    return {on.download_ints(position), on.download_ints(source), on.download_ints(counts)};
}

Ints counted(Ints const& keys, int buckets)
{
    Ints counts(static_cast<std::size_t>(buckets), 0);
    for (auto const key : keys) ++counts[static_cast<std::size_t>(key)];
    return counts;
}

/// What the contract says, computed the obvious way.
Sorted expected_of(Ints const& keys, int buckets, std::int64_t alignment, std::int64_t capacity)
{
    Sorted out{Ints(keys.size()), Ints(static_cast<std::size_t>(capacity), -1), counted(keys, buckets)};
    auto const groups = groups_from_counts(out.counts, alignment);
    for (int b = 0; b < buckets; ++b) {
        auto place = groups.starts[static_cast<std::size_t>(b)];
        for (std::size_t i = 0; i < keys.size(); ++i)
            if (keys[i] == b) {
                out.source[static_cast<std::size_t>(place)] = static_cast<std::int32_t>(i);
                out.position[i] = static_cast<std::int32_t>(place++);
            }
    }
    return out;
}

} // namespace

TEST_CASE("rows of a bucket keep their order and each bucket starts at a multiple of the alignment")
{
    on_every_backend([](Backend& on) {
        CHECK(sorted(on, {2, 0, 2, 2, 0}, 4, 4, 10) ==
              Sorted{{4, 0, 5, 6, 1}, {1, 4, -1, -1, 0, 2, 3, -1, -1, -1}, {2, 0, 3, 0}});
        CHECK(sorted(on, {1, 0, 1}, 2, 1, 3) == Sorted{{1, 0, 2}, {1, 0, 2}, {1, 2}});
    });
}

TEST_CASE("many rows, few and many buckets, in every back-end as the contract says", "[sanitize]")
{
    struct Case {
        std::int64_t rows;
        int buckets;
        std::int64_t alignment, spare;
    };
    for (auto const& c : {Case{1, 1, 1, 0}, Case{1000, 7, 128, 5}, Case{5000, 256, 128, 0}, Case{3000, 4096, 16, 100},
                          Case{2000, 1025, 1, 0}, Case{777, 1, 64, 0}}) {
        CAPTURE(c.rows, c.buckets, c.alignment);
        auto const keys = integers(c.rows, c.buckets, 1);
        auto const capacity = groups_from_counts(counted(keys, c.buckets), c.alignment).padded_rows() + c.spare;
        auto const expected = expected_of(keys, c.buckets, c.alignment, capacity);
        on_every_backend([&](Backend& on) { CHECK((sorted(on, keys, c.buckets, c.alignment, capacity) == expected)); });
    }
}

TEST_CASE("all rows in one bucket, and no rows at all")
{
    on_every_backend([](Backend& on) {
        Ints const keys(300, 5);
        CHECK((sorted(on, keys, 8, 128, 384) == expected_of(keys, 8, 128, 384)));
        CHECK((sorted(on, {}, 3, 128, 6) == Sorted{{}, Ints(6, -1), {0, 0, 0}}));
        CHECK((sorted(on, {}, 3, 128, 0) == Sorted{{}, {}, {0, 0, 0}}));
    });
}

TEST_CASE("a host says when a key is no bucket or rows have no room")
{
    auto const host = make_host_backend(false);
    CHECK_THROWS_AS(sorted(*host, {0, 3}, 3, 1, 2), trainfare::InternalError);
    CHECK_THROWS_AS(sorted(*host, {0, -1}, 3, 1, 2), trainfare::InternalError);
    CHECK_THROWS_AS(sorted(*host, {0, 1}, 2, 128, 255), trainfare::InternalError);
}

TEST_CASE("a GPU leaves such rows out and writes nowhere else", "[sanitize]")
{
    auto const cuda = cuda_or_warning();
    if (!cuda) return;
    CHECK(sorted(*cuda, {0, 3, -7, 2, 1 << 30, 0}, 3, 2, 4) == Sorted{{0, -1, -1, 2, -1, 1}, {0, 5, 3, -1}, {2, 0, 1}});
    CHECK(sorted(*cuda, {0, 1, 1}, 2, 4, 5) == Sorted{{0, 4, -1}, {0, -1, -1, -1, 1}, {1, 2}}); // a place short
}
