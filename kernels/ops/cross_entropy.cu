// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy on a GPU, in place: every logit is read and written once, 4 bytes each in bf16, and memory is the
// limit. A block takes a row. The first pass keeps what it reads in shared memory, as far as that reaches (bf16:
// 106,496 of 129,280 logits); the rest of the row comes from L2 for the second pass. A thread meets the same logits in
// both passes, so nobody waits for the copy.
#include "kernels/cuda/launch.cuh"

#include <algorithm>
#include <limits>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/cross_entropy.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 1024;                   // one block on an SM
constexpr std::int64_t kept_bytes = 208 * 1024; // of a row, in shared memory (an SM has 227 KiB for a block)
constexpr int in_flight = 4;                    // loads that a thread starts before it needs the first
constexpr float least = -3.402823466e38F;
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// What a thread moves at once: 16 bytes, or one number where rows are not whole 16-byte accesses.
template <class Item>
struct Access;
template <>
struct Access<Pack8> {
    static constexpr int width = 8;
    static __device__ void read(Pack8 const& item, float (&x)[8]) { unpack(item, x); }
    static __device__ Pack8 written(float const (&x)[8]) { return pack(x); }
};
template <>
struct Access<__nv_bfloat16> {
    static constexpr int width = 1;
    static __device__ void read(__nv_bfloat16 item, float (&x)[1]) { x[0] = __bfloat162float(item); }
    static __device__ __nv_bfloat16 written(float const (&x)[1]) { return __float2bfloat16_rn(x[0]); }
};
template <>
struct Access<float4> {
    static constexpr int width = 4;
    static __device__ void read(float4 item, float (&x)[4])
    {
        x[0] = item.x, x[1] = item.y, x[2] = item.z, x[3] = item.w;
    }
    static __device__ float4 written(float const (&x)[4]) { return make_float4(x[0], x[1], x[2], x[3]); }
};
template <>
struct Access<float> {
    static constexpr int width = 1;
    static __device__ void read(float item, float (&x)[1]) { x[0] = item; }
    static __device__ float written(float const (&x)[1]) { return x[0]; }
};

__device__ float as_float(float x) { return x; }
__device__ float as_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// sum = sum of exp(x - top) of what was seen, top its greatest.
struct Running {
    float top = least, sum = 0;
};

template <int Count>
__device__ void see(Running& seen, float const (&x)[Count])
{
    float top = seen.top;
#pragma unroll
    for (int c = 0; c < Count; ++c) top = fmaxf(top, x[c]);
    float sum = seen.sum * __expf(seen.top - top);
#pragma unroll
    for (int c = 0; c < Count; ++c) sum += __expf(x[c] - top);
    seen.top = top, seen.sum = sum;
}

template <class Item, class Number>
__global__ void __launch_bounds__(threads, 1)
    cross_entropy_kernel(Number* logits, int const* targets, float grad_scale, float* loss, std::int64_t rows,
                         std::int64_t cols, std::int64_t kept_items)
{
    constexpr int width = Access<Item>::width;
    Item* const kept = dynamic_shared<Item>();
    std::int64_t const items = cols / width;
    std::int64_t const me = threadIdx.x;
    for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        Item* const line = reinterpret_cast<Item*>(logits + row * cols);
        int const target = targets[row];
        if (target < 0 || target >= cols) {
            for (std::int64_t i = me; i < items; i += threads) line[i] = Access<Item>::written({});
            if (me == 0) loss[row] = target == -1 ? 0.0F : not_a_number;
            continue;
        }

        float const target_logit = as_float(logits[row * cols + target]); // before anybody overwrites it
        Running seen;
        for (std::int64_t first = me; first < items; first += in_flight * threads) {
            Item item[in_flight];
#pragma unroll
            for (int j = 0; j < in_flight; ++j)
                if (first + j * threads < items) item[j] = line[first + j * threads];
#pragma unroll
            for (int j = 0; j < in_flight; ++j) {
                std::int64_t const i = first + j * threads;
                if (i >= items) continue;
                if (i < kept_items) kept[i] = item[j];
                float x[width];
                Access<Item>::read(item[j], x);
                see(seen, x);
            }
        }
        float const top = block_max(seen.top);
        float const sum = block_sum(seen.sum * __expf(seen.top - top));
        if (me == 0) loss[row] = logf(sum) + (top - target_logit);

        float const factor = grad_scale / sum;
        for (std::int64_t i = me; i < items; i += threads) {
            Item item; // not ?:, which would make one load from who knows which memory
            if (i < kept_items)
                item = kept[i];
            else
                item = line[i];
            float x[width];
            Access<Item>::read(item, x);
#pragma unroll
            for (int c = 0; c < width; ++c)
                x[c] = __expf(x[c] - top) * factor - (i * width + c == target ? grad_scale : 0.0F);
            line[i] = Access<Item>::written(x);
        }
    }
}

template <class Item, class Number>
void run(CudaBackend const& on, Tensor const& logits, Tensor const& targets, float grad_scale, Tensor const& loss)
{
    constexpr auto bytes = static_cast<std::int64_t>(sizeof(Item));
    std::int64_t const kept_items = std::min(kept_bytes / bytes, logits.cols / Access<Item>::width);
    launch("cross_entropy", cross_entropy_kernel<Item, Number>, on.blocks(logits.rows, 1), threads,
           static_cast<std::size_t>(kept_items * bytes), on.stream(), static_cast<Number*>(logits.data),
           static_cast<int const*>(targets.data), grad_scale, static_cast<float*>(loss.data), logits.rows, logits.cols,
           kept_items);
}

} // namespace

void CudaBackend::cross_entropy(Tensor const& logits, Tensor const& targets, float grad_scale, Tensor const& loss)
{
    check_cross_entropy(logits, targets, loss);
    if (logits.rows == 0) return;
    bool const wide = in_wide_accesses(logits);
    if (logits.element == Element::bf16) {
        if (wide)
            run<Pack8, __nv_bfloat16>(*this, logits, targets, grad_scale, loss);
        else
            run<__nv_bfloat16, __nv_bfloat16>(*this, logits, targets, grad_scale, loss);
    } else {
        if (wide)
            run<float4, float>(*this, logits, targets, grad_scale, loss);
        else
            run<float, float>(*this, logits, targets, grad_scale, loss);
    }
}

} // namespace trainfare::kernels
