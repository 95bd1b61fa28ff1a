// SPDX-License-Identifier: Apache-2.0
//
// Quantising to e4m3 on a GPU, in tiles of 128 x 128 so that one read serves both directions. A thread holds 8 x 8
// numbers: it writes codes along rows from registers, and codes along columns through shared memory, where a tile's
// column is 128 bytes in a row. Bytes per element: quantise 2 read, 2.06 written; quantise_blocks 2 and 2;
// transpose_quantised 1.03 and 1.03.
#include "kernels/ops/quantise.cuh"

#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {
namespace {

using namespace cuda;

constexpr int threads = 256, warps = threads / warp_size;
constexpr int side = scale_block;

/// Where a thread's 8 x 8 numbers begin in the matrix, and how many rows and columns of them there are (0 to 8).
struct Corner {
    std::int64_t row, col;
    int rows, cols;
};

__device__ inline int at_most_eight(std::int64_t n) { return static_cast<int>(n < 0 ? 0 : n < 8 ? n : 8); }

__device__ inline unsigned tiles_of(std::int64_t n) { return static_cast<unsigned>((n + side - 1) / side); }

/// Numbers in bf16. A thread asks for eight of a row at a time.
template <bool Wide>
struct Numbers {
    using Eight = Pack8;
    static constexpr int resident = 2; // blocks on an SM that the registers leave room for
    __nv_bfloat16 const* data = nullptr;
    std::int64_t pitch = 0, rows = 0, cols = 0;

    __device__ void load(Corner const& corner, Eight (&held)[8]) const
    {
        __nv_bfloat16 const* const from = data + corner.row * pitch + corner.col;
#pragma unroll
        for (int j = 0; j < 8; ++j) held[j] = load_eight<Wide>(from + j * pitch, j < corner.rows ? corner.cols : 0);
    }
    /// Numbers 2 i and 2 i + 1.
    __device__ static float2 pair(Eight const& eight, int i)
    {
        unsigned const words[4] = {eight.words.x, eight.words.y, eight.words.z, eight.words.w};
        return {__uint_as_float(words[i] << 16), __uint_as_float(words[i] & 0xffff0000U)}; // bf16: upper half of fp32
    }
};

/// Numbers that are quantised already: code x scale.
template <bool Wide>
struct Codes {
    struct Eight {
        uint2 codes;
        float scale;
    };
    static constexpr int resident = Wide ? 3 : 2;
    std::uint8_t const* data = nullptr;
    float const* scales = nullptr;
    std::int64_t rows = 0, cols = 0;

    __device__ void load(Corner const& corner, Eight (&held)[8]) const
    {
        std::uint8_t const* const from = data + corner.row * cols + corner.col;
        float const* const scale = scales + corner.col / side * rows + corner.row;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            held[j] = {};
            if (j >= corner.rows || corner.cols == 0) continue;
            held[j].scale = scale[j];
            if constexpr (Wide) {
                held[j].codes = *reinterpret_cast<uint2 const*>(from + j * cols);
            } else {
#pragma unroll
                for (int i = 0; i < 8; ++i)
                    if (i < corner.cols)
                        (i < 4 ? held[j].codes.x : held[j].codes.y) |= std::uint32_t{from[j * cols + i]}
                                                                       << (8 * (i % 4));
            }
        }
    }
    __device__ static float2 pair(Eight const& eight, int i)
    {
        __nv_fp8x2_e4m3 codes;
        codes.__x = static_cast<__nv_fp8x2_storage_t>((i < 2 ? eight.codes.x : eight.codes.y) >> (16 * (i % 2)));
        auto const two = static_cast<float2>(codes);
        return {two.x * eight.scale, two.y * eight.scale};
    }
};

/// Where codes and scales go; nothing where `values` is null.
struct Out {
    std::uint8_t* values = nullptr;
    float* scales = nullptr;
    std::int64_t scale_pitch = 0;
};

/// Which byte of the shared tile begins the 16 codes of rows [16 piece, 16 piece + 16) of a column. Pieces of a column
/// change places from one group of eight columns to the next, so that the lanes that write one row of each group meet
/// different banks.
__device__ int piece_at(int column, int piece) { return column * side + 16 * (piece ^ (column / 8 % 8)); }

/// A thread's 8 x 8 numbers, as codes along columns, into the shared tile.
template <class From>
__device__ void turn(typename From::Eight const (&held)[8], float const (&reciprocal)[8], int group, int line,
                     std::uint8_t* tile)
{
    std::uint8_t* const to = tile + 8 * (line % 2);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float even[8], odd[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float2 const two = From::pair(held[j], i);
            even[j] = two.x, odd[j] = two.y;
        }
        int const column = 8 * group + 2 * i;
        *reinterpret_cast<uint2*>(to + piece_at(column, line / 2)) = e4m3_codes(even, reciprocal[2 * i]);
        *reinterpret_cast<uint2*>(to + piece_at(column + 1, line / 2)) = e4m3_codes(odd, reciprocal[2 * i + 1]);
    }
}

/// The same for codes that serve both directions.
__device__ inline void turn(uint2 const (&codes)[8], int group, int line, std::uint8_t* tile)
{
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        std::uint32_t column[2] = {};
#pragma unroll
        for (int j = 0; j < 8; ++j)
            column[j / 4] |= ((i < 4 ? codes[j].x : codes[j].y) >> (8 * (i % 4)) & 0xffU) << (8 * (j % 4));
        *reinterpret_cast<uint2*>(tile + piece_at(8 * group + i, line / 2) + 8 * (line % 2)) =
            uint2{column[0], column[1]};
    }
}

/// The shared tile, columns first, to memory: eight lanes write the 128 bytes of a column.
__device__ inline void write_turned(std::uint8_t const* tile, std::uint8_t* to, std::int64_t top, std::int64_t left,
                                    std::int64_t rows, std::int64_t cols, bool wide)
{
#pragma unroll
    for (int k = 0; k < side * side / 16 / threads; ++k) {
        int const n = static_cast<int>(threadIdx.x) + k * threads, column = n / (side / 16), piece = n % (side / 16);
        std::int64_t const first = top + 16 * piece;
        if (left + column >= cols || first >= rows) continue;
        std::uint8_t const* const from = tile + piece_at(column, piece);
        std::uint8_t* const at = to + (left + column) * rows + first;
        if (wide)
            *reinterpret_cast<uint4*>(at) = *reinterpret_cast<uint4 const*>(from);
        else
            for (int i = 0; i < 16 && first + i < rows; ++i) at[i] = from[i];
    }
}

/// Scales along rows, if Rows, and along columns, if there is somewhere to put them. @p wide: of `turned`.
template <template <bool> class From, bool Wide, bool Rows>
__global__ void __launch_bounds__(threads, From<Wide>::resident)
    vectors_kernel(From<Wide> x, Out straight, Out turned, bool wide)
{
    __shared__ alignas(16) std::uint8_t tile[side * side];
    __shared__ float largest_of_warp[warps][side], reciprocals[side];
    int const thread = static_cast<int>(threadIdx.x), group = thread % 16, line = thread / 16; // 8 columns, 8 rows
    unsigned const across = tiles_of(x.cols), tiles = tiles_of(x.rows) * across;
    for (unsigned t = blockIdx.x; t < tiles; t += gridDim.x) {
        std::int64_t const top = std::int64_t{t / across} * side, left = std::int64_t{t % across} * side;
        std::int64_t const row = top + 8 * line, col = left + 8 * group;
        Corner const corner{row, col, at_most_eight(x.rows - row), at_most_eight(x.cols - col)};
        typename From<Wide>::Eight held[8];
        x.load(corner, held);

        float largest[8] = {}, own_scale = 1;
        std::uint8_t* const to = straight.values + row * x.cols + col;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float v[8];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float2 const two = From<Wide>::pair(held[j], i);
                v[2 * i] = two.x, v[2 * i + 1] = two.y;
            }
#pragma unroll
            for (int i = 0; i < 8; ++i) largest[i] = fmaxf(largest[i], fabsf(v[i]));
            if constexpr (Rows) {
                float const scale = block_scale(half_warp_max(largest_size(v)));
                if (group == j) own_scale = scale;
                store_eight<Wide>(to + j * x.cols, e4m3_codes(v, 1.0F / scale), j < corner.rows ? corner.cols : 0);
            }
        }
        if constexpr (Rows)
            if (group < corner.rows) straight.scales[left / side * straight.scale_pitch + row + group] = own_scale;
        if (turned.values == nullptr) continue;

#pragma unroll
        for (int i = 0; i < 8; ++i) {
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(whole_warp, largest[i], 16)); // a warp is two lines
            if (line % 2 == 0) largest_of_warp[line / 2][8 * group + i] = largest[i];
        }
        __syncthreads();
        if (thread < side) {
            float all = 0;
#pragma unroll
            for (int i = 0; i < warps; ++i) all = fmaxf(all, largest_of_warp[i][thread]);
            float const scale = block_scale(all);
            reciprocals[thread] = 1.0F / scale;
            if (left + thread < x.cols) turned.scales[top / side * turned.scale_pitch + left + thread] = scale;
        }
        __syncthreads();
        float reciprocal[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) reciprocal[i] = reciprocals[8 * group + i];
        turn<From<Wide>>(held, reciprocal, group, line, tile);
        __syncthreads();
        write_turned(tile, turned.values, top, left, x.rows, x.cols, wide); // two barriers come before the next turn()
    }
}

/// Entry [line, at] is followed by ones up to a multiple of four, if it is the last of @p count.
__device__ inline void put_block_scale(Out const& out, std::int64_t line, std::int64_t at, std::int64_t count,
                                       float scale)
{
    out.scales[line * out.scale_pitch + at] = scale;
    if (at + 1 == count)
        for (std::int64_t i = count; i < out.scale_pitch; ++i) out.scales[line * out.scale_pitch + i] = 1.0F;
}

/// One scale a tile.
template <bool Wide>
__global__ void __launch_bounds__(threads, Numbers<Wide>::resident)
    blocks_kernel(Numbers<Wide> x, Out straight, Out turned, bool wide)
{
    __shared__ alignas(16) std::uint8_t tile[side * side];
    int const thread = static_cast<int>(threadIdx.x), group = thread % 16, line = thread / 16;
    unsigned const across = tiles_of(x.cols), down = tiles_of(x.rows);
    for (unsigned t = blockIdx.x; t < down * across; t += gridDim.x) {
        std::int64_t const i = t / across, j = t % across, row = i * side + 8 * line, col = j * side + 8 * group;
        Corner const corner{row, col, at_most_eight(x.rows - row), at_most_eight(x.cols - col)};
        Pack8 held[8];
        x.load(corner, held);
        float largest = 0;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            float v[8];
            unpack(held[k], v);
            largest = fmaxf(largest, largest_size(v));
        }
        float const scale = block_scale(block_max(largest)), reciprocal = 1.0F / scale;
        std::uint8_t* const to = straight.values + row * x.cols + col;
        uint2 codes[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            float v[8];
            unpack(held[k], v);
            codes[k] = e4m3_codes(v, reciprocal);
            store_eight<Wide>(to + k * x.cols, codes[k], k < corner.rows ? corner.cols : 0);
        }
        if (thread == 0) put_block_scale(straight, i, j, across, scale);
        if (turned.values == nullptr) continue;
        if (thread == 0) put_block_scale(turned, j, i, down, scale);
        turn(codes, group, line, tile);
        __syncthreads();
        write_turned(tile, turned.values, i * side, j * side, x.rows, x.cols,
                     wide); // block_max's barriers come before the next turn()
    }
}

Out out_of(Operand const& x)
{
    return {static_cast<std::uint8_t*>(x.values.data), static_cast<float*>(x.scales.data), x.scales.cols};
}

bool aligned(Tensor const& t, std::uintptr_t bytes) { return reinterpret_cast<std::uintptr_t>(t.data) % bytes == 0; }

/// Columns of the result can be written 16 codes at a time.
bool wide_turned(Operand const& turned) { return aligned(turned.values, 16) && turned.values.cols % 16 == 0; }

template <bool Wide>
Numbers<Wide> numbers_of(Tensor const& x)
{
    return {static_cast<__nv_bfloat16 const*>(x.data), x.pitch, x.rows, x.cols};
}

template <bool Wide>
Codes<Wide> codes_of(Operand const& x)
{
    return {static_cast<std::uint8_t const*>(x.values.data), static_cast<float const*>(x.scales.data), x.values.rows,
            x.values.cols};
}

template <template <bool> class From, bool Wide>
void start(CudaBackend const& on, char const* name, void (*kernel)(From<Wide>, Out, Out, bool), From<Wide> const& from,
           Out const& straight, Operand const& turned)
{
    launch(name, kernel, on.blocks(blocks_of(from.rows) * blocks_of(from.cols), From<Wide>::resident), threads, 0,
           on.stream(), from, straight, out_of(turned), wide_turned(turned));
}

} // namespace

void CudaBackend::quantise(Tensor const& x, Operand const& row, Operand const& transposed)
{
    check_quantise(x, row, transposed, Scaling::vector128, "quantise");
    if (x.size() == 0) return;
    if (in_packs(x) && aligned(row.values, 8))
        start(*this, "quantise", vectors_kernel<Numbers, true, true>, numbers_of<true>(x), out_of(row), transposed);
    else
        start(*this, "quantise", vectors_kernel<Numbers, false, true>, numbers_of<false>(x), out_of(row), transposed);
}

void CudaBackend::quantise_blocks(Tensor const& w, Operand const& blocks, Operand const& transposed)
{
    check_quantise(w, blocks, transposed, Scaling::block128, "quantise_blocks");
    if (w.size() == 0) return;
    if (in_packs(w) && aligned(blocks.values, 8))
        start(*this, "quantise_blocks", blocks_kernel<true>, numbers_of<true>(w), out_of(blocks), transposed);
    else
        start(*this, "quantise_blocks", blocks_kernel<false>, numbers_of<false>(w), out_of(blocks), transposed);
}

void CudaBackend::transpose_quantised(Operand const& from, Operand const& to)
{
    std::int64_t const rows = from.values.rows, cols = from.values.cols;
    require_quantised(from, Scaling::vector128, rows, cols, "transpose_quantised");
    require_quantised(to, Scaling::vector128, cols, rows, "transpose_quantised");
    if (from.values.size() == 0) return;
    if (cols % 8 == 0 && aligned(from.values, 8))
        start(*this, "transpose_quantised", vectors_kernel<Codes, true, false>, codes_of<true>(from), Out{}, to);
    else
        start(*this, "transpose_quantised", vectors_kernel<Codes, false, false>, codes_of<false>(from), Out{}, to);
}

} // namespace trainfare::kernels
