// SPDX-License-Identifier: Apache-2.0
//
// The operations of one block for one micro-batch on one GPU, in execution order.
#pragma once

#include <vector>

#include "model/architecture.hpp"
#include "model/op.hpp"
#include "model/plan.hpp"

namespace trainfare {

/// Lists are in execution order; dispatch and combine split them into segments. backward holds recomputation and input
/// gradients (attention's backward yields all three gradients in one kernel); the weight gradients, which a zero-bubble
/// schedule may postpone, are apart: weight_ffn may start once the feed-forward's input gradients are done, weight_attention
/// after the whole block's.
struct BlockOps {
    std::vector<Op> forward, backward, weight_ffn, weight_attention;
};

BlockOps block_ops(Architecture const&, Plan const&, Block);

/// The update of this GPU's optimizer shard for the given stage: bytes of state read and written.
Op optimizer_op(Plan const&, double dense_parameters, double expert_parameters);

/// Parameters one GPU holds of a stage's blocks, by shard group.
struct ShardParameters {
    double tensor = 0;     // attention, dense FFN, shared experts, embedding and head: divided by TP
    double replicated = 0; // norms, router, latent down-projections
    double expert = 0;     // routed experts: divided by EP x ETP
    double tables = 0;     // the part of tensor that is embedding and head: bf16 under every recipe
};
ShardParameters shard_parameters(Architecture const&, Plan const&, std::vector<Block> const&);

} // namespace trainfare
