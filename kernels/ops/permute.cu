// SPDX-License-Identifier: Apache-2.0
//
// Rows to experts and back on a GPU. Memory is the limit of all three, at (for T tokens of k rows, R = T k, bf16):
//   gather_rows            2 h T (each token is read k times, mostly from L2) + 2 h R written
//   combine_rows           2 h R + 2 h T
//   combine_rows_backward  2 h T + 2 h R + 2 h R: a token's gradient is read once for all its rows
#include "kernels/cuda/launch.cuh"

#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/permute.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

// --- gather -------------------------------------------------------------------------------------------------------

constexpr int gather_threads = 256, gather_resident = 4;

/// A row is @p items of type Item, moved by @p lanes neighbouring threads (a power of two).
template <class Item>
__global__ void __launch_bounds__(gather_threads, gather_resident)
    gather_kernel(Item const* __restrict__ x, std::int64_t x_rows, std::int64_t items, int const* __restrict__ source,
                  std::int64_t rows, int divide, int lanes, Item* __restrict__ y)
{
    int const lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    std::int64_t const first = (static_cast<std::int64_t>(blockIdx.x) * gather_threads + threadIdx.x) / lanes;
    std::int64_t const step = static_cast<std::int64_t>(gridDim.x) * (gather_threads / lanes);
    for (std::int64_t row = first; row < rows; row += step) {
        int const from = source[row] < 0 ? -1 : source[row] / divide;
        Item* const out = y + row * items;
        if (from < 0 || from >= x_rows) {
            for (std::int64_t i = lane; i < items; i += lanes) out[i] = Item{};
            continue;
        }
        Item const* const in = x + from * items;
#pragma unroll 4
        for (std::int64_t i = lane; i < items; i += lanes) out[i] = in[i];
    }
}

template <class Item>
void gather_items(CudaBackend const& on, Tensor const& x, Tensor const& source, int divide, Tensor const& y)
{
    std::int64_t const items =
        x.cols * static_cast<std::int64_t>(x.bytes_each) / static_cast<std::int64_t>(sizeof(Item));
    int lanes = 1;
    while (lanes < warp_size && lanes < items) lanes *= 2;
    std::int64_t const rows_a_block = gather_threads / lanes;
    launch("gather_rows", gather_kernel<Item>, on.blocks((y.rows + rows_a_block - 1) / rows_a_block, gather_resident),
           gather_threads, 0, on.stream(), static_cast<Item const*>(x.data), x.rows, items,
           static_cast<int const*>(source.data), y.rows, divide, lanes, static_cast<Item*>(y.data));
}

/// Neighbouring threads take neighbouring rows, since a row's scales lie far apart. A block an item: 256 rows of one
/// line of scales.
__global__ void __launch_bounds__(gather_threads)
    gather_scales_kernel(float const* __restrict__ x, std::int64_t x_rows, std::int64_t lines,
                         int const* __restrict__ source, std::int64_t rows, int divide, float* __restrict__ y)
{
    std::int64_t const pieces = (rows + gather_threads - 1) / gather_threads;
    for (std::int64_t item = blockIdx.x; item < pieces * lines; item += gridDim.x) {
        std::int64_t const line = item / pieces, row = item % pieces * gather_threads + threadIdx.x;
        if (row >= rows) continue;
        int const from = source[row] < 0 ? -1 : source[row] / divide;
        y[line * rows + row] = from < 0 || from >= x_rows ? 1.0F : x[line * x_rows + from];
    }
}

// --- combine ------------------------------------------------------------------------------------------------------

constexpr int combine_threads = 128, combine_resident = 8;
constexpr int combine_warps = combine_threads / warp_size;
constexpr int in_flight = 4; // rows of a token that a thread loads before it uses the first

/// What a thread reads and writes at once: eight columns, or one where rows are not whole 16-byte accesses.
template <int Width>
using Item = std::conditional_t<Width == 8, Pack8, __nv_bfloat16>;

__device__ void to_floats(Pack8 const& from, float (&x)[8]) { unpack(from, x); }
__device__ void to_floats(__nv_bfloat16 from, float (&x)[1]) { x[0] = __bfloat162float(from); }
__device__ void from_floats(float const (&x)[8], Pack8& to) { to = pack(x); }
__device__ void from_floats(float const (&x)[1], __nv_bfloat16& to) { to = __float2bfloat16_rn(x[0]); }

/// Where a token's rows are, for all threads of the block. Row -1: none.
struct Places {
    std::int64_t row[combine_max_k];
    float weight[combine_max_k];
};

/// Begins and ends with a barrier.
__device__ void load_places(Places& places, int const* position, float const* weights, std::int64_t token, int k,
                            std::int64_t rows)
{
    auto const j = static_cast<int>(threadIdx.x);
    __syncthreads();
    if (j < k) {
        int const row = position[token * k + j];
        places.row[j] = row < rows ? row : -1;
        places.weight[j] = weights != nullptr ? weights[token * k + j] : 1.0F;
    }
    __syncthreads();
}

/// A block a token.
template <int Width>
__global__ void __launch_bounds__(combine_threads, combine_resident)
    combine_kernel(Item<Width> const* __restrict__ rows, std::int64_t row_count, std::int64_t items,
                   int const* __restrict__ position, float const* __restrict__ weights, std::int64_t tokens, int k,
                   Item<Width>* __restrict__ y)
{
    __shared__ Places places;
    for (std::int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
        load_places(places, position, weights, token, k, row_count);
        for (std::int64_t i = threadIdx.x; i < items; i += combine_threads) {
            float sum[Width] = {};
            for (int j0 = 0; j0 < k; j0 += in_flight) {
                Item<Width> part[in_flight] = {};
#pragma unroll
                for (int j = 0; j < in_flight; ++j)
                    if (j0 + j < k && places.row[j0 + j] >= 0) part[j] = rows[places.row[j0 + j] * items + i];
#pragma unroll
                for (int j = 0; j < in_flight; ++j) {
                    if (j0 + j >= k || places.row[j0 + j] < 0) continue;
                    float x[Width];
                    to_floats(part[j], x);
#pragma unroll
                    for (int c = 0; c < Width; ++c) sum[c] += places.weight[j0 + j] * x[c];
                }
            }
            Item<Width> out;
            from_floats(sum, out);
            y[token * items + i] = out;
        }
    }
}

/// A block a token: its rows' gradients, marks that they are written, and the products for d_weights (null: none
/// wanted).
template <int Width>
__global__ void __launch_bounds__(combine_threads, combine_resident)
    combine_backward_kernel(Item<Width> const* __restrict__ d_y, Item<Width> const* __restrict__ rows,
                            std::int64_t row_count, std::int64_t items, int const* __restrict__ position,
                            float const* __restrict__ weights, std::int64_t tokens, int k,
                            Item<Width>* __restrict__ d_rows, float* __restrict__ d_weights, int* __restrict__ written)
{
    __shared__ Places places;
    __shared__ float products[combine_warps][combine_max_k];
    int const lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
    for (std::int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
        load_places(places, position, weights, token, k, row_count);
        for (int j0 = 0; j0 < k; j0 += in_flight) {
            float product[in_flight] = {};
            for (std::int64_t i = threadIdx.x; i < items; i += combine_threads) {
                Item<Width> const slope_item = d_y[token * items + i];
                Item<Width> part[in_flight] = {};
#pragma unroll
                for (int j = 0; j < in_flight; ++j)
                    if (d_weights != nullptr && j0 + j < k && places.row[j0 + j] >= 0)
                        part[j] = rows[places.row[j0 + j] * items + i];
                float slope[Width];
                to_floats(slope_item, slope);
#pragma unroll
                for (int j = 0; j < in_flight; ++j) {
                    if (j0 + j >= k || places.row[j0 + j] < 0) continue;
                    float x[Width], d_row[Width];
                    to_floats(part[j], x);
#pragma unroll
                    for (int c = 0; c < Width; ++c) {
                        product[j] += slope[c] * x[c];
                        d_row[c] = places.weight[j0 + j] * slope[c];
                    }
                    Item<Width> out;
                    from_floats(d_row, out);
                    d_rows[places.row[j0 + j] * items + i] = out;
                }
            }
#pragma unroll
            for (int j = 0; j < in_flight; ++j) {
                float const all = warp_reduce(product[j], Add{});
                if (lane == 0 && j0 + j < k) products[warp][j0 + j] = all;
            }
        }
        __syncthreads();
        if (auto const j = static_cast<int>(threadIdx.x); j < k) {
            float sum = 0;
            for (int w = 0; w < combine_warps; ++w) sum += products[w][j];
            if (d_weights != nullptr) d_weights[token * k + j] = sum;
            if (places.row[j] >= 0) written[places.row[j]] = 1;
        }
    }
}

/// Zeros where no token wrote. A warp a row.
template <int Width>
__global__ void __launch_bounds__(combine_threads)
    zero_rows_kernel(int const* written, std::int64_t rows, std::int64_t items, Item<Width>* d_rows)
{
    auto const lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
    std::int64_t const step = static_cast<std::int64_t>(gridDim.x) * combine_warps;
    for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * combine_warps + warp; row < rows; row += step)
        if (written[row] == 0)
            for (std::int64_t i = lane; i < items; i += warp_size) d_rows[row * items + i] = Item<Width>{};
}

template <int Width>
void combine(CudaBackend const& on, Tensor const& rows, Tensor const& position, Tensor const& weights, int k,
             Tensor const& y)
{
    launch("combine_rows", combine_kernel<Width>, on.blocks(y.rows, combine_resident), combine_threads, 0, on.stream(),
           static_cast<Item<Width> const*>(rows.data), rows.rows, y.cols / Width,
           static_cast<int const*>(position.data), static_cast<float const*>(weights.data), y.rows, k,
           static_cast<Item<Width>*>(y.data));
}

template <int Width>
void combine_backward(CudaBackend const& on, Tensor const& d_y, Tensor const& rows, Tensor const& position,
                      Tensor const& weights, int k, Tensor const& d_rows, Tensor const& d_weights,
                      Tensor const& written)
{
    std::int64_t const items = d_y.cols / Width;
    auto* const to = static_cast<Item<Width>*>(d_rows.data);
    auto* const marks = static_cast<int*>(written.data);
    if (d_y.rows > 0)
        launch("combine_rows_backward", combine_backward_kernel<Width>, on.blocks(d_y.rows, combine_resident),
               combine_threads, 0, on.stream(), static_cast<Item<Width> const*>(d_y.data),
               static_cast<Item<Width> const*>(rows.data), d_rows.rows, items, static_cast<int const*>(position.data),
               static_cast<float const*>(weights.data), d_y.rows, k, to, static_cast<float*>(d_weights.data), marks);
    launch("combine_rows_backward: zeros", zero_rows_kernel<Width>,
           on.blocks((d_rows.rows + combine_warps - 1) / combine_warps, combine_resident), combine_threads, 0,
           on.stream(), marks, d_rows.rows, items, to);
}

} // namespace

void CudaBackend::gather_rows(Operand const& x, Tensor const& source, int divide, Operand const& y)
{
    check_gather_rows(x, source, divide, y);
    if (y.values.size() == 0) return;
    if (in_wide_accesses(x.values) && in_wide_accesses(y.values))
        gather_items<uint4>(*this, x.values, source, divide, y.values);
    else if (x.values.bytes_each == 4)
        gather_items<std::uint32_t>(*this, x.values, source, divide, y.values);
    else if (x.values.bytes_each == 2)
        gather_items<std::uint16_t>(*this, x.values, source, divide, y.values);
    else
        gather_items<std::uint8_t>(*this, x.values, source, divide, y.values);
    if (x.scaling == Scaling::none) return;
    std::int64_t const pieces = (source.size() + gather_threads - 1) / gather_threads;
    launch("gather_rows: scales", gather_scales_kernel, blocks(pieces * x.scales.rows, 2 * gather_resident),
           gather_threads, 0, stream(), static_cast<float const*>(x.scales.data), x.values.rows, x.scales.rows,
           static_cast<int const*>(source.data), source.size(), divide, static_cast<float*>(y.scales.data));
}

void CudaBackend::combine_rows(Tensor const& rows, Tensor const& position, Tensor const& weights, int k,
                               Tensor const& y)
{
    check_combine_rows(rows, position, weights, k, y);
    if (y.size() == 0) return;
    if (in_wide_accesses(rows) && in_wide_accesses(y))
        combine<8>(*this, rows, position, weights, k, y);
    else
        combine<1>(*this, rows, position, weights, k, y);
}

void CudaBackend::combine_rows_backward(Tensor const& d_y, Tensor const& rows, Tensor const& position,
                                        Tensor const& weights, int k, Tensor const& d_rows, Tensor const& d_weights)
{
    check_combine_rows_backward(d_y, rows, position, weights, k, d_rows, d_weights);
    if (!d_weights.empty() && d_rows.size() == 0) fill(d_weights, 0);
    if (d_rows.size() == 0) return;
    Tensor written;
    written.element = Element::i32, written.bytes_each = sizeof(int);
    written.rows = 1, written.cols = written.pitch = d_rows.rows;
    written.data = scratch(static_cast<std::size_t>(d_rows.rows) * sizeof(int));
    fill(written, 0);
    bool const wide = in_wide_accesses(d_y) && in_wide_accesses(d_rows) && (rows.empty() || in_wide_accesses(rows));
    if (wide)
        combine_backward<8>(*this, d_y, rows, position, weights, k, d_rows, d_weights, written);
    else
        combine_backward<1>(*this, d_y, rows, position, weights, k, d_rows, d_weights, written);
}

} // namespace trainfare::kernels
