// SPDX-License-Identifier: Apache-2.0
//
// Constants, copies and random numbers on a GPU. fill writes, copy reads and writes every byte once; memory is the
// limit. normal (its generator: memory.cpp) is run once a training, so it is simple.
#include "kernels/cuda/launch.cuh"

#include <bit>
#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/memory.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 4; // blocks on an SM
constexpr int warps = threads / warp_size;

/// What a thread moves at once where addresses and sizes allow 16-byte accesses; else it moves one element.
using Wide = uint4;
struct alignas(16) Floats8 {
    float4 low, high;
};

__device__ std::int64_t first_item() { return static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; }
__device__ std::int64_t grid_step() { return static_cast<std::int64_t>(gridDim.x) * threads; }

template <class Item>
__global__ void __launch_bounds__(threads, resident) fill_kernel(Item* to, std::int64_t count, Item value)
{
    for (std::int64_t i = first_item(); i < count; i += grid_step()) to[i] = value;
}

template <class Item>
void fill_items(CudaBackend const& on, Tensor const& t, Item value)
{
    std::int64_t const count =
        t.size() * static_cast<std::int64_t>(t.bytes_each) / static_cast<std::int64_t>(sizeof(Item));
    launch("fill", fill_kernel<Item>, on.blocks((count + threads - 1) / threads, resident), threads, 0, on.stream(),
           static_cast<Item*>(t.data), count, value);
}

template <class To, class From>
__device__ To as(From const& x)
{
    if constexpr (std::is_same_v<To, From>)
        return x;
    else if constexpr (std::is_same_v<To, float>)
        return __bfloat162float(x);
    else if constexpr (std::is_same_v<To, __nv_bfloat16>)
        return __float2bfloat16_rn(x);
    else if constexpr (std::is_same_v<To, Pack8>) {
        float const all[8] = {x.low.x, x.low.y, x.low.z, x.low.w, x.high.x, x.high.y, x.high.z, x.high.w};
        return pack(all);
    } else {
        float all[8];
        unpack(x, all);
        return {{all[0], all[1], all[2], all[3]}, {all[4], all[5], all[6], all[7]}};
    }
}

/// Memory as lines of items, pitches apart, the last line perhaps shorter: rows of a column range, or pieces of one
/// long row.
struct Lines {
    std::int64_t count, width, last_width, to_pitch, from_pitch;
};

/// A warp a line.
template <class To, class From>
__global__ void __launch_bounds__(threads, resident)
    copy_kernel(To* __restrict__ to, From const* __restrict__ from, Lines lines)
{
    auto const lane = static_cast<int>(threadIdx.x) % warp_size;
    for (std::int64_t line = first_item() / warp_size; line < lines.count; line += grid_step() / warp_size) {
        To* const t = to + line * lines.to_pitch;
        From const* const f = from + line * lines.from_pitch;
        std::int64_t const width = line + 1 == lines.count ? lines.last_width : lines.width;
#pragma unroll 4
        for (std::int64_t i = lane; i < width; i += warp_size) {
            From const x = f[i];
            t[i] = as<To>(x);
        }
    }
}

/// @p each elements are an item.
template <class To, class From>
void copy_items(CudaBackend const& on, Tensor const& to, Tensor const& from, std::int64_t each)
{
    constexpr std::int64_t piece = 512;
    Lines lines{to.rows, to.cols / each, to.cols / each, to.pitch / each, from.pitch / each};
    if (to.contiguous() && from.contiguous()) {
        std::int64_t const items = to.size() / each, count = (items + piece - 1) / piece;
        lines = {count, piece, items - (count - 1) * piece, piece, piece};
    }
    launch("copy", copy_kernel<To, From>, on.blocks((lines.count + warps - 1) / warps, resident), threads, 0,
           on.stream(), static_cast<To*>(to.data), static_cast<From const*>(from.data), lines);
}

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15U;

__host__ __device__ inline std::uint64_t mixed(std::uint64_t z)
{
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
}

template <class T>
__global__ void __launch_bounds__(threads, resident)
    normal_kernel(T* to, std::int64_t count, float mean, float deviation, std::uint64_t state)
{
    for (std::int64_t i = first_item(); i < count; i += grid_step()) {
        std::uint64_t const bits = mixed(state + (static_cast<std::uint64_t>(i) + 1) * golden);
        float const u = static_cast<float>((bits >> 40U) + 1) * 0x1p-24F;
        float const v = static_cast<float>(bits >> 8U & 0xffffffU) * 0x1p-24F;
        to[i] = as<T>(mean + deviation * (sqrtf(-2 * logf(u)) * cospif(2 * v)));
    }
}

template <class T>
void normal_as(CudaBackend const& on, Tensor const& t, float mean, float deviation, std::uint64_t seed)
{
    launch("normal", normal_kernel<T>, on.blocks((t.size() + threads - 1) / threads, resident), threads, 0, on.stream(),
           static_cast<T*>(t.data), t.size(), mean, deviation, mixed(seed + golden));
}

} // namespace

void CudaBackend::fill(Tensor const& t, float value)
{
    check_fill(t);
    if (t.size() == 0) return;
    bool const wide = in_wide_accesses(t.reshaped(1, t.size()));
    std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    if (t.element == Element::i32) bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(value));
    if (t.element == Element::bf16) bits = __bfloat16_as_ushort(__float2bfloat16_rn(value)) * 0x10001U; // twice
    if (wide)
        fill_items(*this, t, Wide{bits, bits, bits, bits});
    else if (t.element == Element::bf16)
        fill_items(*this, t, static_cast<std::uint16_t>(bits & 0xffffU));
    else
        fill_items(*this, t, bits);
}

void CudaBackend::copy(Tensor const& to, Tensor const& from)
{
    check_copy(to, from);
    if (to.size() == 0) return;
    bool const one_row = to.contiguous() && from.contiguous();
    auto const wide_accesses = [&](Tensor const& t) { return in_wide_accesses(one_row ? t.reshaped(1, t.size()) : t); };
    bool const wide = wide_accesses(to) && wide_accesses(from);
    if (to.element == from.element) {
        auto const each = static_cast<std::int64_t>(sizeof(Wide) / to.bytes_each);
        if (wide)
            copy_items<Wide, Wide>(*this, to, from, each);
        else if (to.bytes_each == 4)
            copy_items<std::uint32_t, std::uint32_t>(*this, to, from, 1);
        else if (to.bytes_each == 2)
            copy_items<std::uint16_t, std::uint16_t>(*this, to, from, 1);
        else
            copy_items<std::uint8_t, std::uint8_t>(*this, to, from, 1);
    } else if (to.element == Element::f32) {
        if (wide)
            copy_items<Floats8, Pack8>(*this, to, from, 8);
        else
            copy_items<float, __nv_bfloat16>(*this, to, from, 1);
    } else {
        if (wide)
            copy_items<Pack8, Floats8>(*this, to, from, 8);
        else
            copy_items<__nv_bfloat16, float>(*this, to, from, 1);
    }
}

void CudaBackend::normal(Tensor const& t, float mean, float deviation, std::uint64_t seed)
{
    check_normal(t);
    if (t.size() == 0) return;
    if (t.element == Element::f32)
        normal_as<float>(*this, t, mean, deviation, seed);
    else
        normal_as<__nv_bfloat16>(*this, t, mean, deviation, seed);
}

} // namespace trainfare::kernels
