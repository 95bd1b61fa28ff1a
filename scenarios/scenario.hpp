// SPDX-License-Identifier: Apache-2.0
//
// One question: this model, on this cluster, laid out like this, for this run, at these prices. A plain value; its TOML form
// is read in scenario_toml.cpp alone.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/architecture.hpp"
#include "model/cluster.hpp"
#include "model/plan.hpp"
#include "sim/project.hpp"

namespace trainfare {

/// What trainfare assumes about the software and the data, none of it fitted to a published step.
struct Assumptions {
    double load_cv = 0.1;            // tokens per expert and micro-batch, coefficient of variation; 0: router forced to balance
    double load_cv_spread = 0.5;     // relative half-width of a 90 % interval of it
    std::string load_source;         // provenance line
};

struct Scenario {
    int version = 1;
    std::string name;
    std::string file;                // where it was read; empty for built-in
    Architecture model;
    std::string model_file;          // config.json or TOML it came from
    double card_active_parameters = 0; // as the model card prints, for 6N; 0: none stated
    Cluster cluster;
    Plan plan;
    RunSpec run;
    PriceRange price;
    Assumptions assumptions;
    std::string tables;              // folder of calibration tables; empty: shipped
    std::string measured;            // folder of own measurements laid over them (trainfare-calibrate); empty: none
    std::vector<std::string> includes;
    /// Every resolved key with value and provenance ("examples/v3.toml:14", "default", "--set"), in file order of a full dump.
    struct Resolved {
        std::string key, value, from;
    };
    std::vector<Resolved> resolved;
    std::vector<std::string> warnings;
};

} // namespace trainfare
