// SPDX-License-Identifier: Apache-2.0
//
// Stable counting sort of rows by expert on a host: counts, aligned starts, places.
#include "kernels/ops/sort_rows.hpp"

#include <algorithm>
#include <vector>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::sort_rows(Tensor const& keys, int buckets, std::int64_t alignment, Tensor const& position,
                                  Tensor const& source, Tensor const& counts)
{
    check_sort_rows(keys, buckets, alignment, position, source, counts);
    std::fill_n(ints(source), source.size(), -1);
    std::fill_n(ints(counts), buckets, 0);
    for (std::int64_t i = 0; i < keys.size(); ++i) {
        require(ints(keys)[i] >= 0 && ints(keys)[i] < buckets, "sort_rows", "a key is not below the number of buckets");
        ++ints(counts)[ints(keys)[i]];
    }
    std::vector<std::int64_t> next{0}; // the place of each bucket's next row
    for (int b = 0; b < buckets; ++b)
        next.push_back(next.back() + (ints(counts)[b] + alignment - 1) / alignment * alignment);
    require(next.back() <= source.size(), "sort_rows", "source has no room for all buckets with their padding");
    for (std::int64_t i = 0; i < keys.size(); ++i) {
        std::int64_t const place = next[static_cast<std::size_t>(ints(keys)[i])]++;
        ints(position)[i] = static_cast<std::int32_t>(place);
        ints(source)[place] = static_cast<std::int32_t>(i);
    }
}

template void HostBackend<float>::sort_rows(Tensor const&, int, std::int64_t, Tensor const&, Tensor const&,
                                            Tensor const&);
template void HostBackend<double>::sort_rows(Tensor const&, int, std::int64_t, Tensor const&, Tensor const&,
                                             Tensor const&);

} // namespace trainfare::kernels
