// SPDX-License-Identifier: Apache-2.0
//
// What the files of CostModel share. Private to calibrate/.
#pragma once

#include <cmath>
#include <string>

#include "model/op.hpp"

namespace trainfare {

inline double hypot_spread(double a, double b) { return std::sqrt(a * a + b * b); }

/// Key of rates.csv: "norm.dgrad"; recomputation is a forward.
std::string rate_quantity(Op const&);
} // namespace trainfare
