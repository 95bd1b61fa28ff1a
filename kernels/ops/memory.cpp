// SPDX-License-Identifier: Apache-2.0
//
// Constants, copies and random numbers on a host.
//
// The generator of normal(): splitmix64 (Steele, Lea and Flood, OOPSLA 2014) run from a state that splitmix64 makes of
// the seed; element i takes output i. Its bits 40 to 63 and 8 to 31 are two uniform numbers u, v of 24 bits, exact in
// float; Box and Muller (1958) make a normal number of them: sqrt(-2 ln u) cos(2 pi v) with u in (0, 1], v in [0, 1),
// so none is beyond 5.77 deviations. splitmix64's first output from state 0 is 0xe220a8397b1dcdaf.
#include "kernels/ops/memory.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {
namespace {

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15U; // splitmix64's step

std::uint64_t mixed(std::uint64_t z)
{
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
}

template <class Real>
Real normal_number(std::uint64_t state, std::uint64_t i)
{
    std::uint64_t const bits = mixed(state + (i + 1) * golden);
    Real const u = static_cast<Real>((bits >> 40U) + 1) * static_cast<Real>(0x1p-24);
    Real const v = static_cast<Real>(bits >> 8U & 0xffffffU) * static_cast<Real>(0x1p-24);
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi_v<Real> * v);
}

} // namespace

template <class Real>
void HostBackend<Real>::fill(Tensor const& t, float value)
{
    check_fill(t);
    if (t.element == Element::i32)
        std::fill_n(ints(t), t.size(), static_cast<std::int32_t>(value));
    else
        std::fill_n(reals<Real>(t), t.size(), stored<Real>(t.element, static_cast<Real>(value)));
}

template <class Real>
void HostBackend<Real>::copy(Tensor const& to, Tensor const& from)
{
    check_copy(to, from);
    for (std::int64_t row = 0; row < to.rows; ++row) {
        Tensor const t = to.row_range(row, 1), f = from.row_range(row, 1);
        if (to.element == Element::i32)
            std::copy_n(ints(f), f.cols, ints(t));
        else
            std::transform(reals<Real>(f), reals<Real>(f) + f.cols, reals<Real>(t),
                           [&](Real x) { return stored<Real>(to.element, x); });
    }
}

template <class Real>
void HostBackend<Real>::normal(Tensor const& t, float mean, float deviation, std::uint64_t seed)
{
    check_normal(t);
    std::uint64_t const state = mixed(seed + golden);
    for (std::int64_t i = 0; i < t.size(); ++i) {
        Real const x = static_cast<Real>(mean) +
                       static_cast<Real>(deviation) * normal_number<Real>(state, static_cast<std::uint64_t>(i));
        reals<Real>(t)[i] = stored<Real>(t.element, x);
    }
}

template void HostBackend<float>::fill(Tensor const&, float);
template void HostBackend<double>::fill(Tensor const&, float);
template void HostBackend<float>::copy(Tensor const&, Tensor const&);
template void HostBackend<double>::copy(Tensor const&, Tensor const&);
template void HostBackend<float>::normal(Tensor const&, float, float, std::uint64_t);
template void HostBackend<double>::normal(Tensor const&, float, float, std::uint64_t);

} // namespace trainfare::kernels
