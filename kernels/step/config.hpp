// SPDX-License-Identifier: Apache-2.0
//
// What one training run of the real step is: the model, the batch, the number formats, how ranks share the work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.hpp"
#include "model/architecture.hpp"
#include "model/dtype.hpp"

namespace trainfare::kernels {

struct StepConfig {
    Architecture model;             // MLA, MHA, GQA or MQA; dense or MoE feed-forward; MTP modules
    Gate::Score score = Gate::Score::sigmoid;
    bool normalise_gate = true;
    float gate_scale = 2.5F;        // DeepSeek-V3 routed_scaling_factor
    float rope_base = 10000;
    float norm_eps = 1e-6F;
    float init_deviation = 0.006F;  // of all matrices (arXiv:2412.19437 s4.2); norms start at 1

    int seq_len = 0;
    int micro_batch = 1;            // sequences of one forward
    int micro_batches = 1;          // per rank and step; gradients accumulate
    Precision precision = Precision::bf16; // bf16 or fp8_block; head, router, norms, attention, embedding stay bf16
    Element moments = Element::f32; // or bf16 (DeepSeek-V3)

    int ep = 1;                     // consecutive ranks that share the experts; divides the number of ranks
    /// As if @p emulated_ep ranks shared the experts: this one holds experts/emulated_ep of them, and all rows that it would send come
    /// back to them (expert e stands for e modulo the local number). Gives one GPU the shapes of a large EP group. 1: off.
    int emulated_ep = 1;
    bool zero1 = false;             // optimizer states sharded over data-parallel ranks
    bool overlap = false;           // micro-batches in pairs: one exchanges while the other computes
    int comm_sms = 0;               // SMs kept free for communication while streams overlap; 0: none

    AdamW adam;
    float clip = 1.0F;              // gradient norm limit; 0: none
    float balance_rate = 0.001F;    // of the gate's bias; 0: no bias
    float mtp_weight = 0.3F;
    int head_rows = 1024;           // tokens per chunk of the head and its cross-entropy
    std::uint64_t seed = 1;
};

/// Every reason why the step cannot run this, each "what (why); what to try"; empty when it can. @p ranks of the whole group.
std::vector<std::string> check(StepConfig const&, int ranks);

/// A model that trains in seconds on a CPU: MLA with MoE, one dense layer, MTP.
Architecture tiny_model();
/// The same with grouped-query attention and softmax routing's shapes.
Architecture tiny_gqa_model();

} // namespace trainfare::kernels
