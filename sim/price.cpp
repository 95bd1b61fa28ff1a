// SPDX-License-Identifier: Apache-2.0
#include "sim/price.hpp"

#include <algorithm>
#include <numeric>

#include "calibrate/collectives.hpp"

namespace trainfare {

double seconds(ClassSeconds const& parts) { return std::accumulate(parts.begin(), parts.end(), 0.0); }

ClassSeconds& operator+=(ClassSeconds& a, ClassSeconds const& b)
{
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

double weight_seconds(PricedBlock const& block)
{
    double sum = 0;
    for (auto const& part : block.weight) sum += seconds(part);
    return sum;
}

double price_op(Op const& op, CostModel const& costs, Conditions conditions, LocalTraffic const& local)
{
    if (op.kind == OpKind::tp_collective) {
        return collective_time(CollectiveOp::all_gather, Algorithm::ring, local.tp, op.payload, local.scale_up,
                               local.latency)
            .value();
    }
    if (op.kind == OpKind::cp_exchange)
        return (op.payload / local.cp_bandwidth + local.latency * (local.cp - 1)).value();
    double const time = costs.cost(op, conditions).time.value();
    return op.routed ? time * local.expert_load : time;
}

namespace {

/// Ring attention hides the exchange of keys and values under the attention kernel of the same pass: what is left
/// shows.
double exposed_ring(std::vector<Op> const& ops, Op const& exchange, double exchange_seconds, CostModel const& costs,
                    Conditions conditions, LocalTraffic const& local)
{
    double attention = 0;
    for (auto const& op : ops)
        if (op.kind == OpKind::attention && op.pass == exchange.pass)
            attention += price_op(op, costs, conditions, local);
    return std::max(0.0, exchange_seconds - attention * (local.cp - 1) / local.cp);
}

/// TP traffic in chunks under the matrix products of its pass: all but one of the TP chunks can hide, what is longer
/// shows (Megatron-LM --tp-comm-overlap). @return the share of each TP collective of @p pass that shows
double exposed_tensor_share(std::vector<Op> const& ops, Pass pass, CostModel const& costs, Conditions conditions,
                            LocalTraffic const& local)
{
    if (!local.overlap_tp) return 1;
    double products = 0, traffic = 0;
    for (auto const& op : ops) {
        if (op.pass != pass) continue;
        if (op.kind == OpKind::tp_collective) traffic += price_op(op, costs, conditions, local);
        if (op.kind == OpKind::gemm) products += price_op(op, costs, conditions, local);
    }
    double const first_chunk = traffic / local.tp;
    return traffic > 0 ? std::max(first_chunk, traffic - products * (local.tp - 1) / local.tp) / traffic : 1;
}

std::vector<Segment> segments(std::vector<Op> const& ops, CostModel const& costs, Conditions conditions,
                              LocalTraffic const& local)
{
    std::vector<Segment> list(1);
    for (auto const& op : ops) {
        if (op.kind == OpKind::dispatch || op.kind == OpKind::combine) {
            auto& last = list.back();
            last.exchanges = true;
            last.is_dispatch = op.kind == OpKind::dispatch;
            last.payload = op.payload.value();
            list.emplace_back();
            continue;
        }
        double time = price_op(op, costs, conditions, local);
        if (op.kind == OpKind::cp_exchange) time = exposed_ring(ops, op, time, costs, conditions, local);
        if (op.kind == OpKind::tp_collective) time *= exposed_tensor_share(ops, op.pass, costs, conditions, local);
        list.back().compute[static_cast<std::size_t>(class_of(op))] += time;
    }
    auto const& last = list.back();
    if (list.size() > 1 && seconds(last.compute) == 0 && !last.exchanges) list.pop_back();
    return list;
}

ClassSeconds total(std::vector<Op> const& ops, CostModel const& costs, Conditions conditions, LocalTraffic const& local)
{
    ClassSeconds sum{};
    for (auto const& op : ops) sum[static_cast<std::size_t>(class_of(op))] += price_op(op, costs, conditions, local);
    return sum;
}

} // namespace

PricedBlock price_block(BlockOps const& ops, CostModel const& costs, Conditions conditions, LocalTraffic const& local)
{
    PricedBlock block;
    block.forward = segments(ops.forward, costs, conditions, local);
    block.backward = segments(ops.backward, costs, conditions, local);
    block.weight.resize(block.backward.size());
    // Experts' weight gradients may start when their input gradients are done: in the segment that ends with the last
    // exchange.
    std::size_t ffn = 0;
    for (std::size_t i = 0; i < block.backward.size(); ++i)
        if (block.backward[i].exchanges) ffn = i;
    block.weight[ffn] += total(ops.weight_ffn, costs, conditions, local);
    block.weight.back() += total(ops.weight_attention, costs, conditions, local);
    return block;
}

} // namespace trainfare
