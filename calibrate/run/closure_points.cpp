// SPDX-License-Identifier: Apache-2.0
//
// What the real step asks of a back-end, and points for the calls that no other point contains.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "calibrate/run/closure.hpp"
#include "calibrate/run/points_internal.hpp"
#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

namespace {

bool has_experts(Architecture const& model)
{
    return std::any_of(model.layers.begin(), model.layers.end(), [](Layer const& l) { return l.is_moe(); });
}

Point moved(char const* method, OpKind kind, Call const& call, std::int64_t m, std::int64_t n, std::int64_t k)
{
    Point p;
    p.method = method;
    p.op.kind = kind, p.op.name = method;
    p.op.m = m, p.op.n = n, p.op.k = k;
    p.op.bytes = Bytes{call.work};
    return p;
}

Point product(Call const& call)
{
    Point p;
    p.method = call.operation();
    auto& op = p.op;
    op.kind = p.method == "gemm" ? OpKind::gemm : OpKind::expert_gemm;
    bool const fp8 = call.kind.find("e4m3") != std::string::npos;
    op.precision = fp8 ? Precision::fp8_block : Precision::bf16;
    bool const weights = call.kind.ends_with("f32 bf16 bf16 +") || (fp8 && call.kind.ends_with("+"));
    op.pass = weights ? Pass::wgrad : call.kind.find(" nn ") != std::string::npos ? Pass::dgrad : Pass::forward;
    op.name = "product";
    op.m = call.sizes[0], op.n = call.sizes[1], op.k = call.sizes[2], op.groups = static_cast<int>(call.sizes[3]);
    op = with_rows(op, op.pass == Pass::wgrad ? op.k : op.m);
    return p;
}

/// A point that runs just this call; absent for operations that the model's own points always contain.
std::optional<Point> point_of(Call const& call)
{
    auto const what = call.operation();
    auto const& s = call.sizes;
    auto quantised = [](Point p) {
        p.op.precision = Precision::fp8_block;
        return p;
    };
    if (what == "transpose") return moved("transpose", OpKind::permute, call, s[0], s[1], 0);
    if (call.is_product()) return product(call);
    if (call.kind == "gather_rows e4m3")
        return quantised(moved("gather_quantised", OpKind::permute, call, s[0], s[1], s[0]));
    if (call.kind == "gather_rows i32") return moved("gather_ids", OpKind::permute, call, s[0], s[1], s[0]);
    if (call.kind == "gather_rows bf16") return moved("gather_rows", OpKind::permute, call, s[0], s[1], s[0]);
    if (what == "combine_rows") return moved("combine_rows", OpKind::unpermute, call, s[0] * s[2], s[1], s[0]);
    if (what == "combine_rows_backward")
        return moved("combine_rows_backward", OpKind::unpermute, call, s[0] * s[2], s[1], s[0]);
    if (what == "sort_rows") return moved("sort_rows", OpKind::gate, call, s[0], s[1], 0);
    if (call.kind == "copy") return moved("copy_rows", OpKind::permute, call, s[0] / 256, 128, 0);
    if (what == "rms_norm") return moved("rms_norm", OpKind::norm, call, s[0], s[1], 0);
    if (what == "cross_entropy") return moved("cross_entropy", OpKind::cross_entropy, call, s[0], s[1], 0);
    if (call.kind == "quantise both") return quantised(moved("quantise_both", OpKind::cast, call, s[0], s[1], 0));
    for (auto const* method : {"quantise", "quantise_blocks", "transpose_quantised"})
        if (what == method) return quantised(moved(method, OpKind::cast, call, s[0], s[1], 0));
    return {};
}

} // namespace

Architecture closure_model(Request const& r)
{
    Architecture out = r.model;
    out.layers.clear(), out.mtp.clear();
    bool const experts = has_experts(r.model);
    for (auto const& layer : r.model.layers)
        if (layer.is_moe() == experts && out.layers.size() < 2) out.layers.push_back(layer);
    return out;
}

kernels::StepConfig step_config(Request const& r, Precision precision)
{
    kernels::StepConfig c;
    c.model = closure_model(r);
    c.seq_len = r.seq, c.micro_batch = r.micro_batch;
    c.precision = precision;
    c.moments = kernels::Element::bf16;
    c.emulated_ep = has_experts(r.model) ? r.ep : 1;
    return c;
}

StepInput step_input(kernels::StepConfig const& config)
{
    StepInput in;
    std::int64_t const count = static_cast<std::int64_t>(config.micro_batch) * (config.seq_len + 1);
    for (std::int64_t i = 0; i < count; ++i)
        in.tokens.push_back(static_cast<std::int32_t>(pick(11, i, config.model.vocab)));
    in.routing = kernels::make_routing(config, 0, 1);
    return in;
}

StepCalls step_calls(Request const& r, Precision precision)
{
    auto const config = step_config(r, precision);
    if (auto const reasons = kernels::check(config, 1); !reasons.empty()) throw kernels::Unsupported(reasons.front());
    CallLog log;
    auto const world = kernels::make_solo_communicator(log);
    kernels::Trainer trainer{log, *world, config};
    auto const in = step_input(config);
    log.calls.clear();
    log.records.clear();
    static_cast<void>(trainer.step(in.tokens, &in.routing));
    if (log.records.size() != 3) throw InternalError("the step does not mark its begin, its middle and its end");
    auto const part = [&](std::size_t i) {
        auto const at = [&](std::size_t j) { return log.calls.begin() + static_cast<std::ptrdiff_t>(log.records[j]); };
        return std::vector<Call>(at(i), at(i + 1));
    };
    return {part(0), part(1)};
}

std::vector<Call> calls_of(Point const& p)
{
    if (p.method.starts_with("step") || p.method == "mix" || p.method == "windowed_attention") return {};
    CallLog log;
    try {
        auto const subject = make_subject(log, p, {0, 0, 1});
        log.calls.clear();
        subject.instances.front().run();
    } catch (kernels::Unsupported const&) {
        return {};
    }
    return log.calls;
}

std::vector<Point> closure_points(Request const& r, Precision precision)
{
    StepCalls step;
    try {
        step = step_calls(r, precision);
    } catch (kernels::Unsupported const&) {
        return {}; // the row of the step itself will say so
    }
    std::set<Call> wanted;
    for (auto const* calls : {&step.passes, &step.update})
        for (auto const& call : *calls)
            if (call.work >= tiny_work) wanted.insert(call);
    auto const drop = [&](Point const& p) {
        auto const calls = calls_of(p);
        return std::erase_if(wanted, [&](Call const& call) {
                   return std::any_of(calls.begin(), calls.end(), [&](Call const& c) { return alike(c, call); });
               }) > 0;
    };
    auto const tokens = static_cast<std::int64_t>(r.seq) * r.micro_batch;
    for (auto const& p : model_points(r.model, r.plan(precision, tokens))) drop(p);
    for (auto const& p : weight_points(r)) drop(p);
    std::vector<Point> out;
    auto take = [&](Point p) {
        p.group = Group::closure;
        out.push_back(std::move(p));
    };
    Request whole = r; // the step does not split layers over ranks
    whole.tp = 1;
    if (r.tp > 1)
        for (auto const& p : model_points(r.model, whole.plan(precision, tokens)))
            if (drop(p)) take(p);
    for (auto const& call : wanted)
        if (auto p = point_of(call)) take(*std::move(p));
    return out;
}

} // namespace trainfare::measure
