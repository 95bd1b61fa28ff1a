// SPDX-License-Identifier: Apache-2.0
//
// Timing: warm up, then events around runs. Runs too short for a host to queue in time are recorded into a graph of
// many, so that launching does not count; a sample is then the mean of one replay.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calibrate/run/subjects.hpp"

namespace trainfare::measure {

struct MeterOptions {
    double warm_up_s = 0.02, measuring_s = 0.1;
    int runs = 50; // fewer where they would take longer than measuring_s, but never fewer than ...
    int fewest = 5;
};

struct Timing {
    double median = 0, p10 = 0, p90 = 0, low = 0; // seconds of one run
    int repeats = 0;
    std::string how;
};

struct MeterHooks {
    std::function<void()> before; // all that waits for the device is done
    std::function<void()> busy;   // everything is queued, the device works
    std::function<void()> after;  // all has been timed
};

Timing measure(kernels::Backend&, std::vector<Instance> const&, MeterOptions const&, MeterHooks const& = {});

/// Value below which a share @p q of the sorted samples lies, interpolated: 0.5 of {1, 2, 3, 4} is 2.5.
double quantile(std::vector<double> const& sorted, double q);

} // namespace trainfare::measure
