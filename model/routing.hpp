// SPDX-License-Identifier: Apache-2.0
//
// Where tokens go: how many nodes and GPUs one token reaches, and how uneven the load on ranks is.
#pragma once

#include <vector>

#include "model/architecture.hpp"

namespace trainfare {

/// Expected number of distinct holders that a token's experts fall on.
struct Reach {
    double domains = 1; // NVLink domains (nodes), own domain included where it is hit
    double gpus = 1;    // GPUs
};

/// @p ep GPUs in @p domains equal NVLink domains; experts uniform, chosen from top_groups groups where the router limits them.
/// Worked number: DeepSeek-V3 (8 of 256, 4 of 8 groups) on 64 GPUs in 8 nodes reaches 3.63 nodes.
Reach expected_reach(Experts const&, int ep, int domains);

/// Relative load of each rank (mean 1), from a coefficient of variation of the load per expert: deterministic normal
/// quantiles, largest first, averaged over the rank's experts. load_cv 0 gives all ones.
std::vector<double> rank_loads(Experts const&, int ep, double load_cv);

} // namespace trainfare
