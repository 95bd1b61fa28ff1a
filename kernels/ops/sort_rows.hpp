// SPDX-License-Identifier: Apache-2.0
//
// Checks of sort_rows, for both twins. source must have room for every bucket and its padding: what groups_from_counts
// says where the counts are known, else rows + min(rows, buckets) (alignment - 1). A host says if it has not; a GPU
// cannot say so in time, so it leaves the rows out that have no room and gives them position -1, as it does to keys
// that are no bucket.
#pragma once

#include <limits>

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline void check_sort_rows(Tensor const& keys, int buckets, std::int64_t alignment, Tensor const& position,
                            Tensor const& source, Tensor const& counts)
{
    char const* const name = "sort_rows";
    require(buckets >= 1 && buckets <= 4096, name, "1 to 4096 buckets");
    require(alignment >= 1 && alignment <= 4096, name, "alignment is 1 to 4096");
    require(keys.size() <= std::numeric_limits<std::int32_t>::max() / 2, name, "at most 2^30 - 1 rows");
    require_elements(keys, Element::i32, keys.size(), name, "keys are i32");
    require_elements(position, Element::i32, keys.size(), name, "position is i32, as many as keys");
    require_elements(source, Element::i32, source.size(), name, "source is i32");
    require_elements(counts, Element::i32, buckets, name, "counts are i32 [1, buckets]");
    require(source.size() <= std::numeric_limits<std::int32_t>::max(), name, "a position fits into an i32");
}

} // namespace trainfare::kernels
