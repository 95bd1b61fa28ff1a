// SPDX-License-Identifier: Apache-2.0
//
// The inside of a slot, as both the simulation and the closed form walk it: compute on one in-order stream, exchanges on another,
// in the order in which they are issued.
#pragma once

#include <vector>

#include "sim/iteration.hpp"

namespace trainfare {

/// One compute segment (may be empty), then (maybe) one exchange.
struct SlotStep {
    ClassSeconds const* compute = nullptr; // null: nothing to compute
    bool exchanges = false, is_dispatch = false;
    double payload = 0;       // as on the wire: skew and contention included
    bool backward = false;    // of the backward half of an overlapped slot, or of a backward slot
    bool weight = false;      // weight gradients: depend on the stream's order alone
    bool first = false;       // takes the slot's input (forward: activations, backward: gradients)
    int block = 0;            // index in the rank's list
    bool block_begin = false, block_end = false; // first and last step of this block's pass
    bool gathers = false;     // ZeRO-3: the block's weights must be gathered before this step
    bool reduces = false;     // ZeRO-2 and 3: the block's gradients are reduced after this step, in every micro-batch
};

/// Steps of a slot in issue order. In an overlapped slot forward and backward segments alternate, each with its own
/// exchange, so that it runs under the other's compute; the weight gradients follow the segment that frees them.
std::vector<SlotStep> slot_steps(StepModel const&, int rank, Slot const&);

/// Duration of a slot on an idle machine whose inputs are all there at 0: two streams, exchanges as long as alone.
struct SlotEnd {
    double compute = 0;   // when the compute stream is free
    double forward = 0;   // when the forward half's output may be sent
    double backward = 0;
    double end = 0;       // everything done
};
SlotEnd slot_end(StepModel const&, StageCost const&, std::vector<SlotStep> const&);

} // namespace trainfare
