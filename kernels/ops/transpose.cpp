// SPDX-License-Identifier: Apache-2.0
//
// Scales of quantised rows lie column by column; on their way between ranks they must lie row by row. On a host.
#include "kernels/ops/transpose.hpp"

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::transpose(Tensor const& from, Tensor const& to)
{
    check_transpose(from, to);
    for (std::int64_t r = 0; r < from.rows; ++r)
        for (std::int64_t c = 0; c < from.cols; ++c)
            reals<Real>(to)[c * from.rows + r] = reals<Real>(from)[r * from.cols + c];
}

template void HostBackend<float>::transpose(Tensor const&, Tensor const&);
template void HostBackend<double>::transpose(Tensor const&, Tensor const&);

} // namespace trainfare::kernels
