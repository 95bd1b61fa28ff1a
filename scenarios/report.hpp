// SPDX-License-Identifier: Apache-2.0
//
// A result for people (tables), for programs (JSON, CSV) and for Perfetto (trace).
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "scenarios/run.hpp"

namespace trainfare {

void print_report(std::ostream&, Result const&);
/// Side by side, with a difference column against the first and the causes of the difference.
void print_comparison(std::ostream&, std::vector<Result> const&);
void print_memory(std::ostream&, Result const&);

/// What a dollar figure made of GPU-hours times a rental price leaves out, one item a line.
std::vector<std::string> not_in_the_price();

std::string to_json(Result const&);
/// Only the memory of each pipeline rank; needs nothing of a simulation.
std::string memory_to_json(Result const&);
std::string comparison_to_json(std::vector<Result> const&);
/// One header, one row a result: inputs first, then results.
void write_csv(std::ostream&, std::vector<Result> const&);

/// Chrome trace events: pid = pipeline rank, tid = stream (compute, exchange, pipeline, data parallel), ts and dur in us.
void write_trace(std::ostream&, Result const&);

} // namespace trainfare
