// SPDX-License-Identifier: Apache-2.0
//
// Rows sorted by expert on a GPU: a stable radix sort, then one block finds where each bucket begins in the sorted keys
// and where it shall begin, then every row is placed. Some 30 bytes a row move; a handful of launches is what it costs.
#include "kernels/cuda/launch.cuh"

#include "kernels/ops/radix_sort.cuh"
#include "kernels/ops/sort_rows.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 8; // blocks on an SM
constexpr int bucket_threads = 1024;

__device__ std::int64_t first_item() { return static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; }
__device__ std::int64_t grid_step() { return static_cast<std::int64_t>(gridDim.x) * threads; }

/// What the sort needs, and -1 everywhere in source.
__global__ void __launch_bounds__(threads, resident)
    prepare_kernel(int const* keys, int count, int buckets, int* sort_keys, int* indices, int* source,
                   std::int64_t capacity)
{
    for (std::int64_t i = first_item(); i < count; i += grid_step()) {
        int const key = keys[i];
        sort_keys[i] = key >= 0 && key < buckets ? key : buckets;
        indices[i] = static_cast<int>(i);
    }
    for (std::int64_t i = first_item(); i < capacity; i += grid_step()) source[i] = -1;
}

/// How many of @p sorted are below @p key.
__device__ int count_below(int const* sorted, int count, int key)
{
    int low = 0, high = count;
    while (low < high) {
        int const middle = low + (high - low) / 2;
        if (sorted[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/// One block. shift[b]: from a row's index in sorted order to its place. Sums fit an int: 2^30 rows and 4096 paddings
/// below 4096.
__global__ void __launch_bounds__(bucket_threads)
    bucket_kernel(int const* sorted, int count, int buckets, int alignment, int* counts, int* shift)
{
    __shared__ int ends[bucket_threads]; // inclusive sums of padded rows
    auto const me = static_cast<int>(threadIdx.x);
    int start = 0; // of the first bucket of this turn
    for (int first = 0; first < buckets; first += bucket_threads) {
        int const b = first + me;
        int begin = 0, rows = 0;
        if (b < buckets) {
            begin = count_below(sorted, count, b);
            rows = count_below(sorted, count, b + 1) - begin;
            counts[b] = rows;
        }
        int const padded = (rows + alignment - 1) / alignment * alignment;
        ends[me] = padded;
        __syncthreads();
        for (int reach = 1; reach < bucket_threads; reach *= 2) {
            int const before = me >= reach ? ends[me - reach] : 0;
            __syncthreads();
            ends[me] += before;
            __syncthreads();
        }
        if (b < buckets) shift[b] = start + ends[me] - padded - begin;
        start += ends[bucket_threads - 1];
        __syncthreads();
    }
}

__global__ void __launch_bounds__(threads, resident)
    place_kernel(int const* sorted, int const* indices, int count, int buckets, int const* shift, std::int64_t capacity,
                 int* position, int* source)
{
    for (std::int64_t i = first_item(); i < count; i += grid_step()) {
        int const key = sorted[i], row = indices[i]; // key == buckets: it was none
        std::int64_t const place = key < buckets ? i + shift[key] : -1;
        bool const has_room = place >= 0 && place < capacity;
        position[row] = has_room ? static_cast<int>(place) : -1;
        if (has_room) source[place] = row;
    }
}

} // namespace

void CudaBackend::sort_rows(Tensor const& keys, int buckets, std::int64_t alignment, Tensor const& position,
                            Tensor const& source, Tensor const& counts)
{
    check_sort_rows(keys, buckets, alignment, position, source, counts);
    if (keys.size() == 0) {
        fill(source, -1);
        fill(counts, 0);
        return;
    }
    SortSpace space = sort_space(*this, keys.size(), buckets, buckets);
    int* const shift = space.extra;
    auto const grid = [&](std::int64_t items) { return blocks((items + threads - 1) / threads, resident); };
    launch("sort_rows: prepare", prepare_kernel, grid(std::max(keys.size(), source.size())), threads, 0, stream(),
           static_cast<int const*>(keys.data), space.count, buckets, space.keys, space.indices,
           static_cast<int*>(source.data), source.size());
    sort(*this, space);
    launch("sort_rows: buckets", bucket_kernel, 1, bucket_threads, 0, stream(), space.sorted_keys, space.count, buckets,
           static_cast<int>(alignment), static_cast<int*>(counts.data), shift);
    launch("sort_rows: place", place_kernel, grid(keys.size()), threads, 0, stream(), space.sorted_keys,
           space.sorted_indices, space.count, buckets, shift, source.size(), static_cast<int*>(position.data),
           static_cast<int*>(source.data));
}

} // namespace trainfare::kernels
