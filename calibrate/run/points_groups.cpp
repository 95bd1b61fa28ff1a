// SPDX-License-Identifier: Apache-2.0
//
// Points beyond the model's own blocks: other numbers of local experts, other sequence lengths, ceilings of the chip,
// and a few operations under conditions.
#include <algorithm>
#include <cmath>
#include <set>

#include "calibrate/run/points_internal.hpp"
#include "model/ops.hpp"

namespace trainfare::measure {

namespace {

Point ceiling(char const* method, double bytes)
{
    Point p;
    p.group = Group::ceilings, p.method = method;
    p.op.name = method;
    p.op.bytes = Bytes{bytes};
    return p;
}

Op square_product(std::int64_t n, Precision precision)
{
    Op op;
    op.name = "square", op.precision = precision;
    op.m = op.n = op.k = n;
    return with_rows(op, n);
}

Point const* largest(std::vector<Point> const& points, OpKind kind, Pass pass, std::vector<Point> const& taken)
{
    Point const* best = nullptr;
    for (auto const& p : points) {
        bool const used = std::any_of(taken.begin(), taken.end(), [&](Point const& t) { return t.key() == p.key(); });
        bool const runs = p.method != "windowed_attention" && p.method != "activation_without_gate";
        if (used || !runs || p.op.kind != kind || p.op.pass != pass) continue;
        auto const size = [](Point const& q) { return q.op.flops.value() + q.op.bytes.value(); };
        if (best == nullptr || size(p) > size(*best)) best = &p;
    }
    return best;
}

} // namespace

Op with_rows(Op op, std::int64_t rows)
{
    (op.pass == Pass::wgrad ? op.k : op.m) = rows;
    auto const m = static_cast<double>(op.m), n = static_cast<double>(op.n), k = static_cast<double>(op.k);
    double const in = size_of(gemm_dtype(op.precision)).value(),
                 out = op.pass == Pass::wgrad ? 8 : 2; // as OpBuilder::product
    op.flops = Flops{2 * m * n * k * op.groups};
    op.bytes = Bytes{op.groups * ((m * k + k * n) * in + m * n * out)};
    return op;
}

std::vector<Point> expert_points(Request const& r)
{
    std::vector<Point> out;
    int const own = r.experts_per_gpu();
    for (auto const precision : r.precisions)
        for (auto const& base : model_points(r.model, r.plan(precision, r.sizes.subset_tokens))) {
            if (base.group != Group::experts) continue;
            auto add = [&](int groups, std::int64_t rows, double cv) {
                Point p = base;
                p.op.groups = groups, p.load_cv = cv;
                p.op = with_rows(p.op, rows);
                if (rows * groups <= r.sizes.most_rows) out.push_back(p);
            };
            for (int const groups : r.sizes.local_experts)
                for (auto const rows : r.sizes.expert_rows) add(groups, rows, 0);
            for (double const cv : r.sizes.load_cv) add(own, base.op.pass == Pass::wgrad ? base.op.k : base.op.m, cv);
        }
    return out;
}

std::vector<Point> attention_points(Request const& r)
{
    std::vector<Point> out;
    for (int const share : r.sizes.head_shares)
        for (int const sequence : r.sizes.sequences) {
            auto plan = r.plan(Precision::bf16, sequence);
            plan.seq_len = sequence, plan.micro_batch = 1;
            plan.tp = share, plan.sp = share > 1;
            bool const divides = std::all_of(r.model.layers.begin(), r.model.layers.end(),
                                             [&](Layer const& l) { return l.attention.heads % share == 0; });
            if (!divides || sequence % share != 0) continue;
            for (auto const& p : model_points(r.model, plan))
                if (p.group == Group::attention) out.push_back(p);
        }
    return out;
}

std::vector<Point> optimizer_points(Request const& r)
{
    std::vector<Point> out;
    for (auto const moments : {DType::fp32, DType::bf16})
        for (double const parameters : r.sizes.parameters) {
            auto plan = r.plan(Precision::bf16, r.seq);
            plan.moment_dtype = moments;
            Point p;
            p.group = Group::memory;
            p.method = moments == DType::fp32 ? "adamw" : "adamw_bf16_moments";
            p.op = optimizer_op(plan, parameters, 0);
            p.op.m = std::llround(parameters / 1024), p.op.n = 1024;
            out.push_back(p);
        }
    return out;
}

std::vector<Point> weight_points(Request const& r)
{
    std::vector<Point> out;
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (auto const precision : r.precisions) {
        if (precision != Precision::fp8_block) continue;
        for (auto const& p : model_points(r.model, r.plan(precision, r.sizes.subset_tokens))) {
            bool const product = p.method == "gemm" || p.method == "grouped_gemm";
            if (!product || p.op.pass != Pass::forward || p.op.precision != precision) continue;
            auto const n = (p.op.n + 127) / 128 * 128, k = p.op.k; // as the step holds them
            if (!seen.emplace(n, k).second) continue;
            Point w;
            w.group = Group::memory, w.method = "quantise_blocks";
            w.op.kind = OpKind::cast, w.op.pass = Pass::update, w.op.precision = precision,
            w.op.name = "quantise_weights";
            w.op.m = n, w.op.n = k;
            w.op.bytes = Bytes{4.0 * static_cast<double>(n) * static_cast<double>(k)}; // bf16 in, both directions out
            out.push_back(w);
        }
    }
    return out;
}

std::vector<Point> variant_points(std::vector<Point> const& points)
{
    std::vector<Point> out;
    for (auto const& p : points) {
        auto add = [&](char const* variant) {
            out.push_back(p);
            out.back().variant = variant;
        };
        if (!p.plain()) continue;
        if (p.method == "attention" && p.op.pass == Pass::dgrad) add("free-order");
        if (p.method == "grouped_gemm" && p.op.precision == Precision::fp8_block && p.op.pass != Pass::wgrad)
            for (auto const* library : {"cutlass", "cublaslt"}) add(library);
    }
    return out;
}

std::vector<Point> ceiling_points(Request const& r)
{
    std::vector<Point> out;
    double const b = r.sizes.hbm_bytes;
    for (auto const* what : {"hbm_copy", "hbm_read", "hbm_write", "pcie_to_device", "pcie_to_host"})
        out.push_back(ceiling(what, what == std::string_view{"hbm_copy"} ? 2 * b : b));
    for (auto const* what : {"launch_gap", "graph_gap"}) {
        out.push_back(ceiling(what, 0));
        out.back().share = 1.0 / tiny_launches;
    }
    for (auto const precision : r.precisions) {
        Point p;
        p.group = Group::ceilings, p.method = "gemm";
        p.op = square_product(r.sizes.square, precision);
        out.push_back(p);
    }
    return out;
}

std::vector<Point> subset(Request const& r)
{
    auto const points = model_points(r.model, r.plan(r.precisions.back(), r.sizes.subset_tokens));
    std::vector<Point> out;
    for (auto const& [kind, pass] : {std::pair{OpKind::gemm, Pass::forward},
                                     {OpKind::expert_gemm, Pass::forward},
                                     {OpKind::attention, Pass::forward},
                                     {OpKind::norm, Pass::forward},
                                     {OpKind::gemm, Pass::wgrad},
                                     {OpKind::expert_gemm, Pass::wgrad},
                                     {OpKind::attention, Pass::dgrad},
                                     {OpKind::activation, Pass::forward},
                                     {OpKind::gemm, Pass::dgrad},
                                     {OpKind::permute, Pass::forward},
                                     {OpKind::expert_gemm, Pass::dgrad},
                                     {OpKind::gemm, Pass::forward}})
        if (static_cast<int>(out.size()) < r.sizes.subset)
            if (auto const* p = largest(points, kind, pass, out)) out.push_back(*p);
    return out;
}

std::vector<Point> condition_points(Request const& r)
{
    std::vector<Point> out;
    auto const some = r.wants(Group::sms) || r.wants(Group::contention) ? subset(r) : std::vector<Point>{};
    for (auto p : some) {
        p.group = Group::sms;
        for (int const fewer : r.sizes.fewer_sms)
            if (r.wants(Group::sms) && fewer < r.sms) p.sm_budget = r.sms - fewer, out.push_back(p);
        if (r.wants(Group::sms)) p.sm_budget = r.sms, out.push_back(p); // the same call with nothing taken away
        p.group = Group::contention, p.sm_budget = 0;
        for (int const sms : r.sizes.comm_sms)
            if (r.wants(Group::contention) && sms < r.sms) p.comm_sms = sms, out.push_back(p);
    }
    return out;
}

} // namespace trainfare::measure
