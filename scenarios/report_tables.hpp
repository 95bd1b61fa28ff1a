// SPDX-License-Identifier: Apache-2.0
//
// Parts of the printed report, each one table with its heading.
#pragma once

#include <ostream>

#include "scenarios/run.hpp"

namespace trainfare {

void print_memory_table(std::ostream&, MemoryReport const&, std::size_t most_rows);
void print_headline(std::ostream&, Result const&);
void print_causes(std::ostream&, Result const&);
void print_slots(std::ostream&, Result const&);
void print_phases(std::ostream&, Result const&);
void print_slopes(std::ostream&, Result const&);
void print_spreads(std::ostream&, Result const&);
void print_guessed(std::ostream&, Result const&);
void print_sources(std::ostream&, Result const&);
void print_flops(std::ostream&, Result const&);
void print_excluded(std::ostream&, Result const&);
void print_notes(std::ostream&, Result const&);

} // namespace trainfare
