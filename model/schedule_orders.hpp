// SPDX-License-Identifier: Apache-2.0
//
// The slot order of one rank, schedule by schedule. make_schedule() is the way in: it checks the numbers first.
#pragma once

#include <vector>

#include "model/schedule.hpp"

namespace trainfare {

using SlotOrder = std::vector<Slot>;

/// Every forward, then every backward.
SlotOrder gpipe_order(int micro_batches);

/// @p warm_up forwards, then forward and backward in turn, then the backwards left over. @p paired: each turn is one
/// overlapped slot.
SlotOrder one_f_one_b_order(int warm_up, int micro_batches, bool paired);

/// Megatron-LM's order: micro-batches go through the chunks in groups of @p ranks.
SlotOrder interleaved_order(int rank, int ranks, int chunks, int micro_batches, bool paired);

/// 1F1B with the backward split: rank r lets r weight gradients wait, so that the backward chain hurries.
SlotOrder zb_h1_order(int rank, int ranks, int micro_batches);

/// V placement, input and weight gradients apart, 2 ranks chunks alive at most: the memory of 1F1B.
SlotOrder zb_v_order(int rank, int ranks, int micro_batches);

/// The eight steps of DualPipe, and of DualPipeV with @p rank in place of DualPipe's half rank.
SlotOrder dualpipe_order(int rank, int ranks, int micro_batches);
SlotOrder dualpipe_v_order(int rank, int ranks, int micro_batches);

} // namespace trainfare
