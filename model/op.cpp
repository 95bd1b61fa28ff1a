// SPDX-License-Identifier: Apache-2.0
//
// Names of operations, and the class of the published layer trace that each belongs to.
#include "model/op.hpp"

namespace trainfare {

OpClass class_of(Op const& op)
{
    bool const weights = op.pass == Pass::wgrad;
    switch (op.kind) {
    case OpKind::gemm: return weights ? OpClass::wgrad : OpClass::dense_gemm;
    case OpKind::expert_gemm: return weights ? OpClass::wgrad : OpClass::expert_gemm;
    case OpKind::router: return weights ? OpClass::wgrad : OpClass::router;
    case OpKind::head: return weights ? OpClass::wgrad : OpClass::head;
    case OpKind::attention:
        return op.pass == Pass::forward || op.pass == Pass::recompute ? OpClass::attention_forward
                                                                      : OpClass::attention_backward;
    case OpKind::cast: return OpClass::cast;
    case OpKind::permute:
    case OpKind::unpermute: return OpClass::permute;
    case OpKind::embedding:
    case OpKind::residual:
    case OpKind::gate:
    case OpKind::cross_entropy: return OpClass::elementwise;
    case OpKind::norm: return OpClass::norm;
    case OpKind::activation: return OpClass::activation;
    case OpKind::rope: return OpClass::rope;
    case OpKind::optimizer: return OpClass::optimizer;
    case OpKind::tp_collective:
    case OpKind::cp_exchange: return OpClass::tensor_parallel;
    case OpKind::dispatch:
    case OpKind::combine:
    case OpKind::pp_send:
    case OpKind::dp_reduce_scatter:
    case OpKind::dp_all_gather: return OpClass::communication;
    }
    return OpClass::elementwise;
}

std::string_view name(OpKind kind)
{
    switch (kind) {
    case OpKind::gemm: return "gemm";
    case OpKind::expert_gemm: return "expert_gemm";
    case OpKind::router: return "router";
    case OpKind::head: return "head";
    case OpKind::attention: return "attention";
    case OpKind::embedding: return "embedding";
    case OpKind::norm: return "norm";
    case OpKind::rope: return "rope";
    case OpKind::activation: return "activation";
    case OpKind::residual: return "residual";
    case OpKind::cast: return "cast";
    case OpKind::permute: return "permute";
    case OpKind::unpermute: return "unpermute";
    case OpKind::gate: return "gate";
    case OpKind::cross_entropy: return "cross_entropy";
    case OpKind::optimizer: return "optimizer";
    case OpKind::dispatch: return "dispatch";
    case OpKind::combine: return "combine";
    case OpKind::tp_collective: return "tp_collective";
    case OpKind::cp_exchange: return "cp_exchange";
    case OpKind::pp_send: return "pp_send";
    case OpKind::dp_reduce_scatter: return "dp_reduce_scatter";
    case OpKind::dp_all_gather: return "dp_all_gather";
    }
    return "?";
}

std::string_view name(Pass pass)
{
    switch (pass) {
    case Pass::forward: return "forward";
    case Pass::dgrad: return "dgrad";
    case Pass::wgrad: return "wgrad";
    case Pass::recompute: return "recompute";
    case Pass::update: return "update";
    }
    return "?";
}

std::string_view name(OpClass kind)
{
    switch (kind) {
    case OpClass::expert_gemm: return "expert_gemm";
    case OpClass::wgrad: return "wgrad";
    case OpClass::dense_gemm: return "dense_gemm";
    case OpClass::attention_backward: return "attention_backward";
    case OpClass::attention_forward: return "attention_forward";
    case OpClass::cast: return "cast";
    case OpClass::permute: return "permute";
    case OpClass::elementwise: return "elementwise";
    case OpClass::norm: return "norm";
    case OpClass::activation: return "activation";
    case OpClass::rope: return "rope";
    case OpClass::router: return "router";
    case OpClass::head: return "head";
    case OpClass::optimizer: return "optimizer";
    case OpClass::launch: return "launch";
    case OpClass::tensor_parallel: return "tensor_parallel";
    case OpClass::communication: return "communication";
    case OpClass::count: break;
    }
    return "?";
}

} // namespace trainfare
