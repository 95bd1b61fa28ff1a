// SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding on a host (arXiv:2104.09864 eq. 34, pairs of columns (i, i + dim/2)). One pair, position 1,
// base any: (1, 0) becomes (cos 1, sin 1) = (0.5403, 0.8415).
#include <cmath>
#include <vector>

#include "kernels/host/backend.hpp"
#include "kernels/ops/rotary.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::rope(Rope const& rope, Tensor const& x, bool inverse)
{
    check_rope(rope, x);
    for (std::int64_t row = 0; row < x.rows; ++row)
        for (int pair = 0; pair < rope.dim / 2; ++pair) {
            double const angle =
                static_cast<double>(row % rope.seq) * rotary_frequency(static_cast<double>(rope.base), rope.dim, pair);
            auto const cosine = static_cast<Real>(std::cos(angle));
            auto const sine = static_cast<Real>(inverse ? -std::sin(angle) : std::sin(angle));
            for (int head = 0; head < rope.heads; ++head) {
                Real* const low = reals<Real>(x) + row * x.pitch + std::int64_t{head} * rope.width + rope.first + pair;
                Real* const high = low + rope.dim / 2;
                Real const a = *low, b = *high;
                *low = stored<Real>(Element::bf16, a * cosine - b * sine);
                *high = stored<Real>(Element::bf16, b * cosine + a * sine);
            }
        }
}

template void HostBackend<float>::rope(Rope const&, Tensor const&, bool);
template void HostBackend<double>::rope(Rope const&, Tensor const&, bool);

} // namespace trainfare::kernels
