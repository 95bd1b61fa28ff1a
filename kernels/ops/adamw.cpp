// SPDX-License-Identifier: Apache-2.0
//
// AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2) on a host. With weight 1, gradient 0.5, lr 0.1, weight
// decay 0.1 and eps 0 the first step goes to 1 - 0.1 (1 + 0.1 x 1) = 0.89: bias correction makes the first direction
// the gradient's sign.
#include "kernels/ops/adamw.hpp"

#include <cmath>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::adamw(AdamW const& how, Tensor const& step, Tensor const& grad_scale, Tensor const& master,
                              Tensor const& moment1, Tensor const& moment2, Tensor const& grad, Tensor const& weights)
{
    check_adamw(step, grad_scale, master, moment1, moment2, grad, weights);
    auto const beta1 = static_cast<Real>(how.beta1), beta2 = static_cast<Real>(how.beta2);
    auto const lr = static_cast<Real>(how.lr), eps = static_cast<Real>(how.eps),
               decay = static_cast<Real>(how.weight_decay);
    auto const correction = [&](float beta) {
        return static_cast<Real>(1 - std::pow(static_cast<double>(beta), *ints(step)));
    };
    Real const correction1 = correction(how.beta1), correction2 = correction(how.beta2);
    Real const scale = *reals<Real>(grad_scale);
    for (std::int64_t i = 0; i < master.size(); ++i) {
        Real const g = reals<Real>(grad)[i] * scale;
        Real const m = beta1 * reals<Real>(moment1)[i] + (1 - beta1) * g;
        Real const v = beta2 * reals<Real>(moment2)[i] + (1 - beta2) * g * g;
        Real& w = reals<Real>(master)[i];
        w -= lr * (m / correction1 / (std::sqrt(v / correction2) + eps) + decay * w);
        reals<Real>(moment1)[i] = stored<Real>(moment1.element, m);
        reals<Real>(moment2)[i] = stored<Real>(moment2.element, v);
        reals<Real>(weights)[i] = stored<Real>(Element::bf16, w);
    }
}

template <class Real>
void HostBackend<Real>::increment(Tensor const& counter)
{
    check_increment(counter);
    ++*ints(counter);
}

template void HostBackend<float>::adamw(AdamW const&, Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                        Tensor const&, Tensor const&, Tensor const&);
template void HostBackend<double>::adamw(AdamW const&, Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                         Tensor const&, Tensor const&, Tensor const&);
template void HostBackend<float>::increment(Tensor const&);
template void HostBackend<double>::increment(Tensor const&);

} // namespace trainfare::kernels
