// SPDX-License-Identifier: Apache-2.0
//
// Attention plans out of cuDNN's C descriptors. cuDNN knows attention by the pattern of its operations, so the graphs
// below have the operations that cudnn_frontend 1.32 asks cuDNN 9.16 to 9.20 for; what they compute, per head:
//
//     forward:   S = scale Q K^T, masked;  P = exp(S - max S) / sum;  O = P V;  log_sum = max S + ln sum
//     backward:  P = exp(S - log_sum);  dV = P^T dO;  dS = P (dO V^T - rowsum(dO O)) scale;  dQ = dS K;  dK = dS^T Q
//
// (FlashAttention, arXiv:2205.14135, appendix B.2.) With fewer heads of K and V than of Q (grouped-query attention), dK
// and dV of the query heads of a group are added up.
#include <array>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/cudnn_graph.hpp"

namespace trainfare::kernels::cuda {

namespace {

using Id = CudnnGraph::Id;
using Dims = CudnnGraph::Dims;

/// Tensors in the order of AttentionMemory.
struct Ids {
    Id q, k, v, o, log_sum, d_o, d_q, d_k, d_v;
};

/// [batch, heads, seq, width] over rows of @p pitch elements.
Id matrix(CudnnGraph& graph, AttentionShape const& s, int heads, int width, std::int64_t pitch)
{
    return graph.bound(CUDNN_DATA_BFLOAT16, {s.batch, heads, s.seq, width}, {s.seq * pitch, width, pitch, 1});
}

/// The same with rows and columns exchanged.
Id transposed_matrix(CudnnGraph& graph, AttentionShape const& s, int heads, int width, std::int64_t pitch)
{
    return graph.bound(CUDNN_DATA_BFLOAT16, {s.batch, heads, width, s.seq}, {s.seq * pitch, width, 1, pitch});
}

Dims exchanged(Dims const& d) { return {d[0], d[1], d[3], d[2]}; }

/// A view with rows and columns exchanged: no element moves.
Id transposed(CudnnGraph& graph, Id x, cudnnDataType_t type)
{
    auto const to = graph.passing(type, exchanged(graph.dims(x)), exchanged(graph.strides(x)));
    graph.view(x, to);
    return to;
}

Id scores_of(CudnnGraph& graph, Id a, Id b)
{
    auto dims = graph.dims(a);
    dims[3] = graph.dims(b)[3];
    auto const to = graph.passing(CUDNN_DATA_FLOAT, dims);
    graph.product(a, b, to);
    return to;
}

Ids forward(CudnnGraph& graph, AttentionProblem const& p)
{
    auto const& s = p.shape;
    Dims const per_row{s.batch, s.heads, s.seq, 1};
    Ids ids{};
    ids.q = matrix(graph, s, s.heads, s.qk_dim, p.q);
    ids.k = transposed_matrix(graph, s, s.kv_heads, s.qk_dim, p.k);
    ids.v = matrix(graph, s, s.kv_heads, s.v_dim, p.v);
    ids.o = matrix(graph, s, s.heads, s.v_dim, p.o);
    ids.log_sum = graph.bound(CUDNN_DATA_FLOAT, per_row, {std::int64_t{s.heads} * s.seq, s.seq, 1, 1});

    auto scores = graph.point_new(CUDNN_POINTWISE_MUL, scores_of(graph, ids.q, ids.k), graph.number(s.scale));
    if (s.causal) scores = graph.causal(scores);
    auto const largest = graph.passing(CUDNN_DATA_FLOAT, per_row), sum = graph.passing(CUDNN_DATA_FLOAT, per_row);
    graph.reduce(CUDNN_REDUCE_TENSOR_MAX, scores, largest);
    auto const weights = graph.point_new(CUDNN_POINTWISE_EXP, graph.point_new(CUDNN_POINTWISE_SUB, scores, largest));
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, weights, sum);
    graph.point(CUDNN_POINTWISE_ADD, largest, graph.point_new(CUDNN_POINTWISE_LOG, sum), ids.log_sum);
    auto const probabilities = graph.passing(CUDNN_DATA_BFLOAT16, graph.dims(scores));
    graph.point(CUDNN_POINTWISE_DIV, weights, sum, probabilities);
    graph.product(probabilities, ids.v, ids.o);
    return ids;
}

/// to = a^T b with the product summed over the query heads that share a head of `to`.
void gradient_of_shared(CudnnGraph& graph, Id a, Id b, Id to)
{
    auto const left = transposed(graph, a, CUDNN_DATA_BFLOAT16);
    if (graph.dims(b)[1] == graph.dims(to)[1]) return graph.product(left, b, to);
    auto dims = graph.dims(to);
    dims[1] = graph.dims(b)[1];
    auto const each_head = graph.passing(CUDNN_DATA_BFLOAT16, dims);
    graph.product(left, b, each_head);
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, each_head, to);
}

Ids backward(CudnnGraph& graph, AttentionProblem const& p)
{
    auto const& s = p.shape;
    Dims const per_row{s.batch, s.heads, s.seq, 1};
    Ids ids{};
    ids.q = matrix(graph, s, s.heads, s.qk_dim, p.q);
    ids.k = transposed_matrix(graph, s, s.kv_heads, s.qk_dim, p.k);
    ids.v = transposed_matrix(graph, s, s.kv_heads, s.v_dim, p.v);
    ids.o = matrix(graph, s, s.heads, s.v_dim, p.o);
    ids.log_sum = graph.bound(CUDNN_DATA_FLOAT, per_row, {std::int64_t{s.heads} * s.seq, s.seq, 1, 1});
    ids.d_o = matrix(graph, s, s.heads, s.v_dim, p.d_o);
    ids.d_q = matrix(graph, s, s.heads, s.qk_dim, p.d_q);
    ids.d_k = matrix(graph, s, s.kv_heads, s.qk_dim, p.d_k);
    ids.d_v = matrix(graph, s, s.kv_heads, s.v_dim, p.d_v);
    auto const scale = graph.number(s.scale);

    // rowsum(dO O). The product with 1 is where dropout would scale: the pattern wants it, and these strides of what is
    // never in memory are cudnn_frontend's.
    auto const row_sum = graph.passing(CUDNN_DATA_FLOAT, per_row), shift = graph.workspace(per_row);
    std::int64_t const heads = s.heads, seq = s.seq, width = s.v_dim;
    auto const d_o_o =
        graph.passing(CUDNN_DATA_FLOAT, graph.dims(ids.o), {heads * seq * width, seq * width, heads * width, 1});
    graph.point(CUDNN_POINTWISE_MUL, ids.d_o, ids.o, d_o_o);
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, d_o_o, row_sum);
    graph.point(CUDNN_POINTWISE_MUL, row_sum, graph.number(1), shift);

    auto scores = graph.point_new(CUDNN_POINTWISE_MUL, scores_of(graph, ids.q, ids.k), scale);
    scores = graph.point_new(CUDNN_POINTWISE_SUB, scores, ids.log_sum);
    if (s.causal) scores = graph.causal(scores);
    auto const probabilities = graph.point_new(CUDNN_POINTWISE_EXP, scores);
    gradient_of_shared(graph, probabilities, ids.d_o, ids.d_v);

    auto d_scores = graph.point_new(CUDNN_POINTWISE_SUB, scores_of(graph, ids.d_o, ids.v), shift);
    d_scores = graph.point_new(CUDNN_POINTWISE_MUL, d_scores, probabilities);
    d_scores = graph.point_new(CUDNN_POINTWISE_MUL, d_scores, scale);
    gradient_of_shared(graph, d_scores, ids.q, ids.d_k);

    auto const k = transposed(graph, ids.k, CUDNN_DATA_FLOAT);
    if (s.deterministic) { // dQ in one go, after dS went through the workspace: 2 batch heads seq^2 bytes
        graph.product(d_scores, k, ids.d_q);
    } else { // blocks of keys add to dQ in fp32, in the order in which they finish
        auto const added_up = graph.workspace(graph.dims(ids.d_q));
        graph.product(d_scores, k, added_up);
        graph.point(CUDNN_POINTWISE_IDENTITY, added_up, ids.d_q);
    }
    return ids;
}

class RawPlan final : public AttentionPlan {
public:
    RawPlan(AttentionProblem const& problem, CudnnGraph&& graph, Ids const& ids, AttentionTarget const& target)
        : backward_{problem.backward}, ids_{ids}, plan_{std::move(graph), target.handle, target.device_json}
    {
    }

    [[nodiscard]] std::size_t workspace_bytes() const override { return plan_.workspace_bytes(); }
    [[nodiscard]] std::string engine() const override { return plan_.engine(); }

    void run(cudnnContext* handle, AttentionMemory const& m, void* workspace) const override
    {
        std::array<std::pair<Id, void*>, 9> const addresses{{{ids_.q, m.q},
                                                             {ids_.k, m.k},
                                                             {ids_.v, m.v},
                                                             {ids_.o, m.o},
                                                             {ids_.log_sum, m.log_sum},
                                                             {ids_.d_o, m.d_o},
                                                             {ids_.d_q, m.d_q},
                                                             {ids_.d_k, m.d_k},
                                                             {ids_.d_v, m.d_v}}};
        plan_.run(handle, std::span{addresses}.first(backward_ ? 9 : 5), workspace);
    }

private:
    bool backward_;
    Ids ids_;
    CudnnPlan plan_;
};

} // namespace

std::unique_ptr<AttentionPlan> plan_attention_raw(AttentionProblem const& problem, AttentionTarget const& target)
{
    try {
        require_supported(problem);
        // Older ones miscompute some of these shapes (backward, seq not a multiple of 128), says cudnn_frontend.
        if (cudnnGetVersion() < 91600) throw Unsupported("cuDNN 9.16 or newer is needed");
        CudnnGraph graph;
        auto const ids = problem.backward ? backward(graph, problem) : forward(graph, problem);
        return std::make_unique<RawPlan>(problem, std::move(graph), ids, target);
    } catch (Unsupported const& refusal) {
        throw Unsupported("attention " + describe(problem) + ": " + refusal.what());
    }
}

} // namespace trainfare::kernels::cuda
