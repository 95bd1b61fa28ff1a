// SPDX-License-Identifier: Apache-2.0
//
// What the host must know about where rows go: how many travel between which ranks and how many each expert here gets.
// Known ahead when the experts are forced, else asked once per MoE layer.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/step/context.hpp"
#include "kernels/step/trainer.hpp"

namespace trainfare::kernels {

/// Rows of one MoE layer and micro-batch.
struct ExpertPlan {
    std::vector<std::int64_t> send, receive; // per rank of the group that shares the experts
    Groups groups;                           // per expert here

    [[nodiscard]] std::int64_t received() const;
};

/// @param counts tokens per expert of the whole model, one row per rank of the group
ExpertPlan plan_rows(std::vector<std::int32_t> const& counts, int rank, int ranks, int local_experts,
                     std::int64_t alignment);

/// MoE layers in the order of Routing: the model's, then those of its MTP modules.
struct MoeLayers {
    int count = 0;
    int experts = 0, top_k = 0; // alike in all; check() sees to that
};
MoeLayers moe_layers(Architecture const&);

/// The routing of one step, ready to be queued without waiting.
struct Prepared {
    bool forced = false;
    Tensor chosen;                              // i32 [micro-batches x layers x T, k]; empty unless forced
    std::vector<std::vector<ExpertPlan>> plans; // [micro-batch][layer]; empty unless forced
    std::vector<std::int32_t> counts;           // [layer x expert]: tokens of this rank's whole batch
    Tensor all_counts;                          // the same summed over all ranks, i32 [layers, experts]
};

/// @throws InputError when @p routing does not fit the configuration.
Prepared prepare_forced(Context const&, Communicator& world, Routing const& routing);
Prepared prepare_live(Context const&);
/// counts, once known, to all_counts.
void sum_counts(Context const&, Communicator& world, Prepared&);

} // namespace trainfare::kernels
