// SPDX-License-Identifier: Apache-2.0
//
// CudaBackend's attention: checks shapes, looks the plan up, runs it on the stream in use. A new shape costs a second
// or more, since cuDNN generates and compiles a kernel for it; one seen before costs a few microseconds.
#include "kernels/cuda/attention.hpp"

#include <cudnn.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "kernels/cuda/cudnn_graph.hpp"
#include "kernels/cuda/state.hpp"

namespace trainfare::kernels {

namespace {

using cuda::AttentionMemory;
using cuda::AttentionPlan;
using cuda::AttentionProblem;

/// cuDNN's handle for the back-end's device, and every plan so far. A CUDA graph recorded from a plan needs it alive.
class Attention {
public:
    Attention() { cuda::check(cudnnCreate(&handle_), "cudnnCreate"); }
    ~Attention()
    {
        plans_.clear();
        static_cast<void>(cudnnDestroy(handle_));
    }
    Attention(Attention const&) = delete;
    Attention& operator=(Attention const&) = delete;

    AttentionPlan const& plan(AttentionProblem const& problem)
    {
        auto& plan = plans_[problem.key()];
#ifdef TRAINFARE_CUDNN_FRONTEND
        if (!plan) plan = cuda::plan_attention_frontend(problem, {handle_, {}});
#else
        if (!plan) plan = cuda::plan_attention_raw(problem, {handle_, {}});
#endif
        return *plan;
    }

    cudnnHandle_t on(cudaStream_t stream)
    {
        cuda::check(cudnnSetStream(handle_, stream), "cudnnSetStream");
        return handle_;
    }

private:
    cudnnHandle_t handle_ = nullptr;
    std::map<AttentionProblem::Key, std::unique_ptr<AttentionPlan>> plans_;
};

/// The slot's content, made on first use.
Attention& attention_of(cuda::Runtime& runtime)
{
    if (!runtime.attention) runtime.attention = std::make_shared<Attention>();
    return *static_cast<Attention*>(runtime.attention.get());
}

/// @p t must be bf16 [rows, cols], possibly columns of something wider, and start at a multiple of 16 bytes.
void require_matrix(Tensor const& t, std::int64_t rows, std::int64_t cols, char const* operation, char const* name)
{
    if (t.element != Element::bf16 || t.rows != rows || t.cols != cols || t.pitch < cols)
        throw InternalError(
            fmt::format("{}: {} must be bf16 [{}, {}], not [{}, {}]", operation, name, rows, cols, t.rows, t.cols));
    if (reinterpret_cast<std::uintptr_t>(t.data) % 16 != 0)
        throw Unsupported(fmt::format("{} on cuda: {} does not start at a multiple of 16 bytes", operation, name));
}

void require_log_sum(Tensor const& t, AttentionShape const& s, char const* operation)
{
    auto const rows = std::int64_t{s.heads} * s.batch;
    if (t.element != Element::f32 || t.rows != rows || t.cols != s.seq || !t.contiguous())
        throw InternalError(fmt::format("{}: log_sum must be f32 [{}, {}], contiguous", operation, rows, s.seq));
}

} // namespace

void CudaBackend::attention(AttentionShape const& shape, Tensor const& q, Tensor const& k, Tensor const& v,
                            Tensor const& o, Tensor const& log_sum)
{
    auto const* const name = "attention";
    auto const rows = std::int64_t{shape.batch} * shape.seq;
    require_matrix(q, rows, std::int64_t{shape.heads} * shape.qk_dim, name, "q");
    require_matrix(k, rows, std::int64_t{shape.kv_heads} * shape.qk_dim, name, "k");
    require_matrix(v, rows, std::int64_t{shape.kv_heads} * shape.v_dim, name, "v");
    require_matrix(o, rows, std::int64_t{shape.heads} * shape.v_dim, name, "o");
    require_log_sum(log_sum, shape, name);
    if (rows == 0) return;

    AttentionProblem problem{.shape = shape, .q = q.pitch, .k = k.pitch, .v = v.pitch, .o = o.pitch};
    problem.shape.deterministic = true; // the forward pass always is: one plan for both
    auto& with = attention_of(*state_);
    auto const& plan = with.plan(problem);
    plan.run(with.on(stream()), {.q = q.data, .k = k.data, .v = v.data, .o = o.data, .log_sum = log_sum.data},
             scratch(std::max<std::size_t>(plan.workspace_bytes(), 1)));
}

void CudaBackend::attention_backward(AttentionShape const& shape, Tensor const& d_o, Tensor const& q, Tensor const& k,
                                     Tensor const& v, Tensor const& o, Tensor const& log_sum, Tensor const& d_q,
                                     Tensor const& d_k, Tensor const& d_v)
{
    auto const* const name = "attention_backward";
    auto const rows = std::int64_t{shape.batch} * shape.seq;
    auto const q_cols = std::int64_t{shape.heads} * shape.qk_dim, k_cols = std::int64_t{shape.kv_heads} * shape.qk_dim,
               v_cols = std::int64_t{shape.kv_heads} * shape.v_dim, o_cols = std::int64_t{shape.heads} * shape.v_dim;
    require_matrix(d_o, rows, o_cols, name, "d_o");
    require_matrix(q, rows, q_cols, name, "q");
    require_matrix(k, rows, k_cols, name, "k");
    require_matrix(v, rows, v_cols, name, "v");
    require_matrix(o, rows, o_cols, name, "o");
    require_log_sum(log_sum, shape, name);
    require_matrix(d_q, rows, q_cols, name, "d_q");
    require_matrix(d_k, rows, k_cols, name, "d_k");
    require_matrix(d_v, rows, v_cols, name, "d_v");
    if (rows == 0) return;

    AttentionProblem const problem{.shape = shape,
                                   .backward = true,
                                   .q = q.pitch,
                                   .k = k.pitch,
                                   .v = v.pitch,
                                   .o = o.pitch,
                                   .d_o = d_o.pitch,
                                   .d_q = d_q.pitch,
                                   .d_k = d_k.pitch,
                                   .d_v = d_v.pitch};
    cuda::require_supported(problem);
    auto const part = cuda::backward_at_once(shape);
    if (part.batch != shape.batch || part.heads != shape.heads) {
        for (int sequence = 0; sequence < shape.batch; ++sequence)
            for (int head = 0, kv_head = 0; head < shape.heads; head += part.heads, kv_head += part.kv_heads) {
                auto const of = [&](Tensor const& t, int first, int heads, int width) {
                    return t.row_range(std::int64_t{sequence} * shape.seq, shape.seq)
                        .column_range(std::int64_t{first} * width, std::int64_t{heads} * width);
                };
                attention_backward(part, of(d_o, head, part.heads, shape.v_dim), of(q, head, part.heads, shape.qk_dim),
                                   of(k, kv_head, part.kv_heads, shape.qk_dim),
                                   of(v, kv_head, part.kv_heads, shape.v_dim), of(o, head, part.heads, shape.v_dim),
                                   log_sum.row_range(std::int64_t{sequence} * shape.heads + head, part.heads),
                                   of(d_q, head, part.heads, shape.qk_dim),
                                   of(d_k, kv_head, part.kv_heads, shape.qk_dim),
                                   of(d_v, kv_head, part.kv_heads, shape.v_dim));
            }
        return;
    }
    auto& with = attention_of(*state_);
    auto const& plan = with.plan(problem);
    plan.run(with.on(stream()),
             {.q = q.data,
              .k = k.data,
              .v = v.data,
              .o = o.data,
              .log_sum = log_sum.data,
              .d_o = d_o.data,
              .d_q = d_q.data,
              .d_k = d_k.data,
              .d_v = d_v.data},
             scratch(std::max<std::size_t>(plan.workspace_bytes(), 1)));
}

} // namespace trainfare::kernels
