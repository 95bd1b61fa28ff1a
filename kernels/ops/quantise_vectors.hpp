// SPDX-License-Identifier: Apache-2.0
//
// Quantising on a host: numbers of a block share the scale max|x|/448, and codes are e4m3(x (1/scale)). A GPU computes
// scale and reciprocal in fp32 by the same expressions (quantise.cuh), so the codes agree. Block maximum 7: scale
// 0.015625, and 7 has code 448.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/host/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {

/// `ref` does not scale: it keeps the numbers. The smallest normal float is the smallest scale, else the reciprocal
/// were infinite.
template <class Real>
Real block_scale(Real largest)
{
    if (std::is_same_v<Real, double> || !(largest > 0)) return 1;
    return std::max(largest / Real{448}, static_cast<Real>(std::numeric_limits<float>::min()));
}

template <class Real>
Real quantised(Real x, Real scale)
{
    return stored<Real>(Element::e4m3, x * (Real{1} / scale));
}

/// Fills a vector128 operand with the numbers x(row, col).
template <class Real, class X>
void quantise_vectors(X const& x, Operand const& to)
{
    std::int64_t const rows = to.values.rows, cols = to.values.cols;
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t first = 0; first < cols; first += scale_block) {
            std::int64_t const end = std::min(first + scale_block, cols);
            Real largest = 0;
            for (std::int64_t c = first; c < end; ++c) largest = std::fmax(largest, std::fabs(x(row, c)));
            Real const scale = block_scale(largest);
            reals<Real>(to.scales)[first / scale_block * rows + row] = scale;
            for (std::int64_t c = first; c < end; ++c)
                reals<Real>(to.values)[row * cols + c] = quantised(x(row, c), scale);
        }
}

} // namespace trainfare::kernels
