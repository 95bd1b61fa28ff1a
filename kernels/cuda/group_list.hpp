// SPDX-License-Identifier: Apache-2.0
//
// The groups of a grouped product in a form that travels to the GPU as an argument of a kernel: nothing to copy ahead,
// so a recorded launch keeps the groups it was recorded with.
#pragma once

#include <cstdint>

#include "kernels/tensor.hpp"

namespace trainfare::kernels::cuda {

struct GroupList {
    static constexpr int capacity = 256; // 3 KiB; arguments of a kernel may take 4

    std::int32_t count = 0;
    std::int32_t index[capacity] = {}; // of the group
    std::int32_t first[capacity] = {}; // its first row
    std::int32_t rows[capacity] = {};  // with padding; not 0
};

/// @throws Unsupported for more groups than a list holds, or more rows than it can count.
GroupList groups_with_rows(Groups const&);

} // namespace trainfare::kernels::cuda
