// SPDX-License-Identifier: Apache-2.0
//
// A folded problem on SimGrid, in this process. Only simulate.cpp may call it, in a child: SimGrid's Engine is a
// singleton that parses options, may abort, and whose clock cannot be reset.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/fold.hpp"

namespace trainfare {

/// Tasks of all group classes in one row: class after class, in program order.
struct TaskRow {
    std::vector<std::uint32_t> first; // of each class, and the end

    explicit TaskRow(Folded const&);
    [[nodiscard]] std::uint32_t size() const { return first.back(); }
    [[nodiscard]] std::uint32_t class_of(std::uint32_t task) const;
};

/// Runs until nothing is left and returns how many flows were simulated.
/// @throws InternalError when tasks are left undone, naming the first.
std::uint64_t run_engine(Folded const&, TaskRow const&, std::span<double> start, std::span<double> end);

} // namespace trainfare
