// SPDX-License-Identifier: Apache-2.0
//
// Quantising and transposing on a host.
#include "kernels/ops/quantise_vectors.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::quantise(Tensor const& x, Operand const& row, Operand const& transposed)
{
    check_quantise(x, row, transposed, Scaling::vector128, "quantise");
    auto const at = [&](std::int64_t r, std::int64_t c) { return reals<Real>(x)[r * x.pitch + c]; };
    quantise_vectors<Real>(at, row);
    if (!transposed.values.empty())
        quantise_vectors<Real>([&](std::int64_t c, std::int64_t r) { return at(r, c); }, transposed);
}

template <class Real>
void HostBackend<Real>::quantise_blocks(Tensor const& w, Operand const& blocks, Operand const& transposed)
{
    check_quantise(w, blocks, transposed, Scaling::block128, "quantise_blocks");
    // Scales beyond the last block, there to make rows of four, are 1 like those of blocks that hold nothing.
    auto const clear = [](Tensor const& scales) { std::fill_n(reals<Real>(scales), scales.size(), Real{1}); };
    clear(blocks.scales);
    bool const both = !transposed.values.empty();
    if (both) clear(transposed.scales);
    for (std::int64_t top = 0; top < w.rows; top += scale_block)
        for (std::int64_t left = 0; left < w.cols; left += scale_block) {
            std::int64_t const bottom = std::min(top + scale_block, w.rows),
                               right = std::min(left + scale_block, w.cols);
            Real largest = 0;
            for (std::int64_t r = top; r < bottom; ++r)
                for (std::int64_t c = left; c < right; ++c)
                    largest = std::fmax(largest, std::fabs(reals<Real>(w)[r * w.pitch + c]));
            Real const scale = block_scale(largest);
            std::int64_t const i = top / scale_block, j = left / scale_block;
            reals<Real>(blocks.scales)[i * blocks.scales.cols + j] = scale;
            if (both) reals<Real>(transposed.scales)[j * transposed.scales.cols + i] = scale;
            for (std::int64_t r = top; r < bottom; ++r)
                for (std::int64_t c = left; c < right; ++c) {
                    Real const code = quantised(reals<Real>(w)[r * w.pitch + c], scale);
                    reals<Real>(blocks.values)[r * w.cols + c] = code;
                    if (both) reals<Real>(transposed.values)[c * w.rows + r] = code;
                }
        }
}

template <class Real>
void HostBackend<Real>::transpose_quantised(Operand const& from, Operand const& to)
{
    std::int64_t const rows = from.values.rows, cols = from.values.cols;
    require_quantised(from, Scaling::vector128, rows, cols, "transpose_quantised");
    require_quantised(to, Scaling::vector128, cols, rows, "transpose_quantised");
    auto const meant = [&](std::int64_t c, std::int64_t r) {
        return reals<Real>(from.values)[r * cols + c] * reals<Real>(from.scales)[c / scale_block * rows + r];
    };
    quantise_vectors<Real>(meant, to);
}

#define TRAINFARE_INSTANTIATE(Real)                                                                                    \
    template void HostBackend<Real>::quantise(Tensor const&, Operand const&, Operand const&);                          \
    template void HostBackend<Real>::quantise_blocks(Tensor const&, Operand const&, Operand const&);                   \
    template void HostBackend<Real>::transpose_quantised(Operand const&, Operand const&);
TRAINFARE_INSTANTIATE(float)
TRAINFARE_INSTANTIATE(double)
#undef TRAINFARE_INSTANTIATE

} // namespace trainfare::kernels
