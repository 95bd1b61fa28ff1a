// SPDX-License-Identifier: Apache-2.0
//
// to += x on a GPU. Per bf16: 4 bytes read, 2 written; memory is the limit.
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 4; // blocks on an SM
constexpr int in_flight = 4;               // 16-byte loads of each input that a thread starts before it needs the first

__device__ float sum(float a, float b) { return a + b; }
__device__ __nv_bfloat16 sum(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __float2bfloat16_rn(__bfloat162float(a) + __bfloat162float(b));
}
__device__ float4 sum(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ Pack8 sum(Pack8 const& a, Pack8 const& b)
{
    float x[8], y[8];
    unpack(a, x), unpack(b, y);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] += y[i];
    return pack(x);
}

/// @p count items of type Item: a number, or the 16 bytes that a thread moves at once.
template <class Item>
__global__ void __launch_bounds__(threads, resident) add_kernel(Item* to, Item const* x, std::int64_t count)
{
    std::int64_t const stride = std::int64_t{gridDim.x} * threads;
    for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < count; i += in_flight * stride) {
        Item a[in_flight], b[in_flight];
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (i + j * stride < count) a[j] = to[i + j * stride], b[j] = x[i + j * stride];
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (i + j * stride < count) to[i + j * stride] = sum(a[j], b[j]);
    }
}

template <class Item>
void add_items(CudaBackend const& on, Tensor const& to, Tensor const& x, std::int64_t count)
{
    launch("add", add_kernel<Item>, on.blocks((count + threads - 1) / threads, resident), threads, 0, on.stream(),
           static_cast<Item*>(to.data), static_cast<Item const*>(x.data), count);
}

} // namespace

void CudaBackend::add(Tensor const& to, Tensor const& x)
{
    check_add(to, x);
    std::int64_t const per_access = 16 / static_cast<std::int64_t>(to.bytes_each);
    auto const flat = [](Tensor const& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; };
    bool const wide = flat(to) && flat(x) && to.size() % per_access == 0;
    if (to.size() == 0) return;
    if (to.element == Element::bf16) {
        if (wide)
            add_items<Pack8>(*this, to, x, to.size() / per_access);
        else
            add_items<__nv_bfloat16>(*this, to, x, to.size());
    } else {
        if (wide)
            add_items<float4>(*this, to, x, to.size() / per_access);
        else
            add_items<float>(*this, to, x, to.size());
    }
}

} // namespace trainfare::kernels
