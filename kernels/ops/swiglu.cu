// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU on a GPU (equations in swiglu.cpp). Bytes per element of y: forward 4 read, 2 written; with quantising 4
// and 1.03; backward 6 and 4. The exponential and the division take about a third of the instructions an H100 can issue
// while it moves those bytes.
#include "kernels/ops/quantise.cuh"
#include "kernels/ops/rotary.cuh"

#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 4;
constexpr int in_flight = 2; // chunks of each input that a thread loads before it needs the first

__device__ float sigmoid(float x) { return 1.0F / (1.0F + __expf(-x)); }

/// Packs are below 2^31, so their row comes from a 32-bit division; single columns may be more.
template <int Width>
using Index = std::conditional_t<Width == 8, std::uint32_t, std::uint64_t>;

/// Where chunk @p i of the [rows, chunks] chunks of y has its gate; its up lies y's width further on.
template <int Width>
__device__ std::int64_t gate_of(Index<Width> i, Index<Width> chunks)
{
    auto const row = static_cast<std::int64_t>(i / chunks), chunk = static_cast<std::int64_t>(i % chunks);
    return (row * 2 * static_cast<std::int64_t>(chunks) + chunk) * Width;
}

template <int Width>
__global__ void __launch_bounds__(threads, resident)
    swiglu_kernel(__nv_bfloat16 const* gate_up, __nv_bfloat16* y, Index<Width> chunks, Index<Width> all)
{
    Index<Width> const to_up = chunks * Width; // in 64 bits nvcc splits the second store into four
    Index<Width> const stride = Index<Width>{gridDim.x} * threads;
    for (Index<Width> i = Index<Width>{blockIdx.x} * threads + threadIdx.x; i < all; i += in_flight * stride) {
        Chunk<Width> gate[in_flight], up[in_flight];
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (Index<Width> const n = i + j * stride; n < all) {
                __nv_bfloat16 const* const from = gate_up + gate_of<Width>(n, chunks);
                gate[j] = load_chunk<Width>(from), up[j] = load_chunk<Width>(from + to_up);
            }
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (Index<Width> const n = i + j * stride; n < all) {
                float g[Width], u[Width];
                unpack(gate[j], g), unpack(up[j], u);
#pragma unroll
                for (int e = 0; e < Width; ++e) g[e] = g[e] * sigmoid(g[e]) * u[e];
                store_chunk<Width>(y + static_cast<std::int64_t>(n) * Width, pack(g));
            }
    }
}

template <int Width>
__global__ void __launch_bounds__(threads, resident)
    swiglu_backward_kernel(__nv_bfloat16 const* d_y, __nv_bfloat16 const* gate_up, __nv_bfloat16* d_gate_up,
                           Index<Width> chunks, Index<Width> all)
{
    Index<Width> const to_up = chunks * Width; // in 64 bits nvcc splits the second store into four
    Index<Width> const stride = Index<Width>{gridDim.x} * threads;
    for (Index<Width> i = Index<Width>{blockIdx.x} * threads + threadIdx.x; i < all; i += in_flight * stride) {
        Chunk<Width> gate[in_flight], up[in_flight], slope[in_flight];
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (Index<Width> const n = i + j * stride; n < all) {
                __nv_bfloat16 const* const from = gate_up + gate_of<Width>(n, chunks);
                gate[j] = load_chunk<Width>(from), up[j] = load_chunk<Width>(from + to_up);
                slope[j] = load_chunk<Width>(d_y + static_cast<std::int64_t>(n) * Width);
            }
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (Index<Width> const n = i + j * stride; n < all) {
                float g[Width], u[Width], dy[Width];
                unpack(gate[j], g), unpack(up[j], u), unpack(slope[j], dy);
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    float const s = sigmoid(g[e]), d_g = dy[e] * u[e] * s * (1.0F + g[e] * (1.0F - s));
                    u[e] = dy[e] * g[e] * s, g[e] = d_g;
                }
                Chunk<Width> const d_gate = pack(g), d_up = pack(u);
                __nv_bfloat16* const to = d_gate_up + gate_of<Width>(n, chunks);
                store_chunk<Width>(to, d_gate), store_chunk<Width>(to + to_up, d_up);
            }
    }
}

/// Half a warp makes the 128 numbers that share a scale, eight a lane.
template <bool Wide>
__global__ void __launch_bounds__(threads, resident)
    swiglu_quantise_kernel(__nv_bfloat16 const* gate_up, std::uint8_t* values, float* scales, std::int64_t rows,
                           std::int64_t cols)
{
    constexpr int lanes = 16, halves = threads / lanes;
    int const lane = static_cast<int>(threadIdx.x) % lanes, half = static_cast<int>(threadIdx.x) / lanes;
    auto const blocks = static_cast<std::uint32_t>((cols + scale_block - 1) / scale_block);
    std::int64_t const all = rows * blocks, stride = std::int64_t{gridDim.x} * halves;
    for (std::int64_t first = std::int64_t{blockIdx.x} * halves; first < all; first += in_flight * stride) {
        Pack8 gate[in_flight], up[in_flight];
        std::int64_t row[in_flight], col[in_flight];
        int count[in_flight]; // columns that this lane has
#pragma unroll
        for (int j = 0; j < in_flight; ++j) {
            std::int64_t const n = first + half + j * stride;
            row[j] = static_cast<std::int64_t>(static_cast<std::uint32_t>(n) / blocks);
            col[j] = static_cast<std::int64_t>(static_cast<std::uint32_t>(n) % blocks) * scale_block + 8 * lane;
            count[j] = n < all ? static_cast<int>(min(cols - col[j], std::int64_t{8})) : 0;
            __nv_bfloat16 const* const from = gate_up + row[j] * 2 * cols + col[j];
            gate[j] = load_eight<Wide>(from, count[j]), up[j] = load_eight<Wide>(from + cols, count[j]);
        }
#pragma unroll
        for (int j = 0; j < in_flight; ++j) {
            float g[8], u[8];
            unpack(gate[j], g), unpack(up[j], u);
#pragma unroll
            for (int e = 0; e < 8; ++e) g[e] = g[e] * sigmoid(g[e]) * u[e];
            float const scale = block_scale(half_warp_max(largest_size(g)));
            store_eight<Wide>(values + row[j] * cols + col[j], e4m3_codes(g, 1.0F / scale), count[j]);
            if (lane == 0 && count[j] > 0) scales[col[j] / scale_block * rows + row[j]] = scale;
        }
    }
}

/// Rows are whole 16-byte packs from 16-byte boundaries, in gate, up and y alike.
bool wide(Tensor const& gate_up, Tensor const& y) { return in_packs(gate_up) && in_packs(y) && y.cols % 8 == 0; }

template <int Width, class Kernel, class... Pointers>
void start(CudaBackend const& on, char const* name, Kernel kernel, std::int64_t size, std::int64_t cols,
           Pointers... pointers)
{
    auto const all = size / Width;
    launch(name, kernel, on.blocks((all + threads - 1) / threads, resident), threads, 0, on.stream(), pointers...,
           static_cast<Index<Width>>(cols / Width), static_cast<Index<Width>>(all));
}

__nv_bfloat16* numbers(Tensor const& t) { return static_cast<__nv_bfloat16*>(t.data); }

} // namespace

void CudaBackend::swiglu(Tensor const& gate_up, Tensor const& y)
{
    check_swiglu_half(y, "swiglu");
    check_swiglu(gate_up, y.rows, y.cols, "swiglu");
    if (y.size() == 0) return;
    if (wide(gate_up, y))
        start<8>(*this, "swiglu", swiglu_kernel<8>, y.size(), y.cols, numbers(gate_up), numbers(y));
    else
        start<1>(*this, "swiglu", swiglu_kernel<1>, y.size(), y.cols, numbers(gate_up), numbers(y));
}

void CudaBackend::swiglu_quantise(Tensor const& gate_up, Operand const& y)
{
    std::int64_t const rows = y.values.rows, cols = y.values.cols;
    check_swiglu(gate_up, rows, cols, "swiglu_quantise");
    require_quantised(y, Scaling::vector128, rows, cols, "swiglu_quantise");
    if (y.values.size() == 0) return;
    bool const wide = in_packs(gate_up) && cols % 8 == 0 && reinterpret_cast<std::uintptr_t>(y.values.data) % 8 == 0;
    constexpr int halves = threads / 16;
    auto* const kernel = wide ? swiglu_quantise_kernel<true> : swiglu_quantise_kernel<false>;
    launch("swiglu_quantise", kernel, blocks((rows * blocks_of(cols) + halves - 1) / halves, resident), threads, 0,
           stream(), numbers(gate_up), static_cast<std::uint8_t*>(y.values.data), static_cast<float*>(y.scales.data),
           rows, cols);
}

void CudaBackend::swiglu_backward(Tensor const& d_y, Tensor const& gate_up, Tensor const& d_gate_up)
{
    check_swiglu_half(d_y, "swiglu_backward");
    check_swiglu(gate_up, d_y.rows, d_y.cols, "swiglu_backward");
    check_swiglu(d_gate_up, d_y.rows, d_y.cols, "swiglu_backward");
    if (d_y.size() == 0) return;
    if (wide(gate_up, d_y) && in_packs(d_gate_up))
        start<8>(*this, "swiglu_backward", swiglu_backward_kernel<8>, d_y.size(), d_y.cols, numbers(d_y),
                 numbers(gate_up), numbers(d_gate_up));
    else
        start<1>(*this, "swiglu_backward", swiglu_backward_kernel<1>, d_y.size(), d_y.cols, numbers(d_y),
                 numbers(gate_up), numbers(d_gate_up));
}

} // namespace trainfare::kernels
