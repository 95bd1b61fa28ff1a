// SPDX-License-Identifier: Apache-2.0
//
// Angles of rotary position embedding (arXiv:2104.09864 s3.2.2): pair i of dim/2 turns by position x base^(-2 i/dim)
// radians. A GPU needs them for positions beyond 100,000, where position x frequency in fp32 is wrong by 0.004 radians
// and more. So the frequency is a 64-bit binary fraction of a whole turn: an integer product with the position drops
// whole turns without any rounding. Base 10000, dim 64: pair 0 turns by 1 radian = 0.15915 of a turn, pair 16 by 0.01
// radian.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {

/// Radians per position.
inline double rotary_frequency(double base, int dim, int pair)
{
    return std::pow(base, -2.0 * static_cast<double>(pair) / static_cast<double>(dim));
}

/// A kernel's parameter: turns per position of each pair, in units of 2^-64, whole turns left out.
struct Turns {
    std::uint64_t of_pair[max_rotary_dim / 2];
};

inline Turns rotary_turns(float base, int dim)
{
    Turns turns{};
    for (int pair = 0; pair < dim / 2; ++pair) {
        double const per_position = rotary_frequency(static_cast<double>(base), dim, pair) / (2 * std::numbers::pi);
        turns.of_pair[pair] = static_cast<std::uint64_t>(std::ldexp(per_position - std::floor(per_position), 64));
    }
    return turns;
}

} // namespace trainfare::kernels
