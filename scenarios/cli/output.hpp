// SPDX-License-Identifier: Apache-2.0
//
// Standard output for results, standard error for people who watch; both checked for failure.
#pragma once

#include <functional>
#include <ostream>
#include <string>

namespace trainfare {

/// All of @p text to standard output. A reader that left early (| head) is no error. @throws InputError: disk full.
void write_result(std::string const& text);
/// A file written whole or reported. @throws InputError naming it.
void write_file(std::string const& path, std::function<void(std::ostream&)> const& write);
/// A line on standard error, only on a terminal and without --quiet.
void note(bool quiet, std::string const& line);

} // namespace trainfare
