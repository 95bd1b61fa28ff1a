// SPDX-License-Identifier: Apache-2.0
//
// One operation of a training step: the vocabulary that the model, the kernels and the cost tables share.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/dtype.hpp"
#include "model/units.hpp"

namespace trainfare {

enum class OpKind : std::uint8_t {
    // matrix products
    gemm,          // dense projection: C[m,n] = A[m,k] B[k,n]
    expert_gemm,   // `groups` products of m rows each
    router,        // tokens x experts, bf16 in, fp32 out
    head,          // logits
    attention,     // scores, softmax and values in one kernel
    // bound by memory
    embedding, norm, rope, activation, residual, cast, permute, unpermute, gate, cross_entropy, optimizer,
    // communication
    dispatch, combine, tp_collective, cp_exchange, pp_send, dp_reduce_scatter, dp_all_gather
};

enum class Pass : std::uint8_t { forward, dgrad, wgrad, recompute, update };

constexpr bool is_communication(OpKind k) { return k >= OpKind::dispatch; }
constexpr bool is_matrix(OpKind k) { return k <= OpKind::attention; }

/// Classes of the published layer trace (data README, v3_layer_trace), so that ours can be printed beside it.
enum class OpClass : std::uint8_t {
    expert_gemm, wgrad, dense_gemm, attention_backward, attention_forward, cast, permute, elementwise, norm, activation,
    rope, router, head, optimizer, launch, tensor_parallel, communication, count
};

struct Op {
    OpKind kind = OpKind::gemm;
    Pass pass = Pass::forward;
    char const* name = "";            // "q_b_proj"; static storage
    Precision precision = Precision::bf16;
    std::int64_t m = 0, n = 0, k = 0; // products: rows per group, columns, inner
    int groups = 1;                   // local experts
    std::int64_t batch = 0, seq = 0;  // attention: sequences and query tokens of one
    int heads = 0, kv_heads = 0, qk_dim = 0, v_dim = 0;
    double keys = 0;                  // attention: mean keys a query sees, after mask and window
    Flops flops;
    Bytes bytes;                      // HBM traffic
    int kernels = 1;                  // launches
    bool routed = false;              // on the rows that the router sent here: an uneven load stretches it
    Bytes payload;                    // communication: bytes one GPU contributes, one copy of each token or tensor
};

OpClass class_of(Op const&);
std::string_view name(OpKind);
std::string_view name(Pass);
std::string_view name(OpClass);

} // namespace trainfare
