// SPDX-License-Identifier: Apache-2.0
//
// The one place that includes CUB: its stable radix sort of pairs. Tests that run kernels on a CPU have another file of
// this name (tests/kernels/emulator).
#pragma once

#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/check.hpp"

namespace trainfare::kernels::cuda {

/// Sorts @p count pairs by bits [0, bits) of the key, equal keys in the order they came in. With no workspace it only
/// says how many bytes it needs. Queues work and waits for nothing, so it may be captured.
inline void sort_pairs(void* workspace, std::size_t& workspace_bytes, int const* keys, int* sorted_keys,
                       int const* values, int* sorted_values, int count, int bits, cudaStream_t stream)
{
    check(cub::DeviceRadixSort::SortPairs(workspace, workspace_bytes, keys, sorted_keys, values, sorted_values, count,
                                          0, bits, stream),
          "radix sort");
}

} // namespace trainfare::kernels::cuda
