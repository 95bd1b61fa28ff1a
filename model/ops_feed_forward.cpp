// SPDX-License-Identifier: Apache-2.0
//
// The feed-forward part of one layer: dense MLP, or router, dispatch, experts and combine with the shared expert beside
// them.
//
// Rows: a GPU's tokens are sent to top_k experts each, so a balanced group gives every GPU tokens x top_k rows (x ETP,
// whose ranks share the same rows). How uneven loads stretch this is not known here; sim/ applies it.
#include <algorithm>

#include "model/op_builder.hpp"
#include "model/routing.hpp"

namespace trainfare {
namespace {

struct Mlp {
    Linear up, down;
    double width = 0; // this GPU's share of the inner width
    bool gated = true;
};

Mlp mlp(std::int64_t hidden, std::int64_t width, bool gated, int shards, int groups, OpKind kind, char const* up,
        char const* down)
{
    std::int64_t const share = width / shards;
    return {{up, share * (gated ? 2 : 1), hidden, groups, kind},
            {down, hidden, share, groups, kind},
            static_cast<double>(share),
            gated};
}

/// SwiGLU (or GELU): reads the up-projection's output, writes the down-projection's input, quantised on the way out.
double activation_bytes_moved(Precision p, Mlp const& m, double rows, Pass pass)
{
    double const in = rows * m.width * (m.gated ? 2 : 1), out = rows * m.width;
    if (pass == Pass::dgrad) return 2 * (2 * in + out); // inputs, incoming gradient, outgoing gradients: bf16
    return 2 * in + (is_quantised(p) ? quantised_bytes(p, out) : 2 * out);
}

void mlp_forward(OpBuilder const& b, std::vector<Op>& ops, Mlp const& m, std::int64_t rows, bool x_quantised, Pass pass)
{
    double const total = static_cast<double>(rows) * m.up.groups;
    b.forward(ops, m.up, rows, x_quantised, pass);
    ops.push_back(
        b.moves(OpKind::activation, pass, "activation", activation_bytes_moved(b.plan.precision, m, total, pass)));
    b.forward(ops, m.down, rows, true, pass); // the activation kernel has quantised its output
}

void mlp_backward(OpBuilder const& b, std::vector<Op>& ops, Mlp const& m, std::int64_t rows, bool dy_quantised,
                  bool redo_activation)
{
    double const total = static_cast<double>(rows) * m.up.groups;
    if (redo_activation)
        ops.push_back(b.moves(OpKind::activation, Pass::recompute, "activation",
                              activation_bytes_moved(b.plan.precision, m, total, Pass::recompute)));
    b.dgrad(ops, m.down, rows, dy_quantised);
    ops.push_back(b.moves(OpKind::activation, Pass::dgrad, "activation",
                          activation_bytes_moved(b.plan.precision, m, total, Pass::dgrad)));
    b.dgrad(ops, m.up, rows);
}

void mlp_weight(OpBuilder const& b, std::vector<Op>& ops, Mlp const& m, std::int64_t rows)
{
    b.wgrad(ops, m.down, rows);
    b.wgrad(ops, m.up, rows);
}

PartOps dense(OpBuilder const& b, FeedForward const& f)
{
    auto const m = mlp(b.arch.hidden, f.width, f.gated, b.plan.tp, 1, OpKind::gemm, "ffn_up", "ffn_down");
    auto const& keep = b.plan.recompute;
    double const x = static_cast<double>(b.own_tokens) * b.arch.hidden;
    PartOps ops;
    auto all = [&](std::vector<Op>& list, Pass pass) {
        b.norm(list, pass, "ffn_norm", x);
        b.tensor_parallel(list, pass, "tp_gather_ffn");
        mlp_forward(b, list, m, b.tokens, false, pass);
        b.tensor_parallel(list, pass, "tp_scatter_ffn");
    };
    b.residual(ops.forward, Pass::forward, "residual_attention");
    all(ops.forward, Pass::forward);

    bool const redo = keep.kind == RecomputeKind::full || keep.mlp;
    if (redo)
        all(ops.backward, Pass::recompute);
    else if (keep.norm)
        b.norm(ops.backward, Pass::recompute, "ffn_norm", x);
    b.tensor_parallel(ops.backward, Pass::dgrad, "tp_gather_ffn");
    mlp_backward(b, ops.backward, m, b.tokens, false, keep.moe_act && !redo);
    b.tensor_parallel(ops.backward, Pass::dgrad, "tp_scatter_ffn");
    b.norm(ops.backward, Pass::dgrad, "ffn_norm", x);
    b.residual(ops.backward, Pass::dgrad, "residual_attention");
    mlp_weight(b, ops.weight, m, b.tokens);
    return ops;
}

/// One copy of every token of this GPU on the wire.
Op exchange(OpBuilder const& b, OpKind kind, Pass pass, double tokens, DType dtype)
{
    Op op = b.moves(kind, pass, kind == OpKind::dispatch ? "dispatch" : "combine", 0);
    double const scales = dtype == DType::fp8 ? 4.0 / 128 : 0; // one fp32 per 128 elements travels along
    op.payload = Bytes{tokens * b.arch.hidden * (size_of(dtype).value() + scales)};
    return op;
}

PartOps experts(OpBuilder const& b, FeedForward const& f)
{
    auto const& e = *f.experts;
    auto const& plan = b.plan;
    auto const& keep = plan.recompute;
    auto const sent = static_cast<double>(plan.ep * plan.etp > 1 && plan.tp > 1 ? b.tokens / plan.tp : b.own_tokens);
    int const local = e.count / plan.ep;
    auto const rows = static_cast<std::int64_t>(sent * e.top_k * plan.etp); // on this GPU, all local experts
    auto const per_expert = std::max<std::int64_t>(1, rows / local);
    double const h = b.arch.hidden, all_rows = static_cast<double>(rows);
    bool const fp8_dispatch = plan.dispatch_dtype == DType::fp8 && is_quantised(plan.precision);
    double const wire = fp8_dispatch ? quantised_bytes(plan.precision, 1) : 2.0; // bytes per element as received
    double const copies = plan.ep == 1 ? 1 : expected_reach(e, plan.ep, 1).gpus; // received copies per sent token

    auto const m =
        mlp(b.arch.hidden, e.width, f.gated, plan.etp, local, OpKind::expert_gemm, "expert_up", "expert_down");
    Linear const router{"router", e.count, b.arch.hidden, 1, OpKind::router, false};
    int const beside = e.shared_width > 0 ? e.shared_width : f.residual_width;
    auto const shared = mlp(b.arch.hidden, beside, f.gated, plan.tp, 1, OpKind::gemm, "shared_up", "shared_down");
    double const x = static_cast<double>(b.own_tokens) * h;
    double const scores = static_cast<double>(b.own_tokens) * e.count;

    // Received copies are laid out expert by expert; on the way back, rows of one token are summed to one copy.
    double const permute_bytes = (sent * copies + all_rows) * h * wire;
    double const unpermute_bytes = (sent * copies + all_rows) * h * 2;
    int const gate_kernels = 15; // small tensor kernels of the published trace: scores, groups, top-k, counts, weights
    double const gate_bytes = gate_kernels * 8 * scores;

    auto before = [&](std::vector<Op>& list, Pass pass) {
        b.norm(list, pass, "ffn_norm", x);
        b.forward(list, router, b.own_tokens, false, pass);
        list.push_back(b.moves(OpKind::gate, pass, "gate", gate_bytes, gate_kernels));
        if (fp8_dispatch) list.push_back(b.moves(OpKind::cast, pass, "quantise_dispatch", sent * h * (2 + wire)));
    };
    auto routed = [](std::vector<Op>& list, auto const& add) { // marks what it adds as work on routed rows
        auto const first = list.size();
        add();
        for (auto i = first; i < list.size(); ++i) list[i].routed = true;
    };
    auto inside = [&](std::vector<Op>& list, Pass pass) {
        if (beside > 0) mlp_forward(b, list, shared, b.tokens, fp8_dispatch, pass);
        routed(list, [&] {
            list.push_back(b.moves(OpKind::permute, pass, "permute", permute_bytes));
            mlp_forward(b, list, m, per_expert, fp8_dispatch, pass);
        });
    };
    auto move = [&](std::vector<Op>& list, OpKind kind, Pass pass, DType dtype) {
        if (plan.ep * plan.etp > 1) list.push_back(exchange(b, kind, pass, sent, dtype));
    };

    PartOps ops;
    b.residual(ops.forward, Pass::forward, "residual_attention");
    before(ops.forward, Pass::forward);
    move(ops.forward, OpKind::dispatch, Pass::forward, plan.dispatch_dtype);
    inside(ops.forward, Pass::forward);
    routed(ops.forward,
           [&] { ops.forward.push_back(b.moves(OpKind::unpermute, Pass::forward, "unpermute", unpermute_bytes)); });
    move(ops.forward, OpKind::combine, Pass::forward, plan.combine_dtype);

    bool const redo = keep.kind == RecomputeKind::full || keep.moe;
    if (redo) { // the whole expert path again, its dispatch included (its combine is not needed)
        before(ops.backward, Pass::recompute);
        move(ops.backward, OpKind::dispatch, Pass::recompute, plan.dispatch_dtype);
        inside(ops.backward, Pass::recompute);
    }
    // Gradients of the combined output go to the experts (backward of combine) and come back (backward of dispatch).
    if (fp8_dispatch)
        ops.backward.push_back(b.moves(OpKind::cast, Pass::dgrad, "quantise_dispatch", sent * h * (2 + wire)));
    move(ops.backward, OpKind::dispatch, Pass::dgrad, plan.dispatch_dtype);
    routed(ops.backward, [&] {
        ops.backward.push_back(b.moves(OpKind::permute, Pass::dgrad, "permute", permute_bytes));
        mlp_backward(b, ops.backward, m, per_expert, fp8_dispatch, keep.moe_act && !redo);
        ops.backward.push_back(b.moves(OpKind::unpermute, Pass::dgrad, "unpermute", unpermute_bytes));
    });
    move(ops.backward, OpKind::combine, Pass::dgrad, plan.combine_dtype);
    if (keep.norm && !redo) b.norm(ops.backward, Pass::recompute, "ffn_norm", x);
    if (beside > 0) mlp_backward(b, ops.backward, shared, b.tokens, false, keep.moe_act && !redo);
    ops.backward.push_back(b.moves(OpKind::gate, Pass::dgrad, "gate", gate_bytes, gate_kernels));
    ops.backward.push_back(b.product(router, Pass::dgrad, b.own_tokens));
    b.norm(ops.backward, Pass::dgrad, "ffn_norm", x);
    b.residual(ops.backward, Pass::dgrad, "residual_attention");

    routed(ops.weight, [&] { mlp_weight(b, ops.weight, m, per_expert); });
    if (beside > 0) mlp_weight(b, ops.weight, shared, b.tokens);
    ops.weight.push_back(b.product(router, Pass::wgrad, b.own_tokens));
    return ops;
}

} // namespace

PartOps feed_forward_ops(OpBuilder const& b, Layer const& layer)
{
    return layer.is_moe() ? experts(b, layer.ffn) : dense(b, layer.ffn);
}

} // namespace trainfare
