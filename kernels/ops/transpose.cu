// SPDX-License-Identifier: Apache-2.0
//
// Transposing f32 on a GPU in tiles of 32 x 32 through shared memory, so that both sides are read and written in whole
// lines. 4 bytes an element read, 4 written; memory is the limit.
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/transpose.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 8; // blocks on an SM
constexpr int side = 32, lines = threads / side;

__global__ void __launch_bounds__(threads, resident)
    transpose_kernel(float const* __restrict__ from, float* __restrict__ to, std::int64_t rows, std::int64_t cols)
{
    __shared__ float tile[side][side + 1]; // one more, so that a column meets 32 banks
    int const across = static_cast<int>(threadIdx.x) % side, line = static_cast<int>(threadIdx.x) / side;
    std::int64_t const tiles_across = (cols + side - 1) / side, tiles = (rows + side - 1) / side * tiles_across;
    for (std::int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        std::int64_t const top = t / tiles_across * side, left = t % tiles_across * side;
#pragma unroll
        for (int i = line; i < side; i += lines)
            if (top + i < rows && left + across < cols) tile[i][across] = from[(top + i) * cols + left + across];
        __syncthreads();
#pragma unroll
        for (int i = line; i < side; i += lines)
            if (left + i < cols && top + across < rows) to[(left + i) * rows + top + across] = tile[across][i];
        __syncthreads();
    }
}

} // namespace

void CudaBackend::transpose(Tensor const& from, Tensor const& to)
{
    check_transpose(from, to);
    if (from.size() == 0) return;
    std::int64_t const tiles = (from.rows + side - 1) / side * ((from.cols + side - 1) / side);
    launch("transpose", transpose_kernel, blocks(tiles, resident), threads, 0, stream(),
           static_cast<float const*>(from.data), static_cast<float*>(to.data), from.rows, from.cols);
}

} // namespace trainfare::kernels
