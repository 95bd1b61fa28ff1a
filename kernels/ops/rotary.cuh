// SPDX-License-Identifier: Apache-2.0
//
// Rotation of pairs of columns, shared by rope.cu and latent_heads.cu. Kernels are written for chunks of Width columns:
// 8 (one 16-byte access) where the layout allows it, else 1.
#pragma once

#include "kernels/cuda/launch.cuh"

#include <type_traits>

#include "kernels/ops/rotary.hpp"

namespace trainfare::kernels::cuda {

template <int Width>
using Chunk = std::conditional_t<Width == 8, Pack8, __nv_bfloat16>;

template <int Width>
__device__ Chunk<Width> load_chunk(__nv_bfloat16 const* p)
{
    return *reinterpret_cast<Chunk<Width> const*>(p);
}
template <int Width>
__device__ void store_chunk(__nv_bfloat16* p, Chunk<Width> const& c)
{
    *reinterpret_cast<Chunk<Width>*>(p) = c;
}

__device__ inline void unpack(__nv_bfloat16 c, float (&x)[1]) { x[0] = __bfloat162float(c); }
__device__ inline __nv_bfloat16 pack(float const (&x)[1]) { return __float2bfloat16_rn(x[0]); }

/// Cosine and sine of the angle at @p position; the other way round if @p inverse.
__device__ inline void rotation(unsigned position, std::uint64_t turns_per_position, bool inverse, float& cosine,
                                float& sine)
{
    std::uint64_t const turns = position * turns_per_position; // overflow drops whole turns
    auto const half_turns = static_cast<float>(static_cast<std::int32_t>(turns >> 32)) * 0x1p-31F; // in [-1, 1]
    sincospif(half_turns, &sine, &cosine);
    if (inverse) sine = -sine;
}

/// Rotates pairs (low, high) of a head's columns.
template <int Width>
__device__ void rotate(Chunk<Width>& low, Chunk<Width>& high, float const* cosine, float const* sine)
{
    float a[Width], b[Width], c[Width];
    unpack(low, a), unpack(high, b);
#pragma unroll
    for (int i = 0; i < Width; ++i) {
        c[i] = a[i] * cosine[i] - b[i] * sine[i];
        b[i] = b[i] * cosine[i] + a[i] * sine[i];
    }
    low = pack(c), high = pack(b);
}

} // namespace trainfare::kernels::cuda
