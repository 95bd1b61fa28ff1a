// SPDX-License-Identifier: Apache-2.0
//
// TOML -> Scenario. Keys are those of the plan and cluster headers; every quantity carries its unit in text.
#pragma once

#include <string>
#include <vector>

#include "scenarios/scenario.hpp"

namespace trainfare {

/// @p overrides "plan.pp=8" as given to --set, applied after includes and the file. "-" reads standard input.
/// @throws InputError with file:line:column; unknown keys name the nearest known one; plan and cluster rules are all checked.
Scenario load_scenario(std::string const& path, std::vector<std::string> const& overrides = {});

/// The default scenario as a complete commented TOML: every key, its unit, default and Megatron-LM flag.
std::string default_scenario_toml();

/// Reads a model: config.json by content, or a TOML model file.
Architecture load_model(std::string const& path);

/// Folder of shipped models, clusters, prices and examples: beside the installed program, else the source tree.
std::string shipped_folder();

} // namespace trainfare
