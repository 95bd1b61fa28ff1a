// SPDX-License-Identifier: Apache-2.0
//
// The step of a scenario in closed form, again and again with one input changed: for intervals, slopes and batch ramps.
#pragma once

#include <functional>

#include "calibrate/cost.hpp"
#include "scenarios/scenario.hpp"
#include "sim/closed_form.hpp"

namespace trainfare {

/// Everything a step's time depends on. Plain values, so that a what-if is a copy with one of them changed.
struct StepInputs {
    Architecture const* model = nullptr;
    Tables const* tables = nullptr;
    Plan plan;
    Cluster cluster;
    double load_cv = 0;
    double contention_scale = 1; // on the derived factor by which exchanges slow down beside compute
    bool strict = false;
    WhatIf what_if;
};

/// The scenario's calibration tables, or the shipped ones, with its own measurements laid over them.
Tables scenario_tables(Scenario const&);

StepInputs step_inputs(Scenario const&, Tables const&, bool strict);

/// @p simulate_skew on SimGrid (surrogate) instead of from the busiest link.
StepModel step_model(StepInputs const&, bool simulate_skew = false);

Seconds closed_step(StepInputs const&);

/// Step time at another global batch over that at the plan's. A pipeline's time is affine in the number of
/// micro-batches once it is full; the line goes through the plan's batch and a half-way one, so it also serves batches
/// that the schedule refuses.
std::function<double(int batch)> step_at_batch(StepModel const&);

} // namespace trainfare
