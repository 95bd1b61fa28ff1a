// SPDX-License-Identifier: Apache-2.0
//
// From the model's operations to points. The model says what an operation bound by memory moves, in bytes; here it gets
// back the rows and the width that its kernel is called with.
#include <cmath>
#include <cstring>

#include "calibrate/run/points_internal.hpp"
#include "model/ops.hpp"

namespace trainfare::measure {

namespace {

bool is_product(Op const& op) { return is_matrix(op.kind) && op.kind != OpKind::attention; }

Point moving(Op op, std::string method, std::int64_t rows, std::int64_t width, std::int64_t third = 0)
{
    bool const quantises = method.find("quantise") != std::string::npos;
    if (!quantises) op.precision = Precision::bf16; // the same kernel under every recipe
    if (op.pass == Pass::recompute) op.pass = Pass::forward;
    op.m = rows, op.n = width, op.k = third;
    Point p;
    p.group = Group::memory, p.method = std::move(method), p.op = op;
    return p;
}

std::int64_t rows_of(double elements, std::int64_t width)
{
    return std::llround(elements / static_cast<double>(width));
}

/// The product that a cast or an activation feeds, or that fed it.
Op const* neighbour(std::vector<Op> const& ops, std::size_t i, int step)
{
    for (auto at = static_cast<std::ptrdiff_t>(i) + step; at >= 0 && at < std::ssize(ops); at += step)
        if (is_product(ops[static_cast<std::size_t>(at)])) return &ops[static_cast<std::size_t>(at)];
    return nullptr;
}

/// Norms beside the residual sum run as one kernel, which each of the two operations gets a share of, by its bytes.
Point norm_or_residual(std::vector<Op> const& ops, std::size_t i, BlockContext const& c)
{
    Op const& op = ops[i];
    bool const backward = op.pass == Pass::dgrad;
    // forward: residual, norm; backward: norm, residual
    bool const norm_here = op.kind == OpKind::norm;
    std::ptrdiff_t const other = static_cast<std::ptrdiff_t>(i) + ((norm_here == backward) ? 1 : -1);
    auto const wanted = norm_here ? OpKind::residual : OpKind::norm;
    bool const pair = other >= 0 && other < std::ssize(ops) && ops[static_cast<std::size_t>(other)].kind == wanted &&
                      ops[static_cast<std::size_t>(other)].pass == op.pass;
    std::int64_t const hidden = c.model->hidden;
    if (norm_here && std::strcmp(op.name, "latent_norm") == 0) {
        auto const& latent = *c.layer->attention.latent;
        std::int64_t const q = latent.q_rank.value_or(0), width = q + latent.kv_rank;
        return moving(op, backward ? "latent_norm_backward" : "latent_norm",
                      rows_of(op.bytes.value() / (backward ? 6 : 4), width), width, q);
    }
    double const elements = op.bytes.value() / (norm_here && !backward ? 4 : 6);
    if (!pair) {
        auto const method = !norm_here ? "add" : backward ? "rms_norm_backward" : "rms_norm";
        return moving(op, method, rows_of(elements, hidden), hidden);
    }
    Point p = moving(op, backward ? "rms_norm_backward_add" : "add_rms_norm", rows_of(elements, hidden), hidden);
    p.share = op.bytes.value() / (op.bytes + ops[static_cast<std::size_t>(other)].bytes).value();
    return p;
}

Point rope(Op const& op, BlockContext const& c)
{
    auto const& a = c.layer->attention;
    bool const backward = op.pass == Pass::dgrad;
    int const heads = a.heads / c.plan->tp;
    std::int64_t const dim = a.latent ? a.latent->rope_dim : a.qk_dim;
    auto const rows = rows_of(op.bytes.value() / 6, heads * dim);
    Point p = moving(
        op, a.latent ? (backward ? "latent_heads_backward" : "latent_heads") : (backward ? "rope_backward" : "rope"),
        rows, a.latent ? a.latent->nope_dim : 0, dim);
    p.op.batch = c.plan->micro_batch, p.op.seq = c.plan->seq_len;
    p.op.heads = heads, p.op.kv_heads = std::max(1, a.kv_heads / c.plan->tp);
    p.op.qk_dim = a.qk_dim, p.op.v_dim = a.v_dim;
    return p;
}

std::optional<Point> activation(std::vector<Op> const& ops, std::size_t i, BlockContext const& c)
{
    Op const& op = ops[i];
    bool const backward = op.pass == Pass::dgrad;
    Op const* down =
        neighbour(ops, i, backward ? -1 : 1); // dx of the down-projection came before; forward it comes next
    if (down == nullptr) return {};
    std::int64_t const rows = down->m * down->groups, width = backward ? down->n : down->k;
    char const* method = backward ? "swiglu_backward" : is_quantised(op.precision) ? "swiglu_quantise" : "swiglu";
    return moving(op, c.layer->ffn.gated ? method : "activation_without_gate", rows, width);
}

std::optional<Point> cast(std::vector<Op> const& ops, std::size_t i, BlockContext const& c)
{
    Op const& op = ops[i];
    if (std::strcmp(op.name, "quantise_dispatch") == 0) {
        double const each = 2 + size_of(gemm_dtype(op.precision)).value() + scale_bytes_per_element(op.precision);
        return moving(op, "quantise", rows_of(op.bytes.value() / each, c.model->hidden), c.model->hidden);
    }
    Op const* product = neighbour(ops, i, 1);
    if (product == nullptr) return {};
    if (op.pass == Pass::wgrad) return moving(op, "transpose_quantised", product->k * product->groups, product->n);
    std::int64_t const rows = product->m * product->groups, width = product->k;
    if (op.pass != Pass::dgrad) return moving(op, "quantise", rows, width);
    // the gradient arrives as bf16 and is read once for both copies, or arrives quantised and is transposed
    bool const arrives_quantised = op.bytes.value() < 3 * static_cast<double>(rows) * static_cast<double>(width);
    return moving(op, arrives_quantised ? "transpose_quantised" : "quantise_both", rows, width);
}

/// Rows in the order of experts (m) and rows as they were received (k), one for each token and GPU that it reached.
std::optional<Point> permutation(Op const& op, BlockContext const& c)
{
    auto const& e = *c.layer->ffn.experts;
    auto const& plan = *c.plan;
    std::int64_t const tokens = static_cast<std::int64_t>(plan.micro_batch) * plan.seq_len;
    std::int64_t const sent = plan.tp > 1 ? tokens / plan.tp : tokens; // sequence parallel, or split for the exchange
    std::int64_t const all = sent * e.top_k * plan.etp, hidden = c.model->hidden;
    bool const quantised = op.kind == OpKind::permute && is_quantised(plan.precision);
    double const each = quantised ? 1 + scale_bytes_per_element(plan.precision) : 2;
    std::int64_t const received = std::max<std::int64_t>(1, rows_of(op.bytes.value() / each, hidden) - all);
    if (op.kind == OpKind::unpermute) return moving(op, "combine_rows", all, hidden, received);
    return moving(op, quantised ? "gather_quantised" : "gather_rows", all, hidden, received);
}

} // namespace

std::optional<Point> point_of(std::vector<Op> const& ops, std::size_t i, BlockContext const& c)
{
    Op const& op = ops[i];
    Point p;
    p.op = op;
    std::int64_t const vocab = c.model->vocab / c.plan->tp;
    std::int64_t const tokens =
        static_cast<std::int64_t>(c.plan->micro_batch) * c.plan->seq_len / (c.plan->sp ? c.plan->tp : 1);
    switch (op.kind) {
    case OpKind::gemm:
    case OpKind::router:
    case OpKind::head: p.group = Group::dense, p.method = "gemm"; return p;
    case OpKind::expert_gemm: p.group = Group::experts, p.method = "grouped_gemm"; return p;
    case OpKind::attention: {
        if (op.flops.value() == 0) return {}; // row sums and conversions: inside the backward kernel's call
        bool const whole =
            std::abs(op.keys - mean_keys(Attention{}, static_cast<int>(op.seq), true)) < 0.01 && op.v_dim > 0;
        p.group = Group::attention, p.method = whole ? "attention" : "windowed_attention";
        return p;
    }
    case OpKind::norm:
    case OpKind::residual: return norm_or_residual(ops, i, c);
    case OpKind::rope: return rope(op, c);
    case OpKind::activation: return activation(ops, i, c);
    case OpKind::cast: return cast(ops, i, c);
    case OpKind::gate: {
        auto const& e = *c.layer->ffn.experts;
        p = moving(op, op.pass == Pass::dgrad ? "gate_backward" : "gate", tokens, e.count, e.top_k);
        p.op.groups = e.groups, p.op.kv_heads = e.top_groups;
        return p;
    }
    case OpKind::permute:
    case OpKind::unpermute: return permutation(op, c);
    case OpKind::embedding:
        return moving(op, op.pass == Pass::dgrad ? "embedding_backward" : "embedding", tokens, c.model->hidden, vocab);
    case OpKind::cross_entropy: return moving(op, "cross_entropy", rows_of(op.bytes.value() / 4, vocab), vocab);
    case OpKind::optimizer: return moving(op, "adamw", 0, 0); // optimizer_points() knows the sizes
    default: return {};                                       // communication
    }
}

std::vector<Point> model_points(Architecture const& model, Plan const& plan)
{
    std::vector<Point> out;
    std::set<std::string> seen;
    auto add = [&](Block block, Layer const* layer) {
        BlockContext const context{&model, &plan, layer};
        auto const ops = block_ops(model, plan, block);
        for (auto const* list : {&ops.forward, &ops.backward, &ops.weight_ffn, &ops.weight_attention})
            for (std::size_t i = 0; i < list->size(); ++i)
                if (auto p = point_of(*list, i, context); p && seen.insert(p->key()).second)
                    out.push_back(*std::move(p));
    };
    add({Block::Kind::embedding, 0}, nullptr);
    for (std::size_t i = 0; i < model.layers.size(); ++i)
        add({Block::Kind::layer, static_cast<int>(i)}, &model.layers[i]);
    for (std::size_t i = 0; i < model.mtp.size(); ++i) add({Block::Kind::mtp, static_cast<int>(i)}, &model.mtp[i]);
    add({Block::Kind::head, 0}, nullptr);
    return out;
}

} // namespace trainfare::measure
