// SPDX-License-Identifier: Apache-2.0
//
// One block of threads moves the scales of one group and one block of 128 columns: a contiguous piece on both sides.
#include "kernels/cuda/group_scales.hpp"
#include "kernels/cuda/launch.cuh"

namespace trainfare::kernels::cuda {

namespace {

constexpr int threads = 256;

__global__ void split_scales_kernel(float const* from, std::int64_t from_pitch, std::int32_t blocks, GroupList groups,
                                    float* to)
{
    std::int64_t const pieces = std::int64_t{groups.count} * blocks;
    for (std::int64_t piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
        auto const group = static_cast<std::int32_t>(piece / blocks), block = static_cast<std::int32_t>(piece % blocks);
        std::int64_t const first = groups.first[group], rows = groups.rows[group];
        auto const* const in = reinterpret_cast<float4 const*>(from + block * from_pitch + first);
        auto* const out = reinterpret_cast<float4*>(to + blocks * first + block * rows);
        for (std::int64_t i = threadIdx.x; i < rows / 4; i += threads) out[i] = in[i];
    }
}

} // namespace

void split_scales(CudaBackend& backend, Tensor const& scales, GroupList const& groups, float* to)
{
    if (groups.count == 0 || scales.rows == 0) return;
    launch("split_scales", split_scales_kernel, backend.blocks(groups.count * scales.rows, 8), threads, 0,
           backend.stream(), static_cast<float const*>(scales.data), scales.pitch,
           static_cast<std::int32_t>(scales.rows), groups, to);
}

} // namespace trainfare::kernels::cuda
