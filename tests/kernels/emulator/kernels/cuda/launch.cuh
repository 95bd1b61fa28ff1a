// SPDX-License-Identifier: Apache-2.0
//
// Stands in for kernels/cuda/launch.cuh where kernels are compiled as C++ and run on the CPU. It gives the words of
// CUDA that kernels use a meaning here; bf16 and e4m3 are NVIDIA's own types, whose conversions also compile for a
// host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/cuda/backend.hpp" // brings <memory>, which must not see the alignas below
#include "model/error.hpp"
#include "tests/kernels/emulator/run.hpp"

#undef __shared__
#define __shared__ static // blocks run one after another
#define alignas(...) __attribute__((aligned(__VA_ARGS__))) // nvcc takes it behind __shared__, C++ not behind static
#undef __launch_bounds__
#define __launch_bounds__(...)
#define threadIdx (::trainfare::kernels::emulator::thread_index())
#define blockIdx (::trainfare::kernels::emulator::block_index())
#define blockDim (::trainfare::kernels::emulator::block_size())
#define gridDim (::trainfare::kernels::emulator::grid_size())
#define warpSize 32

// --- meeting points -----------------------------------------------------------------------------------------------

inline void __syncthreads(std::source_location where = std::source_location::current())
{
    trainfare::kernels::emulator::meet_block(where);
}

inline void __syncwarp(unsigned mask = ~0U, std::source_location where = std::source_location::current())
{
    trainfare::kernels::emulator::meet_warp({.mask = mask}, where);
}

inline unsigned __ballot_sync(unsigned mask, int vote, std::source_location where = std::source_location::current())
{
    using trainfare::kernels::emulator::Exchange;
    Exchange const mine{Exchange::Kind::ballot, mask, vote != 0 ? 1U : 0U, 0};
    return static_cast<unsigned>(trainfare::kernels::emulator::meet_warp(mine, where));
}
inline int __any_sync(unsigned mask, int vote, std::source_location where = std::source_location::current())
{
    return __ballot_sync(mask, vote, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, std::source_location where = std::source_location::current())
{
    return __ballot_sync(mask, vote, where) == mask;
}

// A lane beyond its segment of `width` lanes keeps its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current())
{
    int const first = trainfare::kernels::emulator::lane() & ~(width - 1);
    return trainfare::kernels::emulator::shuffle(mask, value, first + (source & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  std::source_location where = std::source_location::current())
{
    int const lane = trainfare::kernels::emulator::lane(), end = (lane & ~(width - 1)) + width;
    return trainfare::kernels::emulator::shuffle(mask, value, (lane ^ bits) < end ? lane ^ bits : lane, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 std::source_location where = std::source_location::current())
{
    int const lane = trainfare::kernels::emulator::lane(), first = lane & ~(width - 1);
    int const source = lane - static_cast<int>(by);
    return trainfare::kernels::emulator::shuffle(mask, value, source >= first ? source : lane, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   std::source_location where = std::source_location::current())
{
    int const lane = trainfare::kernels::emulator::lane(), end = (lane & ~(width - 1)) + width;
    int const source = lane + static_cast<int>(by);
    return trainfare::kernels::emulator::shuffle(mask, value, source < end ? source : lane, where);
}

// --- memory and arithmetic ----------------------------------------------------------------------------------------

/// Only integers: a sum of floats in whatever order threads come is not deterministic.
template <class T>
    requires std::is_integral_v<T>
T atomicAdd(T* at, std::type_identity_t<T> x)
{
    return std::exchange(*at, *at + x);
}
template <class T>
T __ldg(T const* at)
{
    return *at;
}
inline void __threadfence() {}

template <class T>
T min(T a, T b)
{
    return b < a ? b : a;
}
template <class T>
T max(T a, T b)
{
    return a < b ? b : a;
}

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float cospif(float x) { return static_cast<float>(std::cos(3.14159265358979323846 * static_cast<double>(x))); }
inline float sinpif(float x) { return static_cast<float>(std::sin(3.14159265358979323846 * static_cast<double>(x))); }
inline void sincospif(float x, float* sine, float* cosine) { *sine = sinpif(x), *cosine = cospif(x); }
inline float exp10f(float x) { return std::pow(10.0F, x); }
inline float __expf(float x) { return std::exp(x); }
inline float __exp2f(float x) { return std::exp2(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1 / std::sqrt(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

// --- launching ----------------------------------------------------------------------------------------------------

namespace trainfare::kernels::cuda {

/// Runs the kernel at once; the stream does not matter.
template <class... Parameters, class... Arguments>
void launch(char const* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t, Arguments&&... arguments)
{
    std::tuple<std::decay_t<Parameters>...> const parameters{
        static_cast<Parameters>(std::forward<Arguments>(arguments))...};
    emulator::run_grid(name, grid, block, shared_bytes, [&] { std::apply(kernel, parameters); });
}

template <class T>
T* dynamic_shared()
{
    return reinterpret_cast<T*>(emulator::dynamic_memory());
}

} // namespace trainfare::kernels::cuda

#include "kernels/cuda/device_functions.cuh"
