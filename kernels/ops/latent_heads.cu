// SPDX-License-Identifier: Apache-2.0
//
// Heads of multi-head latent attention on a GPU (what and why: latent_heads.cpp). One kernel a direction; every byte
// moves once. Per row, forward and backward alike: heads x (2 nope + 2 v + 2 rope + rope) bf16 read or written, and the
// shared part. Sums over heads run in a fixed order inside one block.
#include "kernels/ops/rotary.cuh"

#include <algorithm>

#include "kernels/cuda/backend.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 3;
constexpr int in_flight = 4;      // chunks that a thread loads before it stores the first
constexpr int heads_of_item = 32; // forward: heads of a row that a block takes at once
constexpr int max_pairs = max_rotary_dim / 2;

/// Rows of bf16, `pitch` elements apart.
struct Rows {
    __nv_bfloat16* data = nullptr;
    std::int64_t pitch = 0;

    __device__ __nv_bfloat16* at(std::int64_t row, int col) const { return data + row * pitch + col; }
};

Rows rows_of(Tensor const& t) { return {static_cast<__nv_bfloat16*>(t.data), t.pitch}; }

/// Moves the parts of heads [first, first + heads) that do not rotate: kv -> k, v; Back: k, v -> kv.
template <int Width, bool Back>
__device__ void move_parts(LatentHeads const& h, std::int64_t row, int first, int heads, Rows kv, Rows k, Rows v)
{
    unsigned const of_head = static_cast<unsigned>((h.nope + h.v) / Width),
                   all = of_head * static_cast<unsigned>(heads);
    for (unsigned i = threadIdx.x; i < all; i += in_flight * threads) {
        Chunk<Width> held[in_flight];
        __nv_bfloat16* to[in_flight];
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (unsigned const n = i + static_cast<unsigned>(j * threads); n < all) {
                int const head = first + static_cast<int>(n / of_head), col = static_cast<int>(n % of_head) * Width;
                __nv_bfloat16* const joint = kv.at(row, head * (h.nope + h.v) + col);
                __nv_bfloat16* const part =
                    col < h.nope ? k.at(row, head * (h.nope + h.rope) + col) : v.at(row, head * h.v + col - h.nope);
                held[j] = load_chunk<Width>(Back ? part : joint);
                to[j] = Back ? joint : part;
            }
#pragma unroll
        for (int j = 0; j < in_flight; ++j)
            if (i + static_cast<unsigned>(j * threads) < all) store_chunk<Width>(to[j], held[j]);
    }
}

/// Rotates, in place, the last columns of heads [first, first + heads).
template <int Width>
__device__ void rotate_heads(LatentHeads const& h, std::int64_t row, int first, int heads, Rows q, float const* cosine,
                             float const* sine)
{
    unsigned const of_head = static_cast<unsigned>(h.rope / 2 / Width), all = of_head * static_cast<unsigned>(heads);
    for (unsigned i = threadIdx.x; i < all; i += 2 * threads) {
        Chunk<Width> low[2], high[2];
        __nv_bfloat16* at[2];
        int pair[2];
#pragma unroll
        for (int j = 0; j < 2; ++j)
            if (unsigned const n = i + static_cast<unsigned>(j * threads); n < all) {
                pair[j] = static_cast<int>(n % of_head) * Width;
                at[j] = q.at(row, (first + static_cast<int>(n / of_head)) * (h.nope + h.rope) + h.nope + pair[j]);
                low[j] = load_chunk<Width>(at[j]), high[j] = load_chunk<Width>(at[j] + h.rope / 2);
            }
#pragma unroll
        for (int j = 0; j < 2; ++j)
            if (i + static_cast<unsigned>(j * threads) < all) {
                rotate<Width>(low[j], high[j], cosine + pair[j], sine + pair[j]);
                store_chunk<Width>(at[j], low[j]), store_chunk<Width>(at[j] + h.rope / 2, high[j]);
            }
    }
}

/// Shared memory is there twice, used in turn, so that one barrier a round is enough.
template <int Width>
__global__ void __launch_bounds__(threads, resident)
    latent_heads_kernel(LatentHeads h, Turns turns, Rows q, Rows kv, Rows k_rope, Rows k, Rows v, int rows,
                        int items_of_row)
{
    __shared__ float cosines[2][max_pairs], sines[2][max_pairs];
    __shared__ alignas(16) __nv_bfloat16 shared_part[2][max_rotary_dim];
    std::int64_t const items = std::int64_t{rows} * items_of_row;
    int turn = 0;
    for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x, turn = 1 - turn) {
        std::int64_t const row = item / items_of_row;
        int const first = static_cast<int>(item % items_of_row) * heads_of_item,
                  heads = min(heads_of_item, h.heads - first);
        float* const cosine = cosines[turn];
        float* const sine = sines[turn];
        if (int const pair = static_cast<int>(threadIdx.x); pair < h.rope / 2) {
            rotation(static_cast<unsigned>(row) % static_cast<unsigned>(h.seq), turns.of_pair[pair], false,
                     cosine[pair], sine[pair]);
            __nv_bfloat16 low = *k_rope.at(row, pair), high = *k_rope.at(row, pair + h.rope / 2);
            rotate<1>(low, high, cosine + pair, sine + pair);
            shared_part[turn][pair] = low, shared_part[turn][pair + h.rope / 2] = high;
        }
        move_parts<Width, false>(h, row, first, heads, kv, k, v);
        __syncthreads();
        rotate_heads<Width>(h, row, first, heads, q, cosine, sine);
        unsigned const of_head = static_cast<unsigned>(h.rope / Width);
        for (unsigned n = threadIdx.x; n < of_head * static_cast<unsigned>(heads); n += threads) {
            int const head = first + static_cast<int>(n / of_head), col = static_cast<int>(n % of_head) * Width;
            store_chunk<Width>(k.at(row, head * (h.nope + h.rope) + h.nope + col),
                               load_chunk<Width>(shared_part[turn] + col));
        }
    }
}

template <int Width>
__global__ void __launch_bounds__(threads, resident)
    latent_heads_backward_kernel(LatentHeads h, Turns turns, Rows d_q, Rows d_k, Rows d_v, Rows d_kv, Rows d_k_rope,
                                 int rows)
{
    __shared__ float cosines[2][max_pairs], sines[2][max_pairs];
    __shared__ float partial[2][threads]; // [slice][column of the shared part]
    int const slices = threads / h.rope;
    int const slice = static_cast<int>(threadIdx.x) / h.rope, column = static_cast<int>(threadIdx.x) % h.rope;
    int turn = 0;
    for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x, turn = 1 - turn) {
        float* const cosine = cosines[turn];
        float* const sine = sines[turn];
        int const pair = static_cast<int>(threadIdx.x), half = h.rope / 2;
        if (pair < half)
            rotation(static_cast<unsigned>(row) % static_cast<unsigned>(h.seq), turns.of_pair[pair], true, cosine[pair],
                     sine[pair]);
        if (slice < slices) {
            float sum = 0;
#pragma unroll 8
            for (int head = slice; head < h.heads; head += slices)
                sum += __bfloat162float(*d_k.at(row, head * (h.nope + h.rope) + h.nope + column));
            partial[turn][threadIdx.x] = sum;
        }
        move_parts<Width, true>(h, row, 0, h.heads, d_kv, d_k, d_v);
        __syncthreads();
        if (pair < half) {
            float low = 0, high = 0;
            for (int i = 0; i < slices; ++i)
                low += partial[turn][i * h.rope + pair], high += partial[turn][i * h.rope + half + pair];
            *d_k_rope.at(row, pair) = __float2bfloat16_rn(low * cosine[pair] - high * sine[pair]);
            *d_k_rope.at(row, half + pair) = __float2bfloat16_rn(high * cosine[pair] + low * sine[pair]);
        }
        rotate_heads<Width>(h, row, 0, h.heads, d_q, cosine, sine);
    }
}

/// Whether all parts of a head, and all rows, begin at 16-byte boundaries. k_rope is read by single columns.
bool in_packs(LatentHeads const& h, Tensor const& q, Tensor const& kv, Tensor const& k, Tensor const& v)
{
    using kernels::in_packs;
    return h.nope % 8 == 0 && h.rope % 16 == 0 && h.v % 8 == 0 && in_packs(q) && in_packs(kv) && in_packs(k) &&
           in_packs(v);
}

} // namespace

void CudaBackend::latent_heads(LatentHeads const& h, Tensor const& q, Tensor const& kv, Tensor const& k_rope,
                               Tensor const& k, Tensor const& v)
{
    check_latent_heads(h, q, kv, k_rope, k, v, "latent_heads");
    if (q.rows == 0) return;
    int const items_of_row = (h.heads + heads_of_item - 1) / heads_of_item;
    auto* const kernel = in_packs(h, q, kv, k, v) ? latent_heads_kernel<8> : latent_heads_kernel<1>;
    launch("latent_heads", kernel, blocks(q.rows * items_of_row, resident), threads, 0, stream(), h,
           rotary_turns(h.base, h.rope), rows_of(q), rows_of(kv), rows_of(k_rope), rows_of(k), rows_of(v),
           static_cast<int>(q.rows), items_of_row);
}

void CudaBackend::latent_heads_backward(LatentHeads const& h, Tensor const& d_q, Tensor const& d_k, Tensor const& d_v,
                                        Tensor const& d_kv, Tensor const& d_k_rope)
{
    check_latent_heads(h, d_q, d_kv, d_k_rope, d_k, d_v, "latent_heads_backward");
    if (d_q.rows == 0) return;
    auto* const kernel =
        in_packs(h, d_q, d_kv, d_k, d_v) ? latent_heads_backward_kernel<8> : latent_heads_backward_kernel<1>;
    launch("latent_heads_backward", kernel, blocks(d_q.rows, resident), threads, 0, stream(), h,
           rotary_turns(h.base, h.rope), rows_of(d_q), rows_of(d_k), rows_of(d_v), rows_of(d_kv), rows_of(d_k_rope),
           static_cast<int>(d_q.rows));
}

} // namespace trainfare::kernels
