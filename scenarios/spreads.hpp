// SPDX-License-Identifier: Apache-2.0
//
// Where the interval of the step time comes from, and what more of each resource would bring. Private to run().
#pragma once

#include <vector>

#include "scenarios/estimate.hpp"
#include "scenarios/run.hpp"

namespace trainfare {

/// Costs of one class of operations are wrong together (one library, one clock), different classes independently: each class is
/// moved by its own spread, the effects are added as root of squares.
std::vector<SpreadPart> step_spreads(Scenario const&, StepInputs const&, Seconds base);

Interval interval_around(double value, std::vector<SpreadPart> const&);

/// 10 % more of NVLink, NIC, HBM, FLOP/s and memory, one at a time.
std::vector<Slope> step_slopes(StepInputs const&, Seconds base, MemoryReport const&);

} // namespace trainfare
