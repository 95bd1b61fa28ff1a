// SPDX-License-Identifier: Apache-2.0
//
// Quantities as text, both ways: "400 Gb/s" in a scenario, "50 GB/s (400 Gb/s)" in a report. A number without a unit is
// refused where a unit could be meant; b (bit) and B (byte) are never confused; k M G T P are powers of 1000, Ki Mi
// Gi Ti Pi of 1024. What format() prints, the parser of the same quantity reads back.
#pragma once

#include <string>
#include <string_view>

#include "model/error.hpp"
#include "model/units.hpp"

namespace trainfare {

// All throw InputError, with the place and an example of the right form. Negative and infinite values are refused.
Bandwidth parse_bandwidth(std::string_view text, SourcePlace const& where = {}); // "400 Gb/s", "50 GB/s"
Bytes parse_bytes(std::string_view text, SourcePlace const& where = {});         // "80 GB", "80 GiB"
FlopRate parse_flop_rate(std::string_view text, SourcePlace const& where = {});  // "989 TFLOP/s"
Seconds parse_seconds(std::string_view text, SourcePlace const& where = {});     // "3.7 us", "54 days"
Watts parse_watts(std::string_view text, SourcePlace const& where = {});         // "700 W"
GpuPrice parse_gpu_price(std::string_view text, SourcePlace const& where = {});  // "2 USD/GPU-hour"
/// A whole number, of @p noun if it names one: "14.8T tokens", "671 B" (billion), "2048". At most 2^53.
double parse_count(std::string_view text, SourcePlace const& where = {}, std::string_view noun = "tokens");

// Four significant digits, money three; a zero at the end of a fraction is not printed.
std::string format(Bandwidth);          // "50 GB/s"
std::string format_nic(Bandwidth);      // "50 GB/s (400 Gb/s)": NICs are sold in bits
std::string format(Bytes);              // "80 GB"
std::string format(Flops);              // "250.4 GFLOP"
std::string format(FlopRate);           // "989 TFLOP/s"
std::string format(Seconds);            // "3.7 us", "19.9 s", "42.5 min", "54 days"
std::string format(Watts);              // "700 W"
std::string format(Joules);             // "1.23 GWh"
std::string format(Dollars);            // "$5.58 M"
std::string format(GpuTime);            // "2.664 M GPU-hours"
std::string format(GpuPrice);           // "2 USD/GPU-hour"
std::string format_count(double count); // "2.664 M", "14.8 T"

} // namespace trainfare
