// SPDX-License-Identifier: Apache-2.0
//
// What a folder of measurements holds, for people.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "calibrate/run/closure.hpp"
#include "calibrate/run/rows.hpp"

namespace trainfare::measure {

/// Points and efficiencies per kind of operation, against the ceilings that the same run measured; own kernels against
/// copy bandwidth; products against published DeepGEMM, attention against published cuDNN (rows of @p published); what
/// SM budgets and a neighbour cost; drift; what is missing. Deterministic.
void show(std::ostream&, std::vector<Row> const&, Tables const& published);

void show(std::ostream&, ClosureReport const&);

/// How many points of each group, and how long they will take.
void show(std::ostream&, std::vector<Point> const&, Accelerator const& gpu, double measuring_s, double sustained_s);

/// Repetition over first timing of each repeated point; empty where none was repeated.
std::vector<double> drifts(std::vector<Row> const&);

} // namespace trainfare::measure
