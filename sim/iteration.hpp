// SPDX-License-Identifier: Apache-2.0
//
// Model x plan x cluster x costs -> the task programs and flows of one training step.
//
// Streams of a group, each in order: compute, expert exchange, pipeline sends, data-parallel exchange. An overlapped slot
// interleaves the segments of one forward and one backward micro-batch on the compute stream, so that each exchange of one runs
// under the compute of the other (DualPipe, arXiv:2412.19437 Figure 4).
#pragma once

#include <string>
#include <vector>

#include "calibrate/cost.hpp"
#include "calibrate/collectives.hpp"
#include "model/cluster.hpp"
#include "model/schedule.hpp"
#include "sim/price.hpp"
#include "sim/problem.hpp"

namespace trainfare {

/// What a task is, for traces and the split by cause.
enum class Activity : std::uint8_t { compute, dispatch, combine, pipeline_send, data_parallel, optimizer, wait };

struct TaskLabel {
    Activity activity = Activity::compute;
    SlotKind slot_kind = SlotKind::forward;
    std::int32_t slot = -1;        // index in the rank's slot order; -1: after the pipeline
    std::int16_t block = -1;       // index in the rank's block list
    bool backward = false;
    std::uint32_t segment = 0;     // into Iteration::segments (compute)
};

struct BlockCost {
    PricedBlock priced;
    double dense_bytes = 0, expert_bytes = 0; // parameters of this block on one GPU, as bytes of gradient
    double reduce_seconds = 0, gather_seconds = 0; // of its gradients and weights, alone on the network
};

struct StageCost { // of one pipeline rank
    std::vector<BlockCost> blocks;   // chunk after chunk, in forward order
    std::vector<int> chunk_begin;    // first block of each chunk, and the end
    double reduce_seconds = 0, gather_seconds = 0; // of all blocks, alone on the network
    double optimizer_seconds = 0;
};

/// Everything the closed form needs; the simulated iteration adds flows.
struct StepModel {
    Plan plan;
    PipelineSchedule schedule;
    std::vector<StageCost> stages;              // by pipeline rank
    double expert_slowdown = 1;                 // load of the slowest expert rank over the mean
    double exchange_contention = 1;             // exchanges beside compute take this much longer
    double exchange_skew = 1;                   // exchanges take this much longer for uneven loads
    double exchange_seconds_per_byte = 0;       // expert exchange alone, per byte of payload
    double exchange_latency = 0;
    double send_payload = 0;                    // bytes of one pipeline send of one GPU
    double send_seconds = 0;                    // alone on the network, latency included
    double send_latency = 0, data_latency = 0;
    double gather_share = 0.5;                  // bytes of weights gathered per byte of gradient reduced
    Experts routing;                            // of the expert layers; count 0: none
};

/// Settings that are not part of the plan.
struct IterationOptions {
    double load_cv = 0;             // coefficient of variation of tokens per expert and micro-batch; 0: forced balance
    double exchange_contention = 1; // see StepModel
    double exchange_skew = 1;       // from the surrogate (sim/surrogate.hpp)
    int micro_batches = 0;          // 0: as the plan says; audits use fewer
};

/// What one GPU of this plan shares with its neighbours, for even expert loads.
LocalTraffic local_traffic(Plan const&, Cluster const&);

StepModel price_step(Architecture const&, Plan const&, Cluster const&, CostModel const&, IterationOptions const&);

struct Iteration {
    Problem problem;
    std::vector<std::vector<TaskLabel>> labels; // by program (= pipeline rank), by task
    std::vector<ClassSeconds> segments;         // compute parts that labels point at
};

Iteration build_iteration(StepModel const&, Cluster const&);

} // namespace trainfare
