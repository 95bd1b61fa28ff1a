// SPDX-License-Identifier: Apache-2.0
//
// Hugging Face config.json -> Architecture, one small reader per model_type.
#pragma once

#include <string>
#include <vector>

#include "model/architecture.hpp"

namespace trainfare {

/// @throws InputError naming file, field and value; an unknown model_type lists the known ones (never a guess).
Architecture read_hf_config(std::string const& path);
/// The same from text; @p label stands for the file in messages.
Architecture parse_hf_config(std::string const& text, std::string const& label);
std::vector<std::string> known_model_types();

} // namespace trainfare
