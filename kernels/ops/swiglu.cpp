// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU (arXiv:2002.05202 eq. 6) on a host: y = silu(g) u with silu(g) = g s, s = 1/(1 + e^-g). g = 1, u = 2: y
// = 1.46212. Backward: d_g = d_y u s (1 + g (1 - s)), d_u = d_y g s.
#include <cmath>

#include "kernels/ops/quantise_vectors.hpp"

namespace trainfare::kernels {
namespace {

template <class Real>
Real sigmoid(Real x)
{
    return Real{1} / (Real{1} + std::exp(-x));
}

template <class Real>
Real activation(Tensor const& gate_up, std::int64_t row, std::int64_t col)
{
    Real const* const gate = reals<Real>(gate_up) + row * gate_up.cols + col;
    return *gate * sigmoid(*gate) * gate[gate_up.cols / 2];
}

} // namespace

template <class Real>
void HostBackend<Real>::swiglu(Tensor const& gate_up, Tensor const& y)
{
    check_swiglu_half(y, "swiglu");
    check_swiglu(gate_up, y.rows, y.cols, "swiglu");
    for (std::int64_t row = 0; row < y.rows; ++row)
        for (std::int64_t col = 0; col < y.cols; ++col)
            reals<Real>(y)[row * y.cols + col] = stored<Real>(Element::bf16, activation<Real>(gate_up, row, col));
}

template <class Real>
void HostBackend<Real>::swiglu_quantise(Tensor const& gate_up, Operand const& y)
{
    check_swiglu(gate_up, y.values.rows, y.values.cols, "swiglu_quantise");
    require_quantised(y, Scaling::vector128, y.values.rows, y.values.cols, "swiglu_quantise");
    quantise_vectors<Real>([&](std::int64_t row, std::int64_t col) { return activation<Real>(gate_up, row, col); }, y);
}

template <class Real>
void HostBackend<Real>::swiglu_backward(Tensor const& d_y, Tensor const& gate_up, Tensor const& d_gate_up)
{
    check_swiglu_half(d_y, "swiglu_backward");
    check_swiglu(gate_up, d_y.rows, d_y.cols, "swiglu_backward");
    check_swiglu(d_gate_up, d_y.rows, d_y.cols, "swiglu_backward");
    for (std::int64_t row = 0; row < d_y.rows; ++row)
        for (std::int64_t col = 0; col < d_y.cols; ++col) {
            std::int64_t const gate = row * gate_up.cols + col, up = gate + d_y.cols;
            Real const g = reals<Real>(gate_up)[gate], u = reals<Real>(gate_up)[up], s = sigmoid(g);
            Real const dy = reals<Real>(d_y)[row * d_y.cols + col];
            reals<Real>(d_gate_up)[gate] = stored<Real>(Element::bf16, dy * u * s * (Real{1} + g * (Real{1} - s)));
            reals<Real>(d_gate_up)[up] = stored<Real>(Element::bf16, dy * g * s);
        }
}

#define TRAINFARE_INSTANTIATE(Real)                                                                                    \
    template void HostBackend<Real>::swiglu(Tensor const&, Tensor const&);                                             \
    template void HostBackend<Real>::swiglu_quantise(Tensor const&, Operand const&);                                   \
    template void HostBackend<Real>::swiglu_backward(Tensor const&, Tensor const&, Tensor const&);
TRAINFARE_INSTANTIATE(float)
TRAINFARE_INSTANTIATE(double)
#undef TRAINFARE_INSTANTIATE

} // namespace trainfare::kernels
