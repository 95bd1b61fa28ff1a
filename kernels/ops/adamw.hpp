// SPDX-License-Identifier: Apache-2.0
//
// Checks of adamw and increment, for both twins.
#pragma once

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline void check_adamw(Tensor const& step, Tensor const& grad_scale, Tensor const& master, Tensor const& moment1,
                        Tensor const& moment2, Tensor const& grad, Tensor const& weights)
{
    char const* const name = "adamw";
    std::int64_t const n = master.size();
    bool const real = moment1.element == Element::f32 || moment1.element == Element::bf16;
    require_elements(step, Element::i32, 1, name, "step is i32 [1, 1]");
    require_elements(grad_scale, Element::f32, 1, name, "grad_scale is f32 [1, 1]");
    require_elements(master, Element::f32, n, name, "master is f32");
    require(real, name, "moments are f32 or bf16");
    require_elements(moment1, moment1.element, n, name, "as many first moments as weights");
    require_elements(moment2, moment1.element, n, name, "second moments like the first");
    require_elements(grad, Element::f32, n, name, "grad is f32, as many as weights");
    require_elements(weights, Element::bf16, n, name, "weights are bf16, as many as in master");
}

inline void check_increment(Tensor const& counter)
{
    require_elements(counter, Element::i32, 1, "increment", "i32 [1, 1]");
}

} // namespace trainfare::kernels
