// SPDX-License-Identifier: Apache-2.0
//
// Closure: does the sum of what was measured one by one give the time of the real step? Two layers with experts between
// the embedding and the head, one GPU standing for one rank of a large group (StepConfig::emulated_ep). What the step
// runs is not written down anywhere: the step itself is asked, on a back-end that only takes notes (call_log.hpp). So
// is each point; the two lists of calls are then matched.
#pragma once

#include <string>
#include <vector>

#include "calibrate/run/call_log.hpp"
#include "calibrate/run/points.hpp"
#include "calibrate/run/rows.hpp"
#include "kernels/step/config.hpp"
#include "kernels/step/trainer.hpp"

namespace trainfare::measure {

/// The model that the step trains: its first two layers with experts, or its first two; no MTP.
Architecture closure_model(Request const&);
kernels::StepConfig step_config(Request const&, Precision);

/// A batch of the step, and experts chosen so that all get the same load.
struct StepInput {
    std::vector<std::int32_t> tokens;
    kernels::Routing routing;
};
StepInput step_input(kernels::StepConfig const&);

/// All that one step asks of a back-end, in order.
struct StepCalls {
    std::vector<Call> passes, update;
};
/// @throws kernels::Unsupported where the step cannot run this model in that precision.
StepCalls step_calls(Request const&, Precision);
/// What one run of a point asks; empty where no back-end operation does it.
std::vector<Call> calls_of(Point const&);
/// Bytes that a launch takes far longer than: such calls get no points and are priced as launches.
inline constexpr double tiny_work = 1 << 12;

/// Points for calls of the step that the model's own points do not contain: rows that travel as one GPU alone moves
/// them, chunks of the head. Not what projections look up.
std::vector<Point> closure_points(Request const&, Precision);

/// Times the step and its halves: rows "step_passes", "step_update" and, last, "step" (the point itself).
std::vector<Row> measure_step(kernels::Backend&, Request const&, Point const&, int repeats);

/// Calls of one kind of operation, and how they were priced.
struct ClosureLine {
    std::string what;
    double predicted_s = 0;
    int calls = 0, other_sizes = 0, launches = 0, missing = 0;
};
struct ClosureReport {
    Precision precision = Precision::bf16;
    std::vector<ClosureLine> operations; // most time first
    double predicted_passes_s = 0, predicted_update_s = 0;
    double measured_s = 0, measured_passes_s = 0, measured_update_s = 0;
    std::vector<std::string> missing;

    [[nodiscard]] double predicted_s() const { return predicted_passes_s + predicted_update_s; }
    [[nodiscard]] double error() const { return predicted_s() / measured_s - 1; }
    [[nodiscard]] bool closes() const; // within 5 %, nothing missing
};

/// What stands for an accelerator when the program is tried on a host: rows of "cpu" are not in hardware.csv and never
/// shipped.
Accelerator host_accelerator();

/// From the rows of a folder alone. @throws InputError where the folder holds no step in that precision.
ClosureReport closure(std::vector<Row> const&, Request const&, Precision, std::string const& folder);

} // namespace trainfare::measure
