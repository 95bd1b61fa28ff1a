// SPDX-License-Identifier: Apache-2.0
//
// What the twins of `gate` share: limits, checks, and the guard of the normalisation. A choice goes to the greatest
// score + bias; equal ones to the lower index, NaN last. An expert that does not exist (forced or chosen) is an error
// on a host; on a GPU, which cannot throw, its weight is NaN and it is not counted.
#pragma once

#include "kernels/backend.hpp"
#include "kernels/ops/contiguous.hpp"

namespace trainfare::kernels {

inline constexpr int gate_max_experts = 512, gate_max_groups = 32, gate_max_top_k = 16;

/// Added to the sum of the chosen scores before dividing by it, so that scores that all underflow give weights of zero
/// and not NaN.
inline constexpr float gate_sum_guard = 1e-20F;

inline void check_gate_shape(Gate const& gate, Tensor const& logits, char const* name)
{
    require(gate.experts >= 1 && gate.experts <= gate_max_experts, name, "1 to 512 experts");
    require(gate.top_k >= 1 && gate.top_k <= gate_max_top_k && gate.top_k <= gate.experts, name,
            "top_k is 1 to 16 and no more than there are experts");
    require_tensor(logits, Element::f32, logits.rows, gate.experts, name, "logits are f32 [T, E]");
}

inline void check_gate(Gate const& gate, Tensor const& logits, Tensor const& bias, Tensor const& forced,
                       Tensor const& chosen, Tensor const& weights, Tensor const& counts)
{
    char const* const name = "gate";
    check_gate_shape(gate, logits, name);
    require(gate.groups >= 1 && gate.groups <= gate_max_groups && gate.experts % gate.groups == 0, name,
            "1 to 32 groups of equal size");
    require(gate.top_groups >= 1 && gate.top_groups <= gate.groups, name, "top_groups is 1 to the number of groups");
    require(gate.top_k <= gate.experts / gate.groups * gate.top_groups, name, "the kept groups have top_k experts");
    if (!bias.empty()) require_elements(bias, Element::f32, gate.experts, name, "bias is f32 [1, E]");
    if (!forced.empty()) require_tensor(forced, Element::i32, logits.rows, gate.top_k, name, "forced is i32 [T, k]");
    require_tensor(chosen, Element::i32, logits.rows, gate.top_k, name, "chosen is i32 [T, k]");
    require_tensor(weights, Element::f32, logits.rows, gate.top_k, name, "weights are f32 [T, k]");
    require_elements(counts, Element::i32, gate.experts, name, "counts are i32 [1, E]");
}

inline void check_gate_backward(Gate const& gate, Tensor const& logits, Tensor const& chosen, Tensor const& d_weights,
                                Tensor const& d_logits)
{
    char const* const name = "gate_backward";
    check_gate_shape(gate, logits, name);
    require_tensor(chosen, Element::i32, logits.rows, gate.top_k, name, "chosen is i32 [T, k]");
    require_tensor(d_weights, Element::f32, logits.rows, gate.top_k, name, "d_weights are f32 [T, k]");
    require_tensor(d_logits, Element::bf16, logits.rows, gate.experts, name, "d_logits are bf16 [T, E]");
}

inline void check_balance(Tensor const& bias, Tensor const& counts)
{
    require_elements(bias, Element::f32, bias.size(), "balance", "bias is f32 [1, E]");
    require_elements(counts, Element::i32, bias.size(), "balance", "counts are i32, as many as biases");
}

} // namespace trainfare::kernels
