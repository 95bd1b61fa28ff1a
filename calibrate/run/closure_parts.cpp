// SPDX-License-Identifier: Apache-2.0
//
// The list of what the real step runs: the model's operations, with three differences. Rows travel to the experts
// through copies on this one GPU; the head works in chunks of rows; and each step also zeroes and sums gradients and
// quantises the weights.
#include <algorithm>
#include <cmath>

#include "calibrate/run/closure.hpp"
#include "calibrate/run/points_internal.hpp"
#include "model/ops.hpp"

namespace trainfare::measure {

namespace {

Point moved(char const* method, OpKind kind, Pass pass, Precision precision, std::int64_t m, std::int64_t n,
            std::int64_t k, double bytes)
{
    Point p;
    p.group = Group::closure, p.method = method;
    p.op.kind = kind, p.op.pass = pass, p.op.precision = precision, p.op.name = method;
    p.op.m = m, p.op.n = n, p.op.k = k;
    p.op.bytes = Bytes{bytes};
    return p;
}

Experts const* experts_of(Request const& r)
{
    for (auto const& layer : r.model.layers)
        if (layer.is_moe()) return &*layer.ffn.experts;
    return nullptr;
}

int layers_with_experts(Architecture const& model)
{
    return static_cast<int>(
        std::count_if(model.layers.begin(), model.layers.end(), [](Layer const& l) { return l.is_moe(); }));
}

void add_blocks(std::vector<StepPart>& parts, Architecture const& model, Plan const& plan, int head_rows)
{
    std::int64_t const tokens = static_cast<std::int64_t>(plan.micro_batch) * plan.seq_len;
    auto add_list = [&](std::vector<Op> const& ops, BlockContext const& context) {
        for (std::size_t i = 0; i < ops.size(); ++i) {
            if (ops[i].kind == OpKind::permute || ops[i].kind == OpKind::unpermute) continue; // exchange_parts()
            bool const dispatch = ops[i].name == std::string_view{"quantise_dispatch"};
            if (dispatch && ops[i].pass == Pass::dgrad) continue; // there, rows are quantised, not tokens
            auto p = point_of(ops, i, context);
            if (!p) continue;
            StepPart part{*p, 1, false};
            bool const chunked =
                (p->op.kind == OpKind::head || p->op.kind == OpKind::cross_entropy) && tokens > head_rows;
            if (chunked) {
                part.times = static_cast<double>(tokens) / head_rows;
                if (p->op.kind == OpKind::head)
                    part.point.op = with_rows(p->op, head_rows);
                else
                    part.point.op.bytes /= part.times, part.point.op.m = head_rows;
            }
            parts.push_back(part);
        }
    };
    auto add = [&](Block block, Layer const* layer) {
        BlockContext const context{&model, &plan, layer};
        auto const ops = block_ops(model, plan, block);
        for (auto const* list : {&ops.forward, &ops.backward, &ops.weight_ffn, &ops.weight_attention})
            add_list(*list, context);
    };
    add({Block::Kind::embedding, 0}, nullptr);
    for (std::size_t i = 0; i < model.layers.size(); ++i)
        add({Block::Kind::layer, static_cast<int>(i)}, &model.layers[i]);
    add({Block::Kind::head, 0}, nullptr);
}

} // namespace

Architecture closure_model(Request const& r)
{
    Architecture out = r.model;
    out.layers.clear(), out.mtp.clear();
    for (bool const with_experts : {true, false})
        for (auto const& layer : r.model.layers)
            if (layer.is_moe() == with_experts && out.layers.size() < 2 && (with_experts || experts_of(r) == nullptr))
                out.layers.push_back(layer);
    return out;
}

kernels::StepConfig step_config(Request const& r, Precision precision)
{
    kernels::StepConfig c;
    c.model = closure_model(r);
    c.seq_len = r.seq, c.micro_batch = r.micro_batch;
    c.precision = precision;
    c.moments = kernels::Element::bf16;
    c.emulated_ep = experts_of(r) != nullptr ? r.ep : 1;
    return c;
}

std::vector<StepPart> exchange_parts(Request const& r, Precision precision)
{
    auto const* e = experts_of(r);
    if (e == nullptr) return {};
    std::vector<StepPart> out;
    bool const fp8 = is_quantised(precision), travels = r.ep > 1;
    std::int64_t const tokens = static_cast<std::int64_t>(r.seq) * r.micro_batch, h = r.model.hidden,
                       rows = tokens * e->top_k;
    double const layers = layers_with_experts(closure_model(r)), each = fp8 ? 1 + 4.0 / 128 : 2;
    auto const n = static_cast<double>(rows) * static_cast<double>(h),
               t = static_cast<double>(tokens) * static_cast<double>(h);
    auto const gather = fp8 ? "gather_quantised" : "gather_rows";
    auto const wire = fp8 ? precision : Precision::bf16;
    auto add = [&](Point p, double times) { out.push_back({std::move(p), times * layers, false}); };
    add(moved(gather, OpKind::permute, Pass::forward, wire, rows, h, tokens, (n + t) * each), 1);
    add(moved("combine_rows", OpKind::unpermute, Pass::forward, Precision::bf16, rows, h, tokens, 2 * (n + t)),
        2); // and of gradients
    add(moved("combine_rows_backward", OpKind::permute, Pass::dgrad, Precision::bf16, rows, h, tokens, 2 * (2 * n + t)),
        1);
    if (!travels) return out;
    add(moved("copy_rows", OpKind::permute, Pass::forward, Precision::bf16, rows, fp8 ? h / 2 : h, 0,
              2 * n * (fp8 ? 1 : 2)),
        2);
    add(moved(gather, OpKind::permute, Pass::forward, wire, rows, h, rows, 2 * n * each),
        2); // into the order of experts
    add(moved("gather_rows", OpKind::unpermute, Pass::forward, Precision::bf16, rows, h, rows, 4 * n),
        2); // and out of it
    add(moved("copy_rows", OpKind::unpermute, Pass::forward, Precision::bf16, rows, h, 0, 4 * n), 2);
    if (fp8) add(moved("quantise", OpKind::cast, Pass::dgrad, precision, rows, h, 0, n * (2 + each)), 1);
    return out;
}

std::vector<StepPart> step_parts(Request const& r, Precision precision)
{
    auto const model = closure_model(r);
    auto const plan = r.plan(precision, static_cast<std::int64_t>(r.seq) * r.micro_batch);
    auto parts = exchange_parts(r, precision);
    add_blocks(parts, model, plan, step_config(r, precision).head_rows);

    std::vector<Block> blocks{{Block::Kind::embedding, 0}, {Block::Kind::head, 0}};
    for (int i = 0; i < static_cast<int>(model.layers.size()); ++i) blocks.push_back({Block::Kind::layer, i});
    auto const held = shard_parameters(model, plan, blocks);
    double const all = held.tensor + held.replicated + held.expert;
    auto update = [&](Point p) { parts.push_back({std::move(p), 1, true}); };
    Plan bf16_moments = plan;
    bf16_moments.moment_dtype = DType::bf16, bf16_moments.zero = 0;
    Point adam = moved("adamw_bf16_moments", OpKind::optimizer, Pass::update, Precision::bf16, 0, 0, 0, 0);
    adam.op.bytes = optimizer_op(bf16_moments, all, 0).bytes;
    update(adam);
    update(
        moved("hbm_read", OpKind::optimizer, Pass::update, Precision::bf16, 0, 0, 0, 4 * all)); // norm of the gradients
    parts.push_back({moved("hbm_write", OpKind::optimizer, Pass::update, Precision::bf16, 0, 0, 0, 4 * all), 1,
                     false});    // they start at 0
    if (is_quantised(precision)) // weights, once a step; embedding, head and router stay bf16
        parts.push_back(
            {moved("quantise_blocks", OpKind::cast, Pass::update, precision, 0, 0, 0, 4 * (all - held.tables)), 1,
             false});
    return parts;
}

} // namespace trainfare::measure
