// SPDX-License-Identifier: Apache-2.0
//
// Checks of cross_entropy, for both twins. A target that is no column and not -1 is an error on a host; a GPU makes
// that row's loss NaN and its gradient zero.
#pragma once

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline void check_cross_entropy(Tensor const& logits, Tensor const& targets, Tensor const& loss)
{
    char const* const name = "cross_entropy";
    bool const real = logits.element == Element::f32 || logits.element == Element::bf16;
    require(real && logits.contiguous() && logits.cols > 0, name, "logits are bf16 or f32 [C, V]");
    require_elements(targets, Element::i32, logits.rows, name, "targets are i32 [1, C]");
    require_elements(loss, Element::f32, logits.rows, name, "loss is f32 [1, C]");
}

} // namespace trainfare::kernels
