// SPDX-License-Identifier: Apache-2.0
//
// What the twins of fill, copy and normal share: their checks, and the generator of random bits.
#pragma once

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline bool is_real(Element e) { return e == Element::f32 || e == Element::bf16; }

inline void check_fill(Tensor const& t)
{
    require(is_real(t.element) || t.element == Element::i32, "fill", "f32, bf16 or i32");
    require(t.contiguous(), "fill", "the tensor is contiguous");
}

inline void check_copy(Tensor const& to, Tensor const& from)
{
    require(to.rows == from.rows && to.cols == from.cols, "copy", "one shape");
    require(to.element == from.element || (is_real(to.element) && is_real(from.element)), "copy",
            "one element, or f32 and bf16");
}

inline void check_normal(Tensor const& t)
{
    require(is_real(t.element) && t.contiguous(), "normal", "a contiguous tensor of f32 or bf16");
}

} // namespace trainfare::kernels
