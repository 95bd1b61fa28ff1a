// SPDX-License-Identifier: Apache-2.0
//
// Scale and codes of a quantised block on a GPU: the expressions of quantise_vectors.hpp, so that both back-ends agree.
#pragma once

#include "kernels/cuda/launch.cuh"

#include <cfloat>
#include <cstdint>

namespace trainfare::kernels::cuda {

__device__ inline float block_scale(float largest) { return largest > 0 ? fmaxf(largest / 448.0F, FLT_MIN) : 1.0F; }

__device__ inline float largest_size(float const (&x)[8])
{
    float largest = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(x[i]));
    return largest;
}

/// The first number is the lowest byte.
__device__ inline std::uint32_t e4m3_pair(float low, float high)
{
    return static_cast<std::uint32_t>(__nv_cvt_float2_to_fp8x2(float2{low, high}, __NV_SATFINITE, __NV_E4M3));
}

/// Eight codes as they lie in memory.
__device__ inline uint2 e4m3_codes(float const (&x)[8], float reciprocal)
{
    uint2 codes;
    codes.x = e4m3_pair(x[0] * reciprocal, x[1] * reciprocal) | e4m3_pair(x[2] * reciprocal, x[3] * reciprocal) << 16;
    codes.y = e4m3_pair(x[4] * reciprocal, x[5] * reciprocal) | e4m3_pair(x[6] * reciprocal, x[7] * reciprocal) << 16;
    return codes;
}

/// Over the 16 lanes whose numbers (eight each) share a scale. The whole warp must call.
__device__ inline float half_warp_max(float x)
{
#pragma unroll
    for (int offset = 8; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(whole_warp, x, offset));
    return x;
}

/// Eight numbers, zeros from @p count on (no number at all where it is 0 or less). Wide: one access, and there are
/// eight or none.
template <bool Wide>
__device__ Pack8 load_eight(__nv_bfloat16 const* from, int count)
{
    if constexpr (Wide) {
        if (count > 0) return load_pack(from);
        return Pack8{};
    } else {
        float x[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = i < count ? __bfloat162float(from[i]) : 0.0F;
        return pack(x);
    }
}

template <bool Wide>
__device__ void store_eight(std::uint8_t* to, uint2 codes, int count)
{
    if constexpr (Wide) {
        if (count > 0) *reinterpret_cast<uint2*>(to) = codes;
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (i < count) to[i] = static_cast<std::uint8_t>((i < 4 ? codes.x : codes.y) >> (8 * (i % 4)));
    }
}

} // namespace trainfare::kernels::cuda
