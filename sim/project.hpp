// SPDX-License-Identifier: Apache-2.0
//
// From the time of a step to a whole training: days, GPU-hours, energy, dollars, each with an interval.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/cluster.hpp"
#include "model/units.hpp"

namespace trainfare {

/// A projected quantity; low and high bound a 90 % interval. The unit is in the name of what holds it.
struct Interval {
    double value = 0, low = 0, high = 0;
};
Interval operator*(Interval, double);
Interval operator+(Interval, Interval); // fully correlated: the same costs stand behind both

/// One phase of a training. Either simulated from tokens, or taken over as published GPU-hours (context extension and
/// post-training, whose plans are not public).
struct Phase {
    std::string name;
    std::optional<double> tokens;
    std::optional<int> ramp_from;             // sequences a step at the start; grows linearly to the plan's global batch ...
    std::optional<double> ramp_tokens;        // ... over this many tokens (DeepSeek-V3: 3,072 to 15,360 in 469B, s4.2)
    std::optional<double> published_gpu_hours;
    std::string published_on;                 // accelerator of those hours; on another one they scale with the step time
    std::string provenance;
};

struct PriceRange {
    GpuPrice value, low, high;                // rental, per GPU-hour
    std::string provenance;
};

struct RunSpec {
    std::vector<Phase> phases;
};

struct PhaseResult {
    std::string name;
    double tokens = 0;
    double steps = 0;
    Interval gpu_hours, days, cost_usd;
    std::string how;                          // "simulated" or "published, scaled x 1.03"
};

struct Projection {
    Interval step_time_s, gpu_hours, days, cost_usd;
    std::optional<Interval> energy_kwh;       // absent where the accelerator's power is not published
    Interval tokens_per_gpu_second;
    std::vector<PhaseResult> phases;
};

/// @p step_at_batch relative step time at a global batch (1 at the plan's): for the ramp. @p published_scale what published
/// hours of another accelerator are multiplied with; absent: same accelerator.
Projection project(Interval step_time_s, int global_batch, int seq_len, RunSpec const&, PriceRange const&, Cluster const&,
                   std::function<double(int batch)> const& step_at_batch, std::optional<double> published_scale);

} // namespace trainfare
