// SPDX-License-Identifier: Apache-2.0
//
// Device functions shared by the kernels: reductions in a fixed order (so results do not change from run to run), and packs of
// eight bf16 that move as one 16-byte access. Pure arithmetic, shuffles and barriers: also compiled for the CPU emulator.
#pragma once

#include <cstring>

namespace trainfare::kernels::cuda {

inline constexpr int warp_size = 32;
inline constexpr unsigned whole_warp = 0xffffffffU;

struct Add {
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Every lane gets the result of all 32.
template <class Operation>
__device__ float warp_reduce(float x, Operation operation)
{
    for (int offset = warp_size / 2; offset > 0; offset /= 2) x = operation(x, __shfl_xor_sync(whole_warp, x, offset));
    return x;
}

/// Every thread of the block gets the result of all; blockDim.x is a multiple of 32, at most 1024. @p neutral leaves others as they
/// are. Begins and ends with a barrier, so it may be called again at once.
template <class Operation>
__device__ float block_reduce(float x, Operation operation, float neutral)
{
    __shared__ float partial[warp_size];
    int const lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
    int const warps = static_cast<int>(blockDim.x) / warp_size;
    x = warp_reduce(x, operation);
    __syncthreads();
    if (lane == 0) partial[warp] = x;
    __syncthreads();
    x = warp_reduce(lane < warps ? partial[lane] : neutral, operation);
    __syncthreads();
    return x;
}

__device__ inline float block_sum(float x) { return block_reduce(x, Add{}, 0.0F); }
__device__ inline float block_max(float x) { return block_reduce(x, Max{}, -3.402823466e38F); }

/// Eight bf16 in one 16-byte access. Address and row width must be multiples of 8 elements. Kept as four words, since nvcc makes one
/// access of a uint4 but four or more of an array of bf16.
struct alignas(16) Pack8 {
    uint4 words;
};

__device__ inline void unpack(Pack8 const& pack, float (&x)[8])
{
    unsigned const word[4] = {pack.words.x, pack.words.y, pack.words.z, pack.words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) { // a bf16 is the upper half of a float
        x[2 * i] = __uint_as_float(word[i] << 16U);
        x[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000U);
    }
}

__device__ inline Pack8 pack(float const (&x)[8])
{
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        __nv_bfloat162 const pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
        memcpy(&word[i], &pair, sizeof pair);
    }
    return Pack8{uint4{word[0], word[1], word[2], word[3]}};
}

__device__ inline Pack8 load_pack(__nv_bfloat16 const* p) { return *reinterpret_cast<Pack8 const*>(p); }
__device__ inline void store_pack(__nv_bfloat16* p, Pack8 const& v) { *reinterpret_cast<Pack8*>(p) = v; }

} // namespace trainfare::kernels::cuda
