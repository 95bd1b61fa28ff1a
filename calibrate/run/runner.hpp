// SPDX-License-Identifier: Apache-2.0
//
// `trainfare-calibrate run`: from points to rows on the disk.
#pragma once

#include <functional>
#include <string>

#include "calibrate/run/device.hpp"
#include "calibrate/run/journal.hpp"
#include "calibrate/run/meter.hpp"
#include "calibrate/run/points.hpp"
#include "calibrate/run/telemetry.hpp"

namespace trainfare::measure {

struct RunOptions {
    std::string out;
    double seconds = 0; // stop after; 0: no limit
    MeterOptions meter;
    int step_repeats = 10;                // of the real step
    bool quiet = false, terminal = false; // progress; terminal: on one line
    std::function<bool()> interrupted = [] { return false; };
};

enum class Ended { finished, out_of_time, interrupted };

/// The machine that measures.
struct Bench {
    kernels::Backend& backend;
    Accelerator gpu; // for guesses of time, and its key for rows
    int sms = 132;
    SubjectOptions subjects;
    Telemetry& telemetry;
};

/// One point; never throws for what a point can cause (unsupported, out of memory, wrong result): that is the row's
/// status.
/// @throws InternalError where the back-end broke; the row so far is in @p row.
void measure_point(Bench const&, Point const&, MeterOptions const&, Row& row);

/// Points that the journal does not have yet, in order.
Ended run_points(Bench const&, Request const&, std::vector<Point> const&, Journal&, RunOptions const&);

} // namespace trainfare::measure
