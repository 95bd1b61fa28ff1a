// SPDX-License-Identifier: Apache-2.0
//
// Rows to experts and back on a host: gathering by source, the weighted sum of a token's rows, and its derivative.
#include "kernels/ops/permute.hpp"

#include <algorithm>
#include <vector>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {
namespace {

template <class Number>
void gather(Number const* x, std::int64_t x_rows, std::int64_t cols, Tensor const& source, int divide, Number* y)
{
    for (std::int64_t p = 0; p < source.size(); ++p) {
        std::int64_t const from = ints(source)[p] < 0 ? -1 : ints(source)[p] / divide;
        require(from < x_rows, "gather_rows", "a source is not a row of x");
        if (from < 0)
            std::fill_n(y + p * cols, cols, Number{0});
        else
            std::copy_n(x + from * cols, cols, y + p * cols);
    }
}

} // namespace

template <class Real>
void HostBackend<Real>::gather_rows(Operand const& x, Tensor const& source, int divide, Operand const& y)
{
    check_gather_rows(x, source, divide, y);
    std::int64_t const x_rows = x.values.rows, cols = x.values.cols;
    if (x.values.element == Element::i32)
        gather(ints(x.values), x_rows, cols, source, divide, ints(y.values));
    else
        gather(reals<Real>(x.values), x_rows, cols, source, divide, reals<Real>(y.values));
    if (x.scaling == Scaling::none) return;
    for (std::int64_t block = 0; block < x.scales.rows; ++block)
        for (std::int64_t p = 0; p < source.size(); ++p) {
            std::int64_t const from = ints(source)[p];
            reals<Real>(y.scales)[block * source.size() + p] =
                from < 0 ? Real{1} : reals<Real>(x.scales)[block * x_rows + from / divide];
        }
}

template <class Real>
void HostBackend<Real>::combine_rows(Tensor const& rows, Tensor const& position, Tensor const& weights, int k,
                                     Tensor const& y)
{
    check_combine_rows(rows, position, weights, k, y);
    std::vector<Real> sum(static_cast<std::size_t>(y.cols));
    for (std::int64_t t = 0; t < y.rows; ++t) {
        std::fill(sum.begin(), sum.end(), Real{0});
        for (std::int64_t i = t * k; i < (t + 1) * k; ++i) {
            std::int64_t const p = ints(position)[i];
            require(p < rows.rows, "combine_rows", "a position is not a row");
            if (p < 0) continue;
            Real const weight = weights.empty() ? Real{1} : reals<Real>(weights)[i];
            Real const* const row = reals<Real>(rows.row_range(p, 1));
            for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += weight * row[c];
        }
        std::transform(sum.begin(), sum.end(), reals<Real>(y.row_range(t, 1)),
                       [](Real x) { return stored<Real>(Element::bf16, x); });
    }
}

template <class Real>
void HostBackend<Real>::combine_rows_backward(Tensor const& d_y, Tensor const& rows, Tensor const& position,
                                              Tensor const& weights, int k, Tensor const& d_rows,
                                              Tensor const& d_weights)
{
    check_combine_rows_backward(d_y, rows, position, weights, k, d_rows, d_weights);
    std::fill_n(reals<Real>(d_rows), d_rows.size(), Real{0});
    std::vector<bool> taken(static_cast<std::size_t>(d_rows.rows), false);
    for (std::int64_t i = 0; i < position.size(); ++i) {
        std::int64_t const p = ints(position)[i];
        require(p < d_rows.rows, "combine_rows_backward", "a position is not a row");
        if (!d_weights.empty()) reals<Real>(d_weights)[i] = 0;
        if (p < 0) continue;
        require(!taken[static_cast<std::size_t>(p)], "combine_rows_backward", "a row belongs to two positions");
        taken[static_cast<std::size_t>(p)] = true;
        Real const weight = weights.empty() ? Real{1} : reals<Real>(weights)[i];
        Real const* const slope = reals<Real>(d_y.row_range(i / k, 1));
        Real* const d_row = reals<Real>(d_rows.row_range(p, 1));
        for (std::int64_t c = 0; c < d_y.cols; ++c) d_row[c] = stored<Real>(Element::bf16, weight * slope[c]);
        if (d_weights.empty()) continue;
        Real const* const row = reals<Real>(rows.row_range(p, 1));
        double product = 0;
        for (std::int64_t c = 0; c < d_y.cols; ++c)
            product += static_cast<double>(slope[c]) * static_cast<double>(row[c]);
        reals<Real>(d_weights)[i] = static_cast<Real>(product);
    }
}

template void HostBackend<float>::gather_rows(Operand const&, Tensor const&, int, Operand const&);
template void HostBackend<double>::gather_rows(Operand const&, Tensor const&, int, Operand const&);
template void HostBackend<float>::combine_rows(Tensor const&, Tensor const&, Tensor const&, int, Tensor const&);
template void HostBackend<double>::combine_rows(Tensor const&, Tensor const&, Tensor const&, int, Tensor const&);
template void HostBackend<float>::combine_rows_backward(Tensor const&, Tensor const&, Tensor const&, Tensor const&, int,
                                                        Tensor const&, Tensor const&);
template void HostBackend<double>::combine_rows_backward(Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                                         int, Tensor const&, Tensor const&);

} // namespace trainfare::kernels
