// SPDX-License-Identifier: Apache-2.0
//
// Attention as cuDNN runs it: one graph of operations (products, softmax, products), fused by cuDNN into one or a few
// kernels. A plan is made once for a shape and its strides and then run with addresses. Two files make plans:
// attention_graph_raw.cpp out of cuDNN's C descriptors, attention_graph_frontend.cpp through NVIDIA's header-only
// cudnn_frontend. Both hand cuDNN the same graph (tests/kernels/cudnn_graphs.test.cpp compares what it chooses for
// them), so the second is a cross-check and may be absent.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/backend.hpp"

struct cudnnContext; // cudnnHandle_t is a pointer to it

namespace trainfare::kernels::cuda {

/// What a plan depends on. Pitches: elements from one token to the next; heads of a token lie side by side.
struct AttentionProblem {
    AttentionShape shape;
    bool backward = false;
    std::int64_t q = 0, k = 0, v = 0, o = 0;         // pitches of the inputs and the output of the forward pass
    std::int64_t d_o = 0, d_q = 0, d_k = 0, d_v = 0; // of the gradients; backward only

    using Key = std::array<std::int64_t, 18>;
    [[nodiscard]] Key key() const;
};

/// Addresses on the device. log_sum: fp32 [batch, heads, seq]. The gradients are for the backward pass only.
struct AttentionMemory {
    void* q = nullptr;
    void* k = nullptr;
    void* v = nullptr;
    void* o = nullptr;
    void* log_sum = nullptr;
    void* d_o = nullptr;
    void* d_q = nullptr;
    void* d_k = nullptr;
    void* d_v = nullptr;
};

/// For whom to plan: the device of a cuDNN handle, or, without one, a device that is only described (cuDNN's JSON of
/// device properties), which need not exist: cuDNN then chooses and checks engines, but cannot run them.
struct AttentionTarget {
    cudnnContext* handle = nullptr;
    std::string device_json;
};

class AttentionPlan {
public:
    virtual ~AttentionPlan() = default;
    [[nodiscard]] virtual std::size_t workspace_bytes() const = 0; // of a plan that can run
    /// cuDNN's name of the engine and its settings.
    [[nodiscard]] virtual std::string engine() const = 0;
    /// Queues the work on the handle's stream. @p workspace: 256-byte aligned, at least workspace_bytes().
    virtual void run(cudnnContext* handle, AttentionMemory const&, void* workspace) const = 0;
};

/// What the backward pass takes at once. A deterministic one keeps 2 batch heads seq^2 bytes of scores: where that is
/// more than 4 GiB, single sequences and as many heads as fit, in equal parts. 128 heads, 16,384 tokens: 8 heads, 16
/// times.
AttentionShape backward_at_once(AttentionShape const&);

/// @throws Unsupported for what no engine of cuDNN 9 takes on a Hopper.
void require_supported(AttentionProblem const&);

/// @throws Unsupported, naming the shape, where cuDNN has no engine for it.
std::unique_ptr<AttentionPlan> plan_attention_raw(AttentionProblem const&, AttentionTarget const&);
/// The same; only where the program was built with TRAINFARE_CUDNN_FRONTEND.
std::unique_ptr<AttentionPlan> plan_attention_frontend(AttentionProblem const&, AttentionTarget const&);

/// "192/128 wide, 128/128 heads, 1 x 4096 tokens, causal, backward" for messages.
std::string describe(AttentionProblem const&);

} // namespace trainfare::kernels::cuda
