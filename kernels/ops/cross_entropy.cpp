// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy on a host: loss = log(sum exp(x)) - x[target]; the logits become softmax(x) - onehot(target), scaled.
// Of two equal logits, each costs ln 2 = 0.693 and the gradient is -1/2, 1/2.
#include "kernels/ops/cross_entropy.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::cross_entropy(Tensor const& logits, Tensor const& targets, float grad_scale, Tensor const& loss)
{
    check_cross_entropy(logits, targets, loss);
    for (std::int64_t row = 0; row < logits.rows; ++row) {
        Real* const x = reals<Real>(logits.row_range(row, 1));
        std::int64_t const target = ints(targets)[row];
        if (target == -1) {
            std::fill_n(x, logits.cols, Real{0});
            reals<Real>(loss)[row] = 0;
            continue;
        }
        require(target >= 0 && target < logits.cols, "cross_entropy",
                "a target is neither -1 nor a column of the logits");
        double const top = static_cast<double>(*std::max_element(x, x + logits.cols));
        double sum = 0;
        for (std::int64_t c = 0; c < logits.cols; ++c) sum += std::exp(static_cast<double>(x[c]) - top);
        reals<Real>(loss)[row] = static_cast<Real>(std::log(sum) + (top - static_cast<double>(x[target])));
        for (std::int64_t c = 0; c < logits.cols; ++c) {
            double const share = std::exp(static_cast<double>(x[c]) - top) / sum;
            double const slope = (share - (c == target ? 1 : 0)) * static_cast<double>(grad_scale);
            x[c] = stored<Real>(logits.element, static_cast<Real>(slope));
        }
    }
}

template void HostBackend<float>::cross_entropy(Tensor const&, Tensor const&, float, Tensor const&);
template void HostBackend<double>::cross_entropy(Tensor const&, Tensor const&, float, Tensor const&);

} // namespace trainfare::kernels
