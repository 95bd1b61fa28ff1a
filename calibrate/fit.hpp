// SPDX-License-Identifier: Apache-2.0
//
// How far off the look-ups of a table are, found by leaving out what is known: for every timed kernel, what would the other rows
// have said? Reads tables only, so it runs anywhere and gives the same bytes again. The result is tables/fit.csv, from which
// CostModel takes the spread of an interpolated cost.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "calibrate/cost.hpp"
#include "calibrate/tables.hpp"

namespace trainfare {

/// Errors |predicted / timed - 1| over the left-out kernels.
struct LeftOut {
    int kernels = 0;
    double mean = 0, p90 = 0;
};

struct FitLine {
    std::string accelerator;
    OpKind kind = OpKind::gemm;
    std::optional<Pass> pass;          // absent: rows that state no direction
    Precision precision = Precision::bf16;
    int rows = 0;                      // used ones, timed alone
    std::optional<LeftOut> one_size;   // this number of rows (bytes, for memory-bound ones) left out, its shape kept: along m
    std::optional<LeftOut> one_shape;  // the whole shape left out: nearest shapes
};

/// One factor that the step model takes from pairs of timings.
struct FitFactor {
    std::string name;                  // "SM share exponent", "step factor", "uneven experts"
    double value = 0, spread = 0;      // half-width of a 90 % interval
    int pairs = 0;
    std::string words;                 // what it multiplies
};

struct FitReport {
    std::vector<FitLine> lines;
    std::vector<FitFactor> factors;
};

/// @param accelerator key of hardware.csv, or empty for all that have rows.
FitReport fit(Tables const&, std::string const& accelerator = {});

/// For people.
void print(std::ostream&, FitReport const&);
/// tables/fit.csv.
std::string to_csv(FitReport const&);

} // namespace trainfare
