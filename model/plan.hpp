// SPDX-License-Identifier: Apache-2.0
//
// How a training is laid out over GPUs. Keys are Megatron-LM's words; `scenarios/PLAN.md` maps each to its flag.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.hpp"
#include "model/dtype.hpp"

namespace trainfare {

enum class ScheduleKind { none, gpipe, one_f_one_b, interleaved, zb_h1, zb_v, dualpipe, dualpipe_v };
enum class RecomputeKind { none, selective, full };
enum class Dispatcher { none, alltoall, allgather, deepep };

/// Modules whose forward is run again in the backward pass instead of being kept (Megatron --recompute-modules).
struct Recompute {
    RecomputeKind kind = RecomputeKind::none;
    bool attention_core = false;
    bool mlp = false;
    bool moe = false;          // the whole expert path, dispatch included
    bool moe_act = false;      // SwiGLU of the experts
    bool norm = false;
    bool mla_up_proj = false;
};

struct Plan {
    int tp = 1;                 // tensor parallel
    bool sp = false;            // sequence parallel inside the TP group
    int cp = 1;                 // context parallel
    int pp = 1;                 // pipeline ranks
    int vpp = 1;                // model chunks per pipeline rank (interleaved)
    int dp = 1;                 // data parallel, = gpus / (tp cp pp)
    int ep = 1;                 // expert parallel; spans tp, cp and dp ranks
    int etp = 1;                // tensor parallel inside an expert
    int zero = 0;               // ZeRO stage 0..3
    ScheduleKind schedule = ScheduleKind::none;
    Recompute recompute;
    int micro_batch = 1;        // sequences per data-parallel rank and pass
    int global_batch = 1;       // sequences per step
    int seq_len = 4096;         // tokens per sequence
    Precision precision = Precision::bf16;
    int comm_sms = 0;           // SMs that communication kernels hold while they overlap compute
    bool overlap_ep = false;    // dispatch and combine hidden behind the other micro-batch of a pair
    bool overlap_tp = false;
    bool overlap_dp = true;
    bool overlap_pp = true;
    Dispatcher dispatcher = Dispatcher::alltoall;
    DType gradient_dtype = DType::fp32;
    DType moment_dtype = DType::fp32;   // Adam's two moments
    DType master_dtype = DType::fp32;
    DType dispatch_dtype = DType::bf16; // wire format of dispatch (DeepSeek: fp8)
    DType combine_dtype = DType::bf16;
    int mtp_layers = 0;                 // MTP modules trained
    std::vector<int> stage_layers;      // decoder layers per model stage; empty: balanced by FLOPs

    [[nodiscard]] int gpus() const { return tp * cp * pp * dp; }
    /// Micro-batches per data-parallel rank and step.
    [[nodiscard]] int micro_batches() const { return global_batch / (dp * micro_batch); }
};

/// Every broken rule, each as "plan.KEY = V ... (why); try ..."; empty when the plan is possible.
std::vector<std::string> check_plan(Plan const&, Architecture const&, int gpus);

/// Model stages of a schedule: pp, or pp x vpp (interleaved), or 2 pp (V-shaped).
int model_stages(Plan const&);

/// One entry of a stage, in forward order.
struct Block {
    enum class Kind { embedding, layer, mtp, head } kind;
    int index = 0; // layer or MTP module
};

/// Which blocks each model stage holds, sizes model_stages(plan). Explicit plan.stage_layers, else contiguous
/// and balanced: the largest stage's FLOPs are as small as they can be (MTP and head weigh what they cost).
std::vector<std::vector<Block>> stage_blocks(Plan const&, Architecture const&);

std::string_view name(ScheduleKind);
std::string_view name(RecomputeKind);
std::string_view name(Dispatcher);
std::optional<ScheduleKind> schedule_from(std::string_view);
std::optional<RecomputeKind> recompute_from(std::string_view);
std::optional<Dispatcher> dispatcher_from(std::string_view);

} // namespace trainfare
