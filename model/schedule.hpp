// SPDX-License-Identifier: Apache-2.0
//
// Pipeline schedules as what they are: the order in which each pipeline rank works through its slots.
// Durations play no part here; sim/ puts times to the slots.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/plan.hpp"

namespace trainfare {

enum class SlotKind {
    forward,         // 1F
    backward,        // 1B: input and weight gradients
    backward_input,  // input gradients only (zero-bubble schedules)
    backward_weight, // 1W: the weight gradients left over
    overlapped       // 1F1B: a forward and a full backward run together, interleaved layer by layer (DualPipe)
};

/// @p micro_batch is global: for DualPipe the first half enters at rank 0, the second half at the last rank.
/// @p chunk names what the rank holds, in the order of PipelineSchedule::stage_of, never the direction of travel.
struct Slot {
    SlotKind kind = SlotKind::forward;
    int chunk = 0;
    int micro_batch = 0;
    int backward_chunk = -1;       // overlapped only: what runs backward beside the forward
    int backward_micro_batch = -1;

    friend bool operator==(Slot const&, Slot const&) = default;
};

struct PipelineSchedule {
    ScheduleKind kind = ScheduleKind::none;
    int ranks = 1;
    int chunks = 1;            // model chunks a rank holds
    int stages = 1;            // model stages
    int micro_batches = 1;
    std::vector<std::vector<Slot>> slots; // by rank

    /// The model stage that chunk @p chunk of rank @p rank is:
    ///   one chunk                 stage = rank
    ///   interleaved               stage = chunk * ranks + rank
    ///   ZB-V, DualPipeV           chunk 0 is stage rank, chunk 1 is stage 2 ranks - 1 - rank
    ///   DualPipe                  chunk 0 is stage rank, chunk 1 is stage ranks - 1 - rank, on every rank
    /// So in DualPipe a micro-batch of the first half runs on chunk 0 of ranks 0 .. ranks-1, and one of the second half
    /// on chunk 1 of ranks ranks-1 .. 0: each stage has two homes, and the micro-batch says which.
    [[nodiscard]] int stage_of(int rank, int chunk) const;
};

/// Slot orders of GPipe (arXiv:1811.06965), 1F1B (PipeDream-flush), interleaved 1F1B (arXiv:2104.04473 s2.2),
/// ZB-H1 (arXiv:2401.10241), ZB-V (arXiv:2405.15362), DualPipe and DualPipeV (github.com/deepseek-ai/DualPipe).
/// @param pair_adjacent  none, 1F1B and interleaved only (DualPipe pairs anyway, the others have no such steady state):
///     each steady-state forward and the backward that follows it become one overlapped slot. That backward must not be
///     of the forward beside it, so ranks warm up longer: one pass more for none and interleaved (what Megatron-LM does
///     under --overlap-moe-expert-parallel-comm); 2(p-1-r)+1 passes on rank r for 1F1B, as in eager 1F1B
///     (arXiv:2211.05322), because with only one more, neighbours would wait for each other's pair in every step.
/// @throws InputError where the schedule cannot exist for these numbers.
PipelineSchedule make_schedule(ScheduleKind, int pp, int vpp, int micro_batches, bool pair_adjacent = false);

/// Durations of one rank's slot kinds, in any one unit. backward_input takes backward - weight.
struct SlotTimes {
    double forward = 1, backward = 2, weight = 1, overlapped = 3; // backward = input + weight gradients
};

/// Published idle time per rank, same unit. F, B, W, FB are the times of one slot (one chunk), except interleaved:
/// there of all v chunks of a rank, as its paper has them. p is the number of ranks. With enough micro-batches
/// time_slots() gives the same number for GPipe, 1F1B and interleaved at all times, for the others under conditions:
///   GPipe, 1F1B      (p-1)(F+B)
///   interleaved      (p-1)(F+B)/v
///   ZB-H1            (p-1)(F+B-2W)        where W is at most F and B-W; else the slots idle longer
///   DualPipe         (p/2-1)(FB+B-3W)     where F = B-W >= W: on the two middle ranks, on all of them if FB = F+B
///   DualPipeV        (p-1)(FB+B-3W)       the same with the README's PP = 2p stages; its middle rank is p-1
///   ZB-V             0                    where F = B-W = W, between a rank's first and last slot: rank r starts rF
///                                         late, which is free only if the next step need not wait for all ranks.
///                                         For other times nothing is published: absent.
/// Example: 1F1B with p = 16, F = 1, B = 2 idles 45.
std::optional<double> published_bubble(ScheduleKind, int pp, int vpp, SlotTimes const&);

/// Who waits for whom: flat, built once, evaluated many times. Slots are numbered rank after rank, in slot order.
struct SlotGraph {
    /// One slot and what it waits for; -1: nothing. A backward also needs its own forward and a weight gradient its own
    /// input gradient: both ran earlier on the same rank, which slot_graph() checks.
    struct Step {
        std::int32_t slot = 0;
        std::int32_t previous = -1;  // the slot before it on its rank
        std::int32_t forward = -1;   // the slot whose activations it takes
        std::int32_t backward = -1;  // the slot whose input gradient it takes
        bool forward_sent = false;   // from another rank
        bool backward_sent = false;
    };
    std::vector<Step> steps;              // in an order that respects every dependency
    std::vector<std::int32_t> rank_begin; // first slot of each rank, and the number of slots

    [[nodiscard]] int ranks() const { return static_cast<int>(rank_begin.size()) - 1; }
    [[nodiscard]] int slots() const { return rank_begin.back(); }
};

/// @throws InternalError where a pass is missing, double or out of order, or where ranks wait for each other for ever.
SlotGraph slot_graph(PipelineSchedule const&);

/// Idle time per rank (makespan less busy time) and start and end of every slot.
struct SlotTiming {
    double makespan = 0;
    std::vector<double> idle;                       // by rank
    std::vector<std::vector<double>> start, end;    // by rank, by slot
};

/// Each slot takes its kind's time and data moves in no time: what the published formulas describe.
SlotTiming time_slots(PipelineSchedule const&, SlotTimes const&);

/// @p durations by slot number; data from another rank arrives @p send later.
SlotTiming time_slots(SlotGraph const&, std::span<double const> durations, double send);

/// The same without the bookkeeping, for plan searches: the makespan, and the end of slot s in @p end at [s + 1].
double makespan(SlotGraph const&, std::span<double const> durations, double send, std::vector<double>& end);

/// The schedule as text, one line a rank: what the papers draw. A time unit is a column, as wide as the labels need.
/// F forward, B backward, I input gradient, W weight gradient, then the micro-batch and one ' for each chunk above 0;
/// F4&B0' is an overlapped slot. Dashes fill a slot, dots are idle time. Times are rounded to whole units.
/// @throws InputError where the schedule is too long to read.
std::string draw(PipelineSchedule const&, SlotTimes const&);

} // namespace trainfare
