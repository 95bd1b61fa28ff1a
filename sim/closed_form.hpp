// SPDX-License-Identifier: Apache-2.0
//
// The same step without a network simulation: every exchange takes the time it takes alone, slots are evaluated in their
// schedule's order. Microseconds instead of tenths of a second; it parts from the simulation where flows contend.
#pragma once

#include "sim/iteration.hpp"

namespace trainfare {

struct SlotSeconds { // of one pipeline rank
    double forward = 0, backward = 0, backward_input = 0, weight = 0, overlapped = 0; // mean over its slots
};

struct ClosedForm {
    Seconds step;
    Seconds pipeline;                 // until the last gradient is there
    Seconds tail;                     // data-parallel exchange and optimizer that nothing hides
    std::vector<SlotSeconds> slots;   // by pipeline rank
};

ClosedForm closed_form(StepModel const&);

/// Time of one overlapped pair: a forward of @p forward blocks beside a backward of @p backward, on an idle machine.
double pair_seconds(StepModel const&, std::vector<PricedBlock const*> const& forward,
                    std::vector<PricedBlock const*> const& backward);

} // namespace trainfare
