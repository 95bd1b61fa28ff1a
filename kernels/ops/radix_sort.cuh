// SPDX-License-Identifier: Apache-2.0
//
// Sorting (key, index) pairs by key. The sort's workspace and our arrays are pieces of one scratch allocation, since a
// second call of scratch() would end the first.
#pragma once

#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/cub_sort.cuh"

namespace trainfare::kernels::cuda {

/// Arrays on the device, in the scratch memory of the stream in use.
struct SortSpace {
    int *keys = nullptr, *indices = nullptr;               // to be filled before sort()
    int *sorted_keys = nullptr, *sorted_indices = nullptr; // what sort() makes of them
    int* extra = nullptr;                                  // of the caller
    void* workspace = nullptr;
    std::size_t workspace_bytes = 0;
    int count = 0, bits = 0;
};

/// Queues the sort: equal keys keep the order of their indices.
inline void sort(CudaBackend const& on, SortSpace& space)
{
    sort_pairs(space.workspace, space.workspace_bytes, space.keys, space.sorted_keys, space.indices,
               space.sorted_indices, space.count, space.bits, on.stream());
}

/// @param last the greatest key.
/// @param extra ints for the caller.
inline SortSpace sort_space(CudaBackend& on, std::int64_t count, std::int64_t last, std::int64_t extra)
{
    SortSpace space;
    space.count = static_cast<int>(count);
    while (last >> space.bits != 0) ++space.bits;
    sort(on, space); // no workspace yet: only asks for its size
    auto const rounded = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };
    std::size_t const array = rounded(static_cast<std::size_t>(count) * sizeof(int));
    std::size_t const more = rounded(static_cast<std::size_t>(extra) * sizeof(int));
    auto* const base = static_cast<std::byte*>(on.scratch(4 * array + more + space.workspace_bytes));
    int** const arrays[4] = {&space.keys, &space.indices, &space.sorted_keys, &space.sorted_indices};
    for (std::size_t i = 0; i < 4; ++i) *arrays[i] = reinterpret_cast<int*>(base + i * array);
    space.extra = reinterpret_cast<int*>(base + 4 * array);
    space.workspace = base + 4 * array + more;
    return space;
}

} // namespace trainfare::kernels::cuda
