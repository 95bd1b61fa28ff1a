// SPDX-License-Identifier: Apache-2.0
//
// Root-mean-square norm on a GPU (equations in rms_norm.cpp). A block owns a row at a time and keeps it in registers
// between the two passes, while the next row's loads are under way. Bytes per element: rms_norm 2 read, 2 written;
// add_rms_norm 4 and 4; backward 4 and 2, with accumulation 6 and 2. The gradient of the weight stays in registers
// while a block works through its rows; one row of partial sums per block goes to memory, and a second small kernel
// adds those in a fixed order.
#include "kernels/cuda/launch.cuh"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

/// Rows of bf16, `pitch` elements apart.
struct Rows {
    __nv_bfloat16* data = nullptr;
    std::int64_t pitch = 0;

    __device__ __nv_bfloat16* at(unsigned row) const { return data + row * pitch; }
};

Rows rows_of(Tensor const& t) { return {static_cast<__nv_bfloat16*>(t.data), t.pitch}; }

/// A row as a block of Threads holds it: pack number threadIdx.x + i Threads is in a thread's element i.
template <int Threads, int Packs>
struct Row {
    Pack8 pack[Packs] = {};

    __device__ void load(__nv_bfloat16 const* from, int packs)
    {
#pragma unroll
        for (int i = 0; i < Packs; ++i)
            if (place(i) < packs) pack[i] = load_pack(from + 8 * place(i));
    }
    __device__ static int place(int i) { return static_cast<int>(threadIdx.x) + i * Threads; }
};

/// Blocks on an SM at once, out of the threads whose registers fit there at @p per_pack 32-bit registers a pack and
/// some 36 beside.
template <int Threads, int Packs>
constexpr int resident(int per_pack)
{
    constexpr int registers_on_sm = 65536;
    int const threads = std::min(registers_on_sm / (36 + per_pack * Packs), 1536);
    return std::max(threads / Threads, 1);
}

// Registers that hold a pack: a row and the next row; with the residual's change one more; backward two of each and
// eight sums.
constexpr int norm_registers = 9, add_norm_registers = 14, backward_registers = 23;

template <int Threads, int Packs, bool Add>
__global__ void __launch_bounds__(Threads, resident<Threads, Packs>(Add ? add_norm_registers : norm_registers))
    norm_kernel(Rows x, Rows delta, __nv_bfloat16 const* weight, float eps, Rows y, float* rstd, unsigned rows,
                int packs)
{
    using Held = Row<Threads, Packs>;
    float const columns = 8.0F * static_cast<float>(packs);
    Held next, more;
    next.load(x.at(blockIdx.x), packs);
    if constexpr (Add) more.load(delta.at(blockIdx.x), packs);
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        Held held = next;
        float squares = 0;
#pragma unroll
        for (int i = 0; i < Packs; ++i) {
            float v[8];
            unpack(held.pack[i], v);
            if constexpr (Add) {
                float d[8];
                unpack(more.pack[i], d);
#pragma unroll
                for (int j = 0; j < 8; ++j) v[j] += d[j];
                held.pack[i] = pack(v);
                unpack(held.pack[i], v); // the norm is of what was stored
                if (Held::place(i) < packs) store_pack(x.at(row) + 8 * Held::place(i), held.pack[i]);
            }
#pragma unroll
            for (int j = 0; j < 8; ++j) squares += v[j] * v[j];
        }
        if (row + gridDim.x < rows) {
            next.load(x.at(row + gridDim.x), packs);
            if constexpr (Add) more.load(delta.at(row + gridDim.x), packs);
        }
        float const r = rsqrtf(block_sum(squares) / columns + eps);
        if (threadIdx.x == 0) rstd[row] = r;
#pragma unroll
        for (int i = 0; i < Packs; ++i)
            if (Held::place(i) < packs) {
                float v[8], w[8];
                unpack(held.pack[i], v), unpack(load_pack(weight + 8 * Held::place(i)), w);
#pragma unroll
                for (int j = 0; j < 8; ++j) v[j] = v[j] * r * w[j];
                store_pack(y.at(row) + 8 * Held::place(i), pack(v));
            }
    }
}

/// Any width and alignment: a row is read again for the second pass.
template <bool Add>
__global__ void norm_any_kernel(Rows x, Rows delta, __nv_bfloat16 const* weight, float eps, Rows y, float* rstd,
                                unsigned rows, int cols)
{
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        float squares = 0;
        for (int c = static_cast<int>(threadIdx.x); c < cols; c += static_cast<int>(blockDim.x)) {
            if constexpr (Add)
                x.at(row)[c] = __float2bfloat16_rn(__bfloat162float(x.at(row)[c]) + __bfloat162float(delta.at(row)[c]));
            float const v = __bfloat162float(x.at(row)[c]);
            squares += v * v;
        }
        float const r = rsqrtf(block_sum(squares) / static_cast<float>(cols) + eps);
        if (threadIdx.x == 0) rstd[row] = r;
        for (int c = static_cast<int>(threadIdx.x); c < cols; c += static_cast<int>(blockDim.x))
            y.at(row)[c] = __float2bfloat16_rn(__bfloat162float(x.at(row)[c]) * r * __bfloat162float(weight[c]));
    }
}

template <int Threads, int Packs, bool Accumulate>
__global__ void __launch_bounds__(Threads, resident<Threads, Packs>(backward_registers))
    norm_backward_kernel(Rows d_y, Rows x, __nv_bfloat16 const* weight, float const* rstd, Rows d_x, float* partial,
                         unsigned rows, int packs)
{
    using Held = Row<Threads, Packs>;
    float const columns = 8.0F * static_cast<float>(packs);
    constexpr bool ahead = Packs <= 4; // else two rows and the sums do not fit into the registers
    float d_weight[Packs][8] = {};
    Held next_dy, next_x;
    if constexpr (ahead) next_dy.load(d_y.at(blockIdx.x), packs), next_x.load(x.at(blockIdx.x), packs);
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        if constexpr (!ahead) next_dy.load(d_y.at(row), packs), next_x.load(x.at(row), packs);
        Held const dy = next_dy, in = next_x;
        if (ahead && row + gridDim.x < rows)
            next_dy.load(d_y.at(row + gridDim.x), packs), next_x.load(x.at(row + gridDim.x), packs);
        float const r = rstd[row];
        float inner = 0;
#pragma unroll
        for (int i = 0; i < Packs; ++i)
            if (Held::place(i) < packs) {
                float g[8], v[8], w[8];
                unpack(dy.pack[i], g), unpack(in.pack[i], v), unpack(load_pack(weight + 8 * Held::place(i)), w);
#pragma unroll
                for (int j = 0; j < 8; ++j) inner += g[j] * w[j] * v[j], d_weight[i][j] += g[j] * v[j] * r;
            }
        float const pull = r * r * (block_sum(inner) / columns);
#pragma unroll
        for (int i = 0; i < Packs; ++i)
            if (Held::place(i) < packs) {
                float g[8], v[8], w[8];
                unpack(dy.pack[i], g), unpack(in.pack[i], v), unpack(load_pack(weight + 8 * Held::place(i)), w);
                __nv_bfloat16* const to = d_x.at(row) + 8 * Held::place(i);
                if constexpr (Accumulate) {
                    float before[8];
                    unpack(load_pack(to), before);
#pragma unroll
                    for (int j = 0; j < 8; ++j) g[j] = before[j] + r * (g[j] * w[j] - v[j] * pull);
                } else {
#pragma unroll
                    for (int j = 0; j < 8; ++j) g[j] = r * (g[j] * w[j] - v[j] * pull);
                }
                store_pack(to, pack(g));
            }
    }
#pragma unroll
    for (int i = 0; i < Packs; ++i)
        if (Held::place(i) < packs) {
            auto* const to =
                reinterpret_cast<float4*>(partial + 8 * (std::int64_t{blockIdx.x} * packs + Held::place(i)));
            to[0] = {d_weight[i][0], d_weight[i][1], d_weight[i][2], d_weight[i][3]};
            to[1] = {d_weight[i][4], d_weight[i][5], d_weight[i][6], d_weight[i][7]};
        }
}

/// Any width and alignment: partial sums of the weight's gradient are kept in the scratch memory itself.
template <bool Accumulate>
__global__ void norm_backward_any_kernel(Rows d_y, Rows x, __nv_bfloat16 const* weight, float const* rstd, Rows d_x,
                                         float* partial, unsigned rows, int cols)
{
    float* const sums = partial + std::int64_t{blockIdx.x} * cols;
    int const first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    for (int c = first; c < cols; c += step) sums[c] = 0;
    for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
        float const r = rstd[row];
        float inner = 0;
        for (int c = first; c < cols; c += step) {
            float const g = __bfloat162float(d_y.at(row)[c]), v = __bfloat162float(x.at(row)[c]);
            inner += g * __bfloat162float(weight[c]) * v;
            sums[c] += g * v * r;
        }
        float const pull = r * r * (block_sum(inner) / static_cast<float>(cols));
        for (int c = first; c < cols; c += step) {
            float const g = __bfloat162float(d_y.at(row)[c]) * __bfloat162float(weight[c]);
            float const slope = r * (g - __bfloat162float(x.at(row)[c]) * pull);
            float const before = Accumulate ? __bfloat162float(d_x.at(row)[c]) : 0.0F;
            d_x.at(row)[c] = __float2bfloat16_rn(before + slope);
        }
    }
}

constexpr int sum_cols = 32, sum_slices = 8;

/// to[c] += partial[0][c] + partial[1][c] + ..., in an order that depends on @p parts alone.
__global__ void sum_partials_kernel(float const* partial, int parts, int cols, float* to)
{
    __shared__ float slices[sum_slices][sum_cols];
    int const lane = static_cast<int>(threadIdx.x) % sum_cols, slice = static_cast<int>(threadIdx.x) / sum_cols;
    for (std::int64_t first = std::int64_t{blockIdx.x} * sum_cols; first < cols;
         first += std::int64_t{gridDim.x} * sum_cols) {
        std::int64_t const c = first + lane;
        float sum = 0;
        if (c < cols) {
#pragma unroll 8
            for (int part = slice; part < parts; part += sum_slices) sum += partial[std::int64_t{part} * cols + c];
        }
        slices[slice][lane] = sum;
        __syncthreads();
        if (slice == 0 && c < cols) {
            float total = 0;
#pragma unroll
            for (int i = 0; i < sum_slices; ++i) total += slices[i][lane];
            to[c] += total;
        }
        __syncthreads();
    }
}

template <int N>
using Constant = std::integral_constant<int, N>;

/// Calls use(threads, packs per thread) for the smallest block that holds a row of @p packs; false if none does.
template <class Use>
bool by_width(std::int64_t packs, Use const& use)
{
    if (packs <= 64) return use(Constant<64>{}, Constant<1>{}), true;
    if (packs <= 128) return use(Constant<64>{}, Constant<2>{}), true;
    if (packs <= 192) return use(Constant<64>{}, Constant<3>{}), true;
    if (packs <= 256) return use(Constant<128>{}, Constant<2>{}), true;
    if (packs <= 512) return use(Constant<256>{}, Constant<2>{}), true;
    if (packs <= 768) return use(Constant<256>{}, Constant<3>{}), true;
    if (packs <= 896) return use(Constant<224>{}, Constant<4>{}), true; // 7,168 columns: no lane is idle
    if (packs <= 1024) return use(Constant<256>{}, Constant<4>{}), true;
    if (packs <= 1536) return use(Constant<512>{}, Constant<3>{}), true;
    if (packs <= 2048) return use(Constant<512>{}, Constant<4>{}), true;
    if (packs <= 2560) return use(Constant<512>{}, Constant<5>{}), true;
    return false;
}

constexpr int any_threads = 256, any_resident = 4;

/// @p delta is read if Add; else it is x again.
template <bool Add>
void norm(CudaBackend const& on, Tensor const& x, Tensor const& delta, Tensor const& weight, float eps, Tensor const& y,
          Tensor const& rstd, char const* name)
{
    if (x.rows == 0) return;
    auto const* const w = static_cast<__nv_bfloat16 const*>(weight.data);
    auto* const r = static_cast<float*>(rstd.data);
    auto const start = [&](auto kernel, int per_sm, int threads, std::int64_t width) {
        launch(name, kernel, on.blocks(x.rows, per_sm), threads, 0, on.stream(), rows_of(x), rows_of(delta), w, eps,
               rows_of(y), r, static_cast<unsigned>(x.rows), static_cast<int>(width));
    };
    auto const start_held = [&](auto threads, auto packs) {
        constexpr int per_sm = resident<threads(), packs()>(Add ? add_norm_registers : norm_registers);
        start(norm_kernel<threads(), packs(), Add>, per_sm, threads(), x.cols / 8);
    };
    bool const wide = in_packs(x) && in_packs(delta) && in_packs(weight) && in_packs(y);
    bool const done = wide && by_width(x.cols / 8, start_held);
    if (!done) start(norm_any_kernel<Add>, any_resident, any_threads, x.cols);
}

} // namespace

void CudaBackend::rms_norm(Tensor const& x, Tensor const& weight, float eps, Tensor const& y, Tensor const& rstd)
{
    check_rms_norm(x, weight, y, rstd, "rms_norm");
    norm<false>(*this, x, x, weight, eps, y, rstd, "rms_norm");
}

void CudaBackend::add_rms_norm(Tensor const& residual, Tensor const& delta, Tensor const& weight, float eps,
                               Tensor const& y, Tensor const& rstd)
{
    check_rms_norm(residual, weight, y, rstd, "add_rms_norm");
    require_bf16(delta, residual.rows, residual.cols, "add_rms_norm", "delta is bf16 of the shape of residual");
    norm<true>(*this, residual, delta, weight, eps, y, rstd, "add_rms_norm");
}

void CudaBackend::rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                                    Tensor const& d_x, bool accumulate, Tensor const& d_weight)
{
    check_rms_norm_backward(d_y, x, weight, rstd, d_x, d_weight);
    if (x.rows == 0) return;
    auto const cols = static_cast<int>(x.cols);
    auto const start = [&](auto kernel, int per_sm, int threads, int width) {
        // Two rows a block at least, so that partial sums are never more than the activations themselves.
        unsigned const grid = blocks((x.rows + 1) / 2, per_sm);
        auto* const partial =
            static_cast<float*>(scratch(std::size_t{grid} * static_cast<std::size_t>(cols) * sizeof(float)));
        launch("rms_norm_backward", kernel, grid, threads, 0, stream(), rows_of(d_y), rows_of(x),
               static_cast<__nv_bfloat16 const*>(weight.data), static_cast<float const*>(rstd.data), rows_of(d_x),
               partial, static_cast<unsigned>(x.rows), width);
        launch("rms_norm_backward (weight)", sum_partials_kernel, blocks((cols + sum_cols - 1) / sum_cols, 8),
               sum_cols * sum_slices, 0, stream(), static_cast<float const*>(partial), static_cast<int>(grid), cols,
               static_cast<float*>(d_weight.data));
    };
    auto const start_held = [&](auto threads, auto packs) {
        constexpr int per_sm = resident<threads(), packs()>(backward_registers);
        auto* const kernel = accumulate ? norm_backward_kernel<threads(), packs(), true>
                                        : norm_backward_kernel<threads(), packs(), false>;
        start(kernel, per_sm, threads(), cols / 8);
    };
    bool const wide = in_packs(d_y) && in_packs(x) && in_packs(weight) && in_packs(d_x);
    bool const done = wide && by_width(x.cols / 8, start_held);
    if (!done)
        start(accumulate ? norm_backward_any_kernel<true> : norm_backward_any_kernel<false>, any_resident, any_threads,
              cols);
}

} // namespace trainfare::kernels
