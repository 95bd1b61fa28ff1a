// SPDX-License-Identifier: Apache-2.0
//
// Stands in for kernels/ops/cub_sort.cuh where kernels run on the CPU: the same stable sort, by the C++ library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include <vector_types.h>

#include "model/error.hpp"

namespace trainfare::kernels::cuda {

inline void sort_pairs(void* workspace, std::size_t& workspace_bytes, int const* keys, int* sorted_keys,
                       int const* values, int* sorted_values, int count, int bits, struct CUstream_st*)
{
    if (workspace == nullptr) {
        workspace_bytes = 1;
        return;
    }
    if (workspace_bytes < 1) throw InternalError("radix sort: no workspace");
    auto const compared = [&](int i) { return static_cast<unsigned>(keys[i]) & ((1ULL << bits) - 1); };
    std::vector<int> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return compared(a) < compared(b); });
    for (auto const from : order) *sorted_keys++ = keys[from], *sorted_values++ = values[from];
}

} // namespace trainfare::kernels::cuda
