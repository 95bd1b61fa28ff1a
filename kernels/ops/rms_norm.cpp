// SPDX-License-Identifier: Apache-2.0
//
// Root-mean-square norm (arXiv:1910.07467 eq. 4) on a host. y = x r w with r = 1/sqrt(mean(x^2) + eps): x = (3, 4), w =
// 1, eps = 0 gives r = 1/sqrt(12.5), y = (0.84853, 1.13137). Backward, with n columns and g = d_y w: d_x = r (g - x r^2
// sum(g x) / n), d_w += d_y x r.
#include <cmath>
#include <vector>

#include "kernels/host/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {
namespace {

template <class Real>
Real* row_of(Tensor const& t, std::int64_t row)
{
    return reals<Real>(t) + row * t.pitch;
}

} // namespace

template <class Real>
void HostBackend<Real>::rms_norm(Tensor const& x, Tensor const& weight, float eps, Tensor const& y, Tensor const& rstd)
{
    check_rms_norm(x, weight, y, rstd, "rms_norm");
    Real const* const w = reals<Real>(weight);
    for (std::int64_t row = 0; row < x.rows; ++row) {
        Real const* const in = row_of<Real>(x, row);
        Real* const out = row_of<Real>(y, row);
        double squares = 0;
        for (std::int64_t c = 0; c < x.cols; ++c) squares += static_cast<double>(in[c]) * static_cast<double>(in[c]);
        auto const mean = squares / static_cast<double>(x.cols);
        auto const r = static_cast<Real>(1 / std::sqrt(mean + static_cast<double>(eps)));
        reals<Real>(rstd)[row] = r;
        for (std::int64_t c = 0; c < x.cols; ++c) out[c] = stored<Real>(Element::bf16, in[c] * r * w[c]);
    }
}

template <class Real>
void HostBackend<Real>::add_rms_norm(Tensor const& residual, Tensor const& delta, Tensor const& weight, float eps,
                                     Tensor const& y, Tensor const& rstd)
{
    check_rms_norm(residual, weight, y, rstd, "add_rms_norm");
    require_bf16(delta, residual.rows, residual.cols, "add_rms_norm", "delta is bf16 of the shape of residual");
    for (std::int64_t row = 0; row < residual.rows; ++row) {
        Real* const sum = row_of<Real>(residual, row);
        Real const* const more = row_of<Real>(delta, row);
        for (std::int64_t c = 0; c < residual.cols; ++c) sum[c] = stored<Real>(Element::bf16, sum[c] + more[c]);
    }
    rms_norm(residual, weight, eps, y, rstd);
}

template <class Real>
void HostBackend<Real>::rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                                          Tensor const& d_x, bool accumulate, Tensor const& d_weight)
{
    check_rms_norm_backward(d_y, x, weight, rstd, d_x, d_weight);
    Real const* const w = reals<Real>(weight);
    std::vector<double> d_w(static_cast<std::size_t>(x.cols));
    for (std::int64_t row = 0; row < x.rows; ++row) {
        Real const* const in = row_of<Real>(x, row);
        Real const* const dy = row_of<Real>(d_y, row);
        Real* const out = row_of<Real>(d_x, row);
        Real const r = reals<Real>(rstd)[row];
        double inner = 0;
        for (std::int64_t c = 0; c < x.cols; ++c) {
            inner += static_cast<double>(dy[c] * w[c]) * static_cast<double>(in[c]);
            d_w[static_cast<std::size_t>(c)] += static_cast<double>(dy[c] * in[c] * r);
        }
        Real const pull = r * r * static_cast<Real>(inner / static_cast<double>(x.cols));
        for (std::int64_t c = 0; c < x.cols; ++c) {
            Real const slope = r * (dy[c] * w[c] - in[c] * pull);
            out[c] = stored<Real>(Element::bf16, accumulate ? out[c] + slope : slope);
        }
    }
    for (std::int64_t c = 0; c < x.cols; ++c)
        reals<Real>(d_weight)[c] += static_cast<Real>(d_w[static_cast<std::size_t>(c)]);
}

#define TRAINFARE_INSTANTIATE(Real)                                                                                    \
    template void HostBackend<Real>::rms_norm(Tensor const&, Tensor const&, float, Tensor const&, Tensor const&);      \
    template void HostBackend<Real>::add_rms_norm(Tensor const&, Tensor const&, Tensor const&, float, Tensor const&,   \
                                                  Tensor const&);                                                      \
    template void HostBackend<Real>::rms_norm_backward(Tensor const&, Tensor const&, Tensor const&, Tensor const&,     \
                                                       Tensor const&, bool, Tensor const&);
TRAINFARE_INSTANTIATE(float)
TRAINFARE_INSTANTIATE(double)
#undef TRAINFARE_INSTANTIATE

} // namespace trainfare::kernels
