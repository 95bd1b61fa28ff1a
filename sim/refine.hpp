// SPDX-License-Identifier: Apache-2.0
//
// Colour refinement: which groups, flows and links of a problem cannot be told apart. fold.cpp turns the colours into
// classes.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/problem.hpp"

namespace trainfare {

/// Colours are dense, numbered by first occurrence; a link left out has a colour like any other.
struct Colours {
    std::vector<std::uint32_t> group, flow, link;
    int rounds = 0; // until stable
};

/// @throws InternalError where the problem names a group, program, team or link that does not exist.
void check_references(Problem const&);

/// Leaf links that can never bind, because the NICs behind them, up or down, add up to no more than they carry: a leaf
/// without oversubscription. Max-min rates are the same without them, and positions under leaves stop breaking the
/// symmetry.
std::vector<char> implied_links(Problem const&);

/// @param left_out  by link: play no part
Colours refine(Problem const&, std::vector<char> const& left_out);

} // namespace trainfare
