// SPDX-License-Identifier: Apache-2.0
//
// Closure: does the sum of what was measured one by one give the time of the real step? Two layers with experts between
// the embedding and the head, one GPU standing for one rank of a large group (StepConfig::emulated_ep).
#pragma once

#include <string>
#include <vector>

#include "calibrate/run/points.hpp"
#include "calibrate/run/rows.hpp"
#include "kernels/step/config.hpp"

namespace trainfare::measure {

/// What the real step runs.
struct StepPart {
    Point point;
    double times = 1;    // a step
    bool update = false; // part of gradients' norm and optimizer; else of forward and backward
};

/// The model that the step trains: its first two layers with experts, or its first two; no MTP.
Architecture closure_model(Request const&);
kernels::StepConfig step_config(Request const&, Precision);

/// Rows on their way to experts and back as one GPU alone moves them, packing included; not what projections look up.
std::vector<StepPart> exchange_parts(Request const&, Precision);
/// Everything, these included.
std::vector<StepPart> step_parts(Request const&, Precision);

/// Times the step and its halves: rows "step_passes", "step_update" and, last, "step" (the point itself).
std::vector<Row> measure_step(kernels::Backend&, Request const&, Point const&, int repeats);

struct ClosureLine {
    std::string what;
    double predicted_s = 0;
    int parts = 0, nearest = 0, missing = 0; // operations; of these priced by another size; not measured at all
};
struct ClosureReport {
    Precision precision = Precision::bf16;
    std::vector<ClosureLine> classes; // by OpClass, largest first
    ClosureLine passes, update;
    double measured_s = 0, measured_passes_s = 0, measured_update_s = 0;
    std::vector<std::string> missing;

    [[nodiscard]] double predicted_s() const { return passes.predicted_s + update.predicted_s; }
    [[nodiscard]] double error() const { return predicted_s() / measured_s - 1; }
    [[nodiscard]] bool closes() const; // within 5 %, nothing missing
};

/// What stands for an accelerator when the program is tried on a host: rows of "cpu" are not in hardware.csv and never
/// shipped.
Accelerator host_accelerator();

/// From the rows of a folder alone. @p tables gives the accelerator; its own measurements are not used.
/// @throws InputError where the folder holds no step in that precision.
ClosureReport closure(std::vector<Row> const&, Request const&, Precision, Tables tables, std::string const& folder);

} // namespace trainfare::measure
