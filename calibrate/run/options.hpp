// SPDX-License-Identifier: Apache-2.0
//
// The command line as a value.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "calibrate/run/collectives.hpp"

namespace trainfare::measure {

enum class Command { plan, run, collectives, check, fit, show, import_nccl_tests, import_deepep };

struct Options {
    Command command = Command::plan;
    // plan, run, check
    std::string model, accelerator, tables;
    int ep = 0, tp = 1, seq = 4096, micro_batch = 1;
    std::vector<std::string> precisions, groups;
    bool quick = false, host = false, list = false, quiet = false;
    int device = 0;
    double seconds = 0;
    std::string out = "calibration";
    // show, check, fit: folders; import: the file
    std::string folder, source;
    int ranks = 0, nodes = 0;
    CollectiveOptions collective;
};

/// Options, or the exit status where there is nothing more to do (help, version, wrong usage).
std::variant<Options, int> parse_options(int argc, char** argv);

} // namespace trainfare::measure
