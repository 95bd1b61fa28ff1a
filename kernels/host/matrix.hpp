// SPDX-License-Identifier: Apache-2.0
//
// The one matrix product behind the host back-end's gemm, grouped_gemm and attention: both inputs are copied into
// narrow panels, so that the innermost loops run over small constant sizes and the compiler keeps a tile of the result
// in vector registers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace trainfare::kernels::host {

/// Numbers of a matrix that lie `row` elements apart downwards and `col` elements apart sideways.
template <class Real>
struct View {
    Real const* data = nullptr;
    std::int64_t row = 0, col = 1;

    [[nodiscard]] View transposed() const { return {data, col, row}; }
};

/// Panels of Width rows, zeros below the last: element (i, p) is at [i / Width][p][i % Width].
template <int Width, class Real>
std::vector<Real> panels(View<Real> from, std::int64_t rows, std::int64_t depth)
{
    std::vector<Real> out(static_cast<std::size_t>((rows + Width - 1) / Width * Width * depth));
    for (std::int64_t i = 0; i < rows; ++i) {
        Real* const to = out.data() + i / Width * Width * depth + i % Width;
        for (std::int64_t p = 0; p < depth; ++p) to[p * Width] = from.data[i * from.row + p * from.col];
    }
    return out;
}

/// Calls store(c[i, j], sum over p of a[i, p] b[p, j]) once for every element of c[m, n]; sums run in the order of p.
template <class Real, class Store>
void multiply(View<Real> a, View<Real> b, std::int64_t m, std::int64_t n, std::int64_t depth, Real* c,
              std::int64_t c_pitch, Store const& store)
{
    constexpr int tall = 4, wide = 32 / static_cast<int>(sizeof(Real)); // 8 of 16 SSE registers hold the tile
    std::vector<Real> const left = panels<tall>(a, m, depth), right = panels<wide>(b.transposed(), n, depth);
    for (std::int64_t j = 0; j < n; j += wide)
        for (std::int64_t i = 0; i < m; i += tall) {
            Real const* const x = left.data() + i * depth;
            Real const* const y = right.data() + j * depth;
            Real sum[tall][wide] = {};
            for (std::int64_t p = 0; p < depth; ++p)
                for (int r = 0; r < tall; ++r)
                    for (int s = 0; s < wide; ++s) sum[r][s] += x[p * tall + r] * y[p * wide + s];
            for (int r = 0; r < std::min<std::int64_t>(tall, m - i); ++r)
                for (int s = 0; s < std::min<std::int64_t>(wide, n - j); ++s)
                    store(c[(i + r) * c_pitch + j + s], sum[r][s]);
        }
}

} // namespace trainfare::kernels::host
