// SPDX-License-Identifier: Apache-2.0
//
// Sums on a GPU in two stages, in an order that depends on the number of elements only: neither on the GPU nor on the
// SMs in use. Reads 4 bytes an element; memory is the limit.
#include "kernels/cuda/launch.cuh"

#include <algorithm>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/reduce.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 8; // blocks on an SM
constexpr int in_flight = 4;               // 16-byte loads that a thread starts before it needs the first
constexpr int most_parts = 1024;           // threads of the second stage

__device__ float term(float x, bool squares) { return squares ? x * x : x; }

/// Part p is elements [p width, (p + 1) width); width is a multiple of 4 unless x is not aligned (quads false).
__global__ void __launch_bounds__(threads, resident) part_kernel(float const* x, std::int64_t count, std::int64_t width,
                                                                 int parts, bool quads, bool squares, float* partial)
{
    for (int part = static_cast<int>(blockIdx.x); part < parts; part += static_cast<int>(gridDim.x)) {
        std::int64_t const first = part * width, end = first + width < count ? first + width : count;
        std::int64_t const whole = quads ? (end - first) / 4 : 0;
        auto const* const four = reinterpret_cast<float4 const*>(x + first);
        float sum[in_flight] = {};
        for (std::int64_t i = threadIdx.x; i < whole; i += in_flight * threads) {
            float4 v[in_flight];
#pragma unroll
            for (int j = 0; j < in_flight; ++j)
                v[j] = i + j * threads < whole ? four[i + j * threads] : make_float4(0, 0, 0, 0);
#pragma unroll
            for (int j = 0; j < in_flight; ++j)
                sum[j] +=
                    (term(v[j].x, squares) + term(v[j].y, squares)) + (term(v[j].z, squares) + term(v[j].w, squares));
        }
        for (std::int64_t i = first + 4 * whole + threadIdx.x; i < end; i += threads) sum[0] += term(x[i], squares);
        float const total = block_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
        if (threadIdx.x == 0) partial[part] = total;
    }
}

/// One block.
__global__ void __launch_bounds__(most_parts) total_kernel(float const* partial, int parts, float* out)
{
    auto const me = static_cast<int>(threadIdx.x);
    float const total = block_sum(me < parts ? partial[me] : 0.0F);
    if (me == 0) *out += total;
}

__global__ void clip_scale_kernel(float const* sum_of_squares, float limit, float* out)
{
    float const scale = limit / sqrtf(*sum_of_squares);
    *out = scale > 1 ? 1 : scale; // NaN stays NaN: a broken gradient must be seen
}

} // namespace

void CudaBackend::sum(Tensor const& x, Tensor const& out, bool squares)
{
    check_sum(x, out);
    std::int64_t const count = x.size();
    if (count == 0) return;
    constexpr std::int64_t step = 4 * in_flight * threads; // what a block reads at once
    std::int64_t const steps = (count + step - 1) / step;
    std::int64_t const width = (steps + most_parts - 1) / most_parts * step;
    auto const parts = static_cast<int>((count + width - 1) / width);
    auto* const partial = static_cast<float*>(scratch(most_parts * sizeof(float)));
    bool const quads = reinterpret_cast<std::uintptr_t>(x.data) % sizeof(float4) == 0;
    launch("sum: parts", part_kernel, blocks(parts, resident), threads, 0, stream(), static_cast<float const*>(x.data),
           count, width, parts, quads, squares, partial);
    launch("sum: total", total_kernel, 1, most_parts, 0, stream(), partial, parts, static_cast<float*>(out.data));
}

void CudaBackend::clip_scale(Tensor const& sum_of_squares, float limit, Tensor const& out)
{
    check_clip_scale(sum_of_squares, out);
    launch("clip_scale", clip_scale_kernel, 1, 1, 0, stream(), static_cast<float const*>(sum_of_squares.data), limit,
           static_cast<float*>(out.data));
}

} // namespace trainfare::kernels
