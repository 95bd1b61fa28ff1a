// SPDX-License-Identifier: Apache-2.0
//
// Gradient of an embedding on a GPU, without atomics: (id, token) pairs are sorted by id, and whoever finds the first
// of a run of equal ids adds all its tokens to that row, in their order. Moves 2 h bytes a token and 8 h a different
// id; memory is the limit unless one id is most of the tokens, when its rows are added one after another.
#include "kernels/cuda/launch.cuh"

#include "kernels/ops/embedding.hpp"
#include "kernels/ops/radix_sort.cuh"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 128, resident = 8; // blocks on an SM
constexpr int in_flight = 4;               // tokens whose gradients a thread loads before it adds the first

__global__ void __launch_bounds__(threads)
    prepare_kernel(int const* ids, int tokens, int vocabulary, int* keys, int* indices)
{
    std::int64_t const step = static_cast<std::int64_t>(gridDim.x) * threads;
    for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; t < tokens; t += step) {
        keys[t] = ids[t] >= 0 && ids[t] < vocabulary ? ids[t] : vocabulary;
        indices[t] = static_cast<int>(t);
    }
}

struct Wide { // eight columns
    static constexpr int width = 8;
    static __device__ void load(__nv_bfloat16 const* p, float (&x)[8]) { unpack(load_pack(p), x); }
    static __device__ void load(float const* p, float (&x)[8])
    {
        float4 const low = reinterpret_cast<float4 const*>(p)[0], high = reinterpret_cast<float4 const*>(p)[1];
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w, x[4] = high.x, x[5] = high.y, x[6] = high.z,
        x[7] = high.w;
    }
    static __device__ void store(float* p, float const (&x)[8])
    {
        reinterpret_cast<float4*>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
        reinterpret_cast<float4*>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
    }
};

struct Narrow { // one
    static constexpr int width = 1;
    static __device__ void load(__nv_bfloat16 const* p, float (&x)[1]) { x[0] = __bfloat162float(*p); }
    static __device__ void load(float const* p, float (&x)[1]) { x[0] = *p; }
    static __device__ void store(float* p, float const (&x)[1]) { *p = x[0]; }
};

/// A block an item: one sorted pair and one piece of the columns. Only the first pair of a run has work.
template <class Access>
__global__ void __launch_bounds__(threads, resident)
    add_kernel(int const* keys, int const* indices, int tokens, int vocabulary, __nv_bfloat16 const* d_y,
               std::int64_t cols, std::int64_t pieces, float* d_table)
{
    constexpr int width = Access::width;
    for (std::int64_t item = blockIdx.x; item < tokens * pieces; item += gridDim.x) {
        auto const first = static_cast<int>(item / pieces);
        std::int64_t const col = (item % pieces * threads + threadIdx.x) * width;
        int const id = keys[first];
        if (id == vocabulary || (first > 0 && keys[first - 1] == id) || col >= cols) continue;
        float sum[width];
        Access::load(d_table + id * cols + col, sum);
        for (int i = first; i < tokens && keys[i] == id; i += in_flight) {
            float x[in_flight][width] = {};
            bool mine[in_flight];
#pragma unroll
            for (int j = 0; j < in_flight; ++j) {
                mine[j] = i + j < tokens && keys[i + j] == id;
                if (mine[j]) Access::load(d_y + indices[i + j] * cols + col, x[j]);
            }
#pragma unroll
            for (int j = 0; j < in_flight; ++j)
#pragma unroll
                for (int c = 0; c < width; ++c)
                    if (mine[j]) sum[c] += x[j][c];
        }
        Access::store(d_table + id * cols + col, sum);
    }
}

} // namespace

void CudaBackend::embedding_backward(Tensor const& d_y, Tensor const& ids, Tensor const& d_table)
{
    check_embedding_backward(d_y, ids, d_table);
    if (d_y.size() == 0) return;
    SortSpace space = sort_space(*this, d_y.rows, d_table.rows, 0);
    auto const vocabulary = static_cast<int>(d_table.rows);
    launch("embedding_backward: prepare", prepare_kernel, blocks((d_y.rows + threads - 1) / threads, resident), threads,
           0, stream(), static_cast<int const*>(ids.data), space.count, vocabulary, space.keys, space.indices);
    sort(*this, space);
    bool const wide = in_wide_accesses(d_y) && in_wide_accesses(d_table);
    std::int64_t const per_block = std::int64_t{threads} * (wide ? Wide::width : Narrow::width);
    std::int64_t const pieces = (d_y.cols + per_block - 1) / per_block;
    launch("embedding_backward: add", wide ? add_kernel<Wide> : add_kernel<Narrow>, blocks(d_y.rows * pieces, resident),
           threads, 0, stream(), space.sorted_keys, space.sorted_indices, space.count, vocabulary,
           static_cast<__nv_bfloat16 const*>(d_y.data), d_y.cols, pieces, static_cast<float*>(d_table.data));
}

} // namespace trainfare::kernels
