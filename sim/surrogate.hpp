// SPDX-License-Identifier: Apache-2.0
//
// Skewed expert traffic. When some experts are popular, the flows of an exchange differ and the symmetry inside a group
// is gone; simulating all of them in every layer of every micro-batch would cost hours. Instead each distinct skew is
// simulated once, alone, and its duration over that of the uniform exchange scales the payload of the replayed uniform
// one. Against full simulation that is pessimistic by up to 0.4 % (60 % skew, two micro-batches, no oversubscription).
#pragma once

#include <cstdint>
#include <span>

#include "sim/problem.hpp"

namespace trainfare {

/// Expert ranks whose tokens a flow carries: one for a hop inside an NVLink domain, all of the node for a hop over
/// NICs.
struct RankRange {
    std::uint32_t first = 0, count = 1;
};

/// How much longer the expert exchange of @p group takes when expert rank j receives rank_load[j] times the mean.
/// @param ranks      one for each expert flow of the group, in the order of problem.flows; a flow grows by the mean
/// load of its ranks
/// @param rank_load  by expert rank, mean 1, none negative
/// @return 1 for equal loads or a group without expert flows. Equal questions are simulated once per process.
/// @throws InternalError where the sizes do not match
double skew_factor(Problem const& problem, std::uint32_t group, std::span<RankRange const> ranks,
                   std::span<double const> rank_load);

} // namespace trainfare
