// SPDX-License-Identifier: Apache-2.0
//
// Checks of sum and clip_scale, for both twins.
#pragma once

#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline void check_sum(Tensor const& x, Tensor const& out)
{
    require_elements(x, Element::f32, x.size(), "sum", "x is f32");
    require_elements(out, Element::f32, 1, "sum", "out is f32 [1, 1]");
}

inline void check_clip_scale(Tensor const& sum_of_squares, Tensor const& out)
{
    require_elements(sum_of_squares, Element::f32, 1, "clip_scale", "sum_of_squares is f32 [1, 1]");
    require_elements(out, Element::f32, 1, "clip_scale", "out is f32 [1, 1]");
}

} // namespace trainfare::kernels
