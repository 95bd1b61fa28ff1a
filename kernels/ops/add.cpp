// SPDX-License-Identifier: Apache-2.0
//
// to += x on a host.
#include "kernels/host/backend.hpp"
#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::add(Tensor const& to, Tensor const& x)
{
    check_add(to, x);
    Real* const sum = reals<Real>(to);
    Real const* const more = reals<Real>(x);
    for (std::int64_t i = 0; i < to.size(); ++i) sum[i] = stored<Real>(to.element, sum[i] + more[i]);
}

template void HostBackend<float>::add(Tensor const&, Tensor const&);
template void HostBackend<double>::add(Tensor const&, Tensor const&);

} // namespace trainfare::kernels
