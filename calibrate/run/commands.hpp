// SPDX-License-Identifier: Apache-2.0
//
// One function a command; each returns the exit status and throws what model/error.hpp names.
#pragma once

#include <string>

#include "calibrate/run/options.hpp"
#include "calibrate/run/points.hpp"

namespace trainfare::measure {

int command_plan(Options const&);
int command_run(Options const&);
int command_collectives(Options const&);
int command_check(Options const&);
int command_fit(Options const&);
int command_show(Options const&);
int command_import(Options const&);

/// What the options ask for. @throws InputError where the model cannot be read or laid out so.
Request request_of(Options const&);

/// A quick run takes one precision unless told: fp8 where the part has it, else bf16.
void choose_precision(Request&, Options const&, Accelerator const&);

/// Called from a signal handler: the point at hand is finished and written, then the program ends.
void interrupt();

/// All of @p text to standard output. A reader that left early (| head) is no error. @throws InputError: disk full.
void write_result(std::string const& text);

} // namespace trainfare::measure
