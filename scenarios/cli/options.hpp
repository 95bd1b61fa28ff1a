// SPDX-License-Identifier: Apache-2.0
//
// The command line as a value.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "scenarios/run.hpp"

namespace trainfare {

enum class Command {
    project,
    compare,
    explain,
    topology,
    memory,
    import_hf,
    import_nccl_tests,
    import_deepep,
    dump_default
};

struct Options {
    Command command = Command::project;
    std::vector<std::string> files;
    std::string quantity; // explain
    std::vector<std::string> set;
    Fidelity fidelity = Fidelity::folded;
    bool strict = false, json = false, csv = false, quiet = false;
    std::string trace;               // file; empty: none
    std::string accelerator, source; // import
    int ranks = 0, nodes = 0;        // import; 0: as the file says
};

/// Options, or the exit status where there is nothing more to do (help, version, wrong usage).
std::variant<Options, int> parse_options(int argc, char** argv);

} // namespace trainfare
