// SPDX-License-Identifier: Apache-2.0
//
// Timings of one kernel over its size, and what they say about a size in between. Private to calibrate/.
#pragma once

#include <functional>
#include <vector>

#include "calibrate/cost.hpp"

namespace trainfare {

struct CurvePoint {
    double log_x = 0, log_rate = 0, spread = 0;
    OpRow const* row = nullptr; // the last of those merged
};
using Curve = std::vector<CurvePoint>; // by x, ascending

/// Rows of equal x are merged to their geometric mean; their spread is half their range, at least 5 %.
/// @param x and @p rate read from a row what the curve is over and what it gives; both positive.
Curve make_curve(std::vector<OpRow const*> rows, std::function<double(OpRow const&)> const& x,
                 std::function<double(OpRow const&)> const& rate);
/// FLOP/s over rows per group.
Curve product_curve(std::vector<OpRow const*> rows);
/// B/s over bytes.
Curve memory_curve(std::vector<OpRow const*> rows);

struct CurveValue {
    double rate = 0, spread = 0;
    Quality quality = Quality::exact;
    OpRow const* row = nullptr; // the nearest of those read
};

/// Log-log linear between points; outside them the end point's rate serves, flagged extrapolated (up to twice the last size:
/// interpolated, because rates have flattened there).
CurveValue read(Curve const&, double x);

/// Rows that were measured or imported, where there is one; else all.
std::vector<OpRow const*> prefer_measured(std::vector<OpRow const*> rows);

} // namespace trainfare
