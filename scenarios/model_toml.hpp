// SPDX-License-Identifier: Apache-2.0
//
// Models without a config.json: the same layers written as a [model] table. One set of sizes for all layers, except
// that the first may be dense and every n-th may see all tokens.
#pragma once

#include "model/architecture.hpp"
#include "scenarios/table_reader.hpp"

namespace trainfare {

/// Reads the size keys of a [model] table with type = "toml". @p label names the model where the table does not.
Architecture read_model_table(TableReader&, std::string const& label);

} // namespace trainfare
