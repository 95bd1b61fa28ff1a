// SPDX-License-Identifier: Apache-2.0
//
// AdamW on a GPU, four parameters a thread. Moves 30 bytes a parameter (22 with bf16 moments); memory is the limit.
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/adamw.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 4; // blocks on an SM

__device__ float4 load4(float const* p) { return *reinterpret_cast<float4 const*>(p); }
__device__ void store4(float* p, float4 x) { *reinterpret_cast<float4*>(p) = x; }
__device__ float load1(float const* p) { return *p; }
__device__ void store1(float* p, float x) { *p = x; }

__device__ float4 load4(__nv_bfloat16 const* p)
{
    uint2 const words = *reinterpret_cast<uint2 const*>(p);
    return make_float4(__uint_as_float(words.x << 16U), __uint_as_float(words.x & 0xffff0000U),
                       __uint_as_float(words.y << 16U),
                       __uint_as_float(words.y & 0xffff0000U)); // a bf16 is a float's upper half
}
__device__ void store4(__nv_bfloat16* p, float4 x)
{
    __nv_bfloat162 const low = __floats2bfloat162_rn(x.x, x.y), high = __floats2bfloat162_rn(x.z, x.w);
    uint2 words;
    memcpy(&words.x, &low, sizeof low), memcpy(&words.y, &high, sizeof high);
    *reinterpret_cast<uint2*>(p) = words;
}
__device__ float load1(__nv_bfloat16 const* p) { return __bfloat162float(*p); }
__device__ void store1(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }

/// base^n for n >= 0, in double, so that 1 - beta^n keeps its digits.
__device__ double power(double base, int n)
{
    double result = 1;
    for (; n > 0; n >>= 1, base *= base)
        if ((n & 1) != 0) result *= base;
    return result;
}

struct Update {
    AdamW how;
    float scale, inverse1, inverse2; // of the bias corrections 1 - beta^step

    /// With fused operations spelt out, so that a parameter gets the same bits alone and among four.
    __device__ void operator()(float& w, float& m, float& v, float grad) const
    {
        float const g = grad * scale;
        m = fmaf(how.beta1, m, (1 - how.beta1) * g);
        v = fmaf(how.beta2, v, (1 - how.beta2) * g * g);
        w = fmaf(-how.lr, fmaf(how.weight_decay, w, m * inverse1 / (sqrtf(v * inverse2) + how.eps)), w);
    }
};

/// @p quads times four parameters, then the rest one by one.
template <class Moment>
__global__ void __launch_bounds__(threads, resident)
    adamw_kernel(AdamW how, int const* step, float const* grad_scale, float* __restrict__ master,
                 Moment* __restrict__ moment1, Moment* __restrict__ moment2, float const* __restrict__ grad,
                 __nv_bfloat16* __restrict__ weights, std::int64_t count, std::int64_t quads)
{
    __shared__ float inverse[2];
    if (threadIdx.x == 0) {
        inverse[0] = static_cast<float>(1 / (1 - power(static_cast<double>(how.beta1), *step)));
        inverse[1] = static_cast<float>(1 / (1 - power(static_cast<double>(how.beta2), *step)));
    }
    __syncthreads();
    Update const update{how, *grad_scale, inverse[0], inverse[1]};
    std::int64_t const me = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
    std::int64_t const stride = static_cast<std::int64_t>(gridDim.x) * threads;
    for (std::int64_t i = 4 * me; i < 4 * quads; i += 4 * stride) {
        float4 const g = load4(grad + i);
        float4 w = load4(master + i), m = load4(moment1 + i), v = load4(moment2 + i);
        update(w.x, m.x, v.x, g.x);
        update(w.y, m.y, v.y, g.y);
        update(w.z, m.z, v.z, g.z);
        update(w.w, m.w, v.w, g.w);
        store4(master + i, w), store4(moment1 + i, m), store4(moment2 + i, v), store4(weights + i, w);
    }
    for (std::int64_t i = 4 * quads + me; i < count; i += stride) {
        float w = master[i], m = load1(moment1 + i), v = load1(moment2 + i);
        update(w, m, v, grad[i]);
        master[i] = w;
        store1(moment1 + i, m), store1(moment2 + i, v), store1(weights + i, w);
    }
}

__global__ void increment_kernel(int* counter) { ++*counter; }

template <class Moment>
void run(CudaBackend const& on, AdamW const& how, Tensor const& step, Tensor const& grad_scale, Tensor const& master,
         Tensor const& moment1, Tensor const& moment2, Tensor const& grad, Tensor const& weights)
{
    auto const fours = [](Tensor const& t) {
        return reinterpret_cast<std::uintptr_t>(t.data) % (4 * t.bytes_each) == 0;
    };
    bool const aligned = fours(master) && fours(moment1) && fours(moment2) && fours(grad) && fours(weights);
    std::int64_t const quads = aligned ? master.size() / 4 : 0;
    launch("adamw", adamw_kernel<Moment>, on.blocks((master.size() / 4 + threads) / threads, resident), threads, 0,
           on.stream(), how, static_cast<int const*>(step.data), static_cast<float const*>(grad_scale.data),
           static_cast<float*>(master.data), static_cast<Moment*>(moment1.data), static_cast<Moment*>(moment2.data),
           static_cast<float const*>(grad.data), static_cast<__nv_bfloat16*>(weights.data), master.size(), quads);
}

} // namespace

void CudaBackend::adamw(AdamW const& how, Tensor const& step, Tensor const& grad_scale, Tensor const& master,
                        Tensor const& moment1, Tensor const& moment2, Tensor const& grad, Tensor const& weights)
{
    check_adamw(step, grad_scale, master, moment1, moment2, grad, weights);
    if (master.size() == 0) return;
    if (moment1.element == Element::f32)
        run<float>(*this, how, step, grad_scale, master, moment1, moment2, grad, weights);
    else
        run<__nv_bfloat16>(*this, how, step, grad_scale, master, moment1, moment2, grad, weights);
}

void CudaBackend::increment(Tensor const& counter)
{
    check_increment(counter);
    launch("increment", increment_kernel, 1, 1, 0, stream(), static_cast<int*>(counter.data));
}

} // namespace trainfare::kernels
