// SPDX-License-Identifier: Apache-2.0
//
// One function a command; each returns the exit status and throws what model/error.hpp names.
#pragma once

#include "scenarios/cli/options.hpp"

namespace trainfare {

int command_project(Options const&);
int command_compare(Options const&);
int command_explain(Options const&);
int command_topology(Options const&);
int command_memory(Options const&);
int command_import_hf(Options const&);
int command_import_measurements(Options const&);
int command_dump_default();

} // namespace trainfare
