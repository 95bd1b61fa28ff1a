// SPDX-License-Identifier: Apache-2.0
//
// Sentences and number formats that more than one report uses.
#pragma once

#include <string>
#include <vector>

#include "scenarios/run.hpp"

namespace trainfare {

/// "Fits ...: 54 days, 2.788 M GPU-hours, $5.58 M [...]. Limited by ...": the answer in one paragraph.
std::string verdict(Result const&);
/// "12.3 %"; -0 is printed as 0.
std::string percent(double share, int digits = 1);
/// "+1.2 %" with its sign.
std::string signed_percent(double change, int digits = 1);
/// Seconds of a step with four significant digits, without unit: for columns headed "s".
std::string plain(double value, int significant = 4);

constexpr double confidence_level = 0.9; // of every interval

} // namespace trainfare
