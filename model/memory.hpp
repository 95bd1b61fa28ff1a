// SPDX-License-Identifier: Apache-2.0
//
// What one GPU of each pipeline rank must hold.
#pragma once

#include <vector>

#include "model/architecture.hpp"
#include "model/plan.hpp"
#include "model/schedule.hpp"

namespace trainfare {

struct StageMemory {
    int rank = 0;              // pipeline rank
    Bytes weights;             // compute copies: tensor-sharded, replicated and expert shards
    Bytes gradients;
    Bytes optimizer;           // master weights and moments, after ZeRO
    Bytes activations;         // peak over the schedule's order
    Bytes buffers;             // communication and workspace
    int live_micro_batches = 0;// forward chunks held at the peak
    [[nodiscard]] Bytes total() const { return weights + gradients + optimizer + activations + buffers; }
};

struct MemoryReport {
    std::vector<StageMemory> stages; // by pipeline rank
    Bytes capacity;                  // usable: HBM less what the driver and context keep
    [[nodiscard]] StageMemory const& fullest() const;
    [[nodiscard]] bool fits() const { return fullest().total() <= capacity; }
    [[nodiscard]] Bytes headroom() const { return capacity - fullest().total(); } // negative: what is missing
};

/// @p hbm the GPU's memory as sold ("80 GB").
MemoryReport memory_per_stage(Architecture const&, Plan const&, PipelineSchedule const&, Bytes hbm);

/// Bytes of activations one micro-batch leaves behind in one block until its backward pass.
Bytes activation_bytes(Architecture const&, Plan const&, Block);

} // namespace trainfare
