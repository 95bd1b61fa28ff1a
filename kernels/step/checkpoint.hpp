// SPDX-License-Identifier: Apache-2.0
//
// Tensors in a file, bit for bit. A file names its format version and what it was written for; one that was cut off,
// damaged or written for something else is refused before anything is changed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

namespace trainfare::kernels {

struct NamedTensor {
    std::string name;
    Tensor tensor;
};

/// @param fingerprint what must be alike to read the file again, one "key value" a line
void save_checkpoint(std::filesystem::path const&, std::string const& fingerprint, Backend&,
                     std::vector<NamedTensor> const&);
/// Fills the tensors. @throws InputError in one line
void restore_checkpoint(std::filesystem::path const&, std::string const& fingerprint, Backend&,
                        std::vector<NamedTensor> const&);

} // namespace trainfare::kernels
