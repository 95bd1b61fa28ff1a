// SPDX-License-Identifier: Apache-2.0
//
// The two small number formats of the step, as arithmetic on floats: what is left of a number when a GPU stores it as
// bf16 or e4m3. No CUDA header is needed, so the host back-end rounds alike everywhere.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace trainfare::kernels {

/// Nearest bf16 (8 bits of mantissa, ties to even); too large is infinity, NaN stays NaN.
/// 1 + 2^-8 -> 1, 1 + 3 x 2^-8 -> 1 + 2^-6.
inline float round_to_bf16(float x)
{
    auto const bits = std::bit_cast<std::uint32_t>(x);
    bool const is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    std::uint32_t const rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
    return std::bit_cast<float>((is_nan ? bits | 0x00400000U : rounded) & 0xffff0000U);
}

/// Nearest e4m3 (OCP FP8, arXiv:2209.05433: 3 bits of mantissa, exponents -6 to 8, no infinity; ties to even); beyond
/// 448 is 448, as GPUs do for "saturate to finite"; NaN stays NaN. 17 -> 16, 19 -> 20, 0.001 -> 2^-9, 2^-10 -> 0.
inline float round_to_e4m3(float x)
{
    constexpr float largest = 448.0F, smallest_normal = 0x1p-6F;
    constexpr float subnormal_shift = 0x1p14F; // a float near 2^14 has units of 2^-9, the step of e4m3's subnormals
    if (std::isnan(x)) return x;
    float const size = std::fabs(x);
    if (size >= largest) return std::copysign(largest, x);
    if (size < smallest_normal) return std::copysign((size + subnormal_shift) - subnormal_shift, x);
    auto const bits = std::bit_cast<std::uint32_t>(x);
    return std::bit_cast<float>((bits + 0x7ffffU + ((bits >> 20) & 1U)) & 0xfff00000U);
}

} // namespace trainfare::kernels
