// SPDX-License-Identifier: Apache-2.0
//
// Sums and the scale of gradient clipping (Pascanu, Mikolov and Bengio, arXiv:1211.5063 s3.2) on a host. A norm of 2
// under a limit of 1 gives 1/2.
#include "kernels/ops/reduce.hpp"

#include <cmath>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::sum(Tensor const& x, Tensor const& out, bool squares)
{
    check_sum(x, out);
    double total = 0;
    for (std::int64_t i = 0; i < x.size(); ++i) {
        auto const value = static_cast<double>(reals<Real>(x)[i]);
        total += squares ? value * value : value;
    }
    *reals<Real>(out) += static_cast<Real>(total);
}

template <class Real>
void HostBackend<Real>::clip_scale(Tensor const& sum_of_squares, float limit, Tensor const& out)
{
    check_clip_scale(sum_of_squares, out);
    Real const scale = static_cast<Real>(limit) / std::sqrt(*reals<Real>(sum_of_squares));
    *reals<Real>(out) = scale > 1 ? 1 : scale; // NaN stays NaN: a broken gradient must be seen
}

template void HostBackend<float>::sum(Tensor const&, Tensor const&, bool);
template void HostBackend<double>::sum(Tensor const&, Tensor const&, bool);
template void HostBackend<float>::clip_scale(Tensor const&, float, Tensor const&);
template void HostBackend<double>::clip_scale(Tensor const&, float, Tensor const&);

} // namespace trainfare::kernels
