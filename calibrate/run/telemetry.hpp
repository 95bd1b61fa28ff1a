// SPDX-License-Identifier: Apache-2.0
//
// Clock, power, temperature and throttle reasons while something runs: from NVML, else from nvidia-smi in a loop, else
// nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "calibrate/run/nvml.hpp"

namespace trainfare::measure {

class Telemetry {
public:
    virtual ~Telemetry() = default;
    /// Now, or a fraction of a second ago; what is not known is absent.
    virtual Sample sample() = 0;
};

/// @p bus_address empty: no GPU, samples are empty.
std::unique_ptr<Telemetry> make_telemetry(std::string const& bus_address);

/// A line of `nvidia-smi --query-gpu=clocks.sm,power.draw,temperature.gpu,clocks_throttle_reasons.active
/// --format=csv,noheader,nounits`: "1755, 412.31, 54, 0x0000000000000004". Fields that are no numbers ("[N/A]") stay
/// absent.
Sample parse_smi(std::string_view line);

} // namespace trainfare::measure
