// SPDX-License-Identifier: Apache-2.0
//
// The overlapped pair that DeepSeek published a trace of: one forward beside one backward over four identical expert
// layers. Private to run() and explain().
#pragma once

#include <optional>

#include "scenarios/estimate.hpp"
#include "scenarios/run.hpp"

namespace trainfare {

/// Absent where the plan does not overlap expert exchanges, or the model has no expert layers. Balanced routing, as in
/// the trace.
std::optional<PairReport> overlapped_pair(StepInputs const&, StepModel const&);

} // namespace trainfare
