// SPDX-License-Identifier: Apache-2.0
//
// What a minute of steady work costs: the same mix of operations over and over, with clock and power beside it.
#pragma once

#include <functional>
#include <string>

#include "calibrate/run/rows.hpp"
#include "calibrate/run/telemetry.hpp"

namespace trainfare::measure {

struct Sustained {
    Row row;            // time and rate of one round, after clocks have settled
    std::string series; // CSV: time_s, round_us, clk_sm_mhz, power_w, temp_c, throttle_mask
};

/// @p stop ends it early. @throws kernels::Unsupported where nothing of the mix can run.
Sustained run_sustained(kernels::Backend&, Request const&, Point const&, Telemetry&, SubjectOptions const&,
                        std::function<bool()> const& stop);

} // namespace trainfare::measure
