// SPDX-License-Identifier: Apache-2.0
//
// Attention plans through NVIDIA's header-only cudnn_frontend. It takes one or two minutes and 3 GB to compile, so
// nothing else is in this file. Programs built without the headers have plan_attention_raw() alone.
#include "kernels/cuda/attention.hpp"

#ifdef TRAINFARE_CUDNN_FRONTEND

#include <cudnn_frontend.h>

#include <unordered_map>
#include <vector>

#include "model/error.hpp"

namespace trainfare::kernels::cuda {

namespace {

namespace fe = cudnn_frontend;
using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : std::int64_t { id_q = 1, id_k, id_v, id_o, id_log_sum, id_d_o, id_d_q, id_d_k, id_d_v };

// cudnn_frontend's error is read through non-const members, hence by value.
void check(fe::error_t error, char const* what, AttentionProblem const& problem)
{
    if (error.is_good()) return;
    auto const text = std::string{what} + " for attention " + describe(problem) + ": " + error.get_message();
    if (error.get_code() == fe::error_code_t::GRAPH_NOT_SUPPORTED ||
        error.get_code() == fe::error_code_t::HEURISTIC_QUERY_FAILED ||
        error.get_code() == fe::error_code_t::GRAPH_EXECUTION_PLAN_CREATION_FAILED)
        throw Unsupported(text);
    throw InternalError(text);
}

/// [batch, heads, seq, width] over rows of @p pitch elements.
Attributes set_layout(Attributes const& tensor, Uid uid, AttentionShape const& s, int heads, int width,
                      std::int64_t pitch)
{
    tensor->set_uid(uid).set_dim({s.batch, heads, s.seq, width}).set_stride({s.seq * pitch, width, pitch, 1});
    return tensor;
}

Attributes set_log_sum(Attributes const& tensor, AttentionShape const& s)
{
    std::int64_t const seq = s.seq, per_batch = s.heads * seq;
    tensor->set_uid(id_log_sum).set_dim({s.batch, s.heads, seq, 1}).set_stride({per_batch, seq, 1, 1});
    tensor->set_data_type(fe::DataType_t::FLOAT);
    return tensor;
}

Attributes fresh() { return std::make_shared<fe::graph::Tensor_attributes>(); }

void add_forward(fe::graph::Graph& graph, AttentionProblem const& p)
{
    auto const& s = p.shape;
    fe::graph::SDPA_attributes attributes;
    attributes.set_name("attention").set_generate_stats(true).set_attn_scale(s.scale);
    if (s.causal) attributes.set_causal_mask(true);
    auto const q = graph.tensor(*set_layout(fresh(), id_q, s, s.heads, s.qk_dim, p.q));
    auto const k = graph.tensor(*set_layout(fresh(), id_k, s, s.kv_heads, s.qk_dim, p.k));
    auto const v = graph.tensor(*set_layout(fresh(), id_v, s, s.kv_heads, s.v_dim, p.v));
    auto const [o, log_sum] = graph.sdpa(q, k, v, attributes);
    set_layout(o, id_o, s, s.heads, s.v_dim, p.o)->set_output(true);
    set_log_sum(log_sum, s)->set_output(true);
}

void add_backward(fe::graph::Graph& graph, AttentionProblem const& p)
{
    auto const& s = p.shape;
    fe::graph::SDPA_backward_attributes attributes;
    attributes.set_name("attention_backward").set_attn_scale(s.scale).set_deterministic_algorithm(s.deterministic);
    if (s.causal) attributes.set_causal_mask(true);
    auto const q = graph.tensor(*set_layout(fresh(), id_q, s, s.heads, s.qk_dim, p.q));
    auto const k = graph.tensor(*set_layout(fresh(), id_k, s, s.kv_heads, s.qk_dim, p.k));
    auto const v = graph.tensor(*set_layout(fresh(), id_v, s, s.kv_heads, s.v_dim, p.v));
    auto const o = graph.tensor(*set_layout(fresh(), id_o, s, s.heads, s.v_dim, p.o));
    auto const d_o = graph.tensor(*set_layout(fresh(), id_d_o, s, s.heads, s.v_dim, p.d_o));
    auto const log_sum = graph.tensor(*set_log_sum(fresh(), s));
    auto const [d_q, d_k, d_v] = graph.sdpa_backward(q, k, v, o, d_o, log_sum, attributes);
    set_layout(d_q, id_d_q, s, s.heads, s.qk_dim, p.d_q)->set_output(true);
    set_layout(d_k, id_d_k, s, s.kv_heads, s.qk_dim, p.d_k)->set_output(true);
    set_layout(d_v, id_d_v, s, s.kv_heads, s.v_dim, p.d_v)->set_output(true);
}

class FrontendPlan final : public AttentionPlan {
public:
    FrontendPlan(AttentionProblem const& problem, AttentionTarget const& target) : problem_{problem}
    {
        graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT);
        if (target.handle == nullptr) describe_device(target.device_json);
        problem.backward ? add_backward(graph_, problem) : add_forward(graph_, problem);

        check(graph_.validate(), "validate", problem);
        check(target.handle != nullptr ? graph_.build_operation_graph(target.handle) : graph_.build_operation_graph(),
              "operation graph", problem);
        check(graph_.create_execution_plans({fe::HeurMode_t::A}), "heuristics", problem);
        check(graph_.check_support(), "support check", problem);
        if (target.handle != nullptr) check(graph_.build_plans(), "plan", problem);
    }

    [[nodiscard]] std::size_t workspace_bytes() const override
    {
        std::int64_t bytes = 0;
        check(graph_.get_workspace_size(bytes), "workspace", problem_);
        return static_cast<std::size_t>(bytes);
    }

    [[nodiscard]] std::string engine() const override
    {
        std::string name;
        auto const built = graph_.get_plan_name(name);
        if (built.is_bad())
            check(graph_.get_plan_name_at_index(0, name), "plan name", problem_); // none built: the best
        return name;
    }

    void run(cudnnContext* handle, AttentionMemory const& m, void* workspace) const override
    {
        std::unordered_map<std::int64_t, void*> addresses{
            {id_q, m.q}, {id_k, m.k}, {id_v, m.v}, {id_o, m.o}, {id_log_sum, m.log_sum}};
        if (problem_.backward) addresses.insert({{id_d_o, m.d_o}, {id_d_q, m.d_q}, {id_d_k, m.d_k}, {id_d_v, m.d_v}});
        check(graph_.execute(handle, addresses, workspace), "run", problem_);
    }

private:
    void describe_device(std::string const& json)
    {
        auto const device = std::make_shared<fe::DeviceProperties>();
        check(device->deserialize({json.begin(), json.end()}), "device properties", problem_);
        graph_.set_device_properties(device);
        graph_.set_sm_version(90); // the only description there is: a Hopper
    }

    AttentionProblem problem_;
    fe::graph::Graph graph_;
};

} // namespace

std::unique_ptr<AttentionPlan> plan_attention_frontend(AttentionProblem const& problem, AttentionTarget const& target)
{
    require_supported(problem);
    return std::make_unique<FrontendPlan>(problem, target);
}

} // namespace trainfare::kernels::cuda

#endif
