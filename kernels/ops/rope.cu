// SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding on a GPU. Per rotated bf16: 2 bytes read, 2 written. A thread keeps the sines and cosines
// of its columns for all heads of a row that it rotates.
#include "kernels/ops/rotary.cuh"

#include <algorithm>

#include "kernels/cuda/backend.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, resident = 4;
constexpr int in_flight = 2; // heads that a thread loads before it needs the first

/// How a block's threads share the work: `lanes` of them rotate the pairs of a head, for heads_at_once heads of
/// rows_at_once rows.
struct Share {
    int lanes = 1, heads_at_once = 1, rows_at_once = 1;
};

Share share_of(Rope const& rope, int width)
{
    Share s;
    s.lanes = rope.dim / 2 / width;
    s.heads_at_once = std::min(rope.heads, threads / s.lanes);
    s.rows_at_once = threads / (s.lanes * s.heads_at_once);
    return s;
}

template <int Width>
__global__ void __launch_bounds__(threads, resident)
    rope_kernel(Rope rope, Share share, Turns turns, bool inverse, __nv_bfloat16* x, std::int64_t pitch, int rows)
{
    int const lane = static_cast<int>(threadIdx.x) % share.lanes, slot = static_cast<int>(threadIdx.x) / share.lanes;
    int const first_head = slot % share.heads_at_once, first_row = slot / share.heads_at_once;
    if (first_row >= share.rows_at_once) return;
    std::int64_t const step = std::int64_t{gridDim.x} * share.rows_at_once;
    for (std::int64_t row = std::int64_t{blockIdx.x} * share.rows_at_once + first_row; row < rows; row += step) {
        float cosine[Width], sine[Width];
        unsigned const position = static_cast<unsigned>(row) % static_cast<unsigned>(rope.seq);
#pragma unroll
        for (int i = 0; i < Width; ++i)
            rotation(position, turns.of_pair[lane * Width + i], inverse, cosine[i], sine[i]);
        __nv_bfloat16* const columns = x + row * pitch + rope.first + lane * Width;
        for (int head = first_head; head < rope.heads; head += in_flight * share.heads_at_once) {
            Chunk<Width> low[in_flight], high[in_flight];
#pragma unroll
            for (int j = 0; j < in_flight; ++j)
                if (int const h = head + j * share.heads_at_once; h < rope.heads) {
                    low[j] = load_chunk<Width>(columns + std::int64_t{h} * rope.width);
                    high[j] = load_chunk<Width>(columns + std::int64_t{h} * rope.width + rope.dim / 2);
                }
#pragma unroll
            for (int j = 0; j < in_flight; ++j)
                if (int const h = head + j * share.heads_at_once; h < rope.heads) {
                    rotate<Width>(low[j], high[j], cosine, sine);
                    store_chunk<Width>(columns + std::int64_t{h} * rope.width, low[j]);
                    store_chunk<Width>(columns + std::int64_t{h} * rope.width + rope.dim / 2, high[j]);
                }
        }
    }
}

template <int Width>
void rotate_rows(CudaBackend const& on, Rope const& rope, Tensor const& x, bool inverse)
{
    Share const share = share_of(rope, Width);
    launch("rope", rope_kernel<Width>, on.blocks((x.rows + share.rows_at_once - 1) / share.rows_at_once, resident),
           threads, 0, on.stream(), rope, share, rotary_turns(rope.base, rope.dim), inverse,
           static_cast<__nv_bfloat16*>(x.data), x.pitch, static_cast<int>(x.rows));
}

} // namespace

void CudaBackend::rope(Rope const& rope, Tensor const& x, bool inverse)
{
    check_rope(rope, x);
    if (x.rows == 0) return;
    bool const wide = in_packs(x) && rope.first % 8 == 0 && rope.dim % 16 == 0 && rope.width % 8 == 0;
    if (wide)
        rotate_rows<8>(*this, rope, x, inverse);
    else
        rotate_rows<1>(*this, rope, x, inverse);
}

} // namespace trainfare::kernels
