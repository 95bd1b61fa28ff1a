// SPDX-License-Identifier: Apache-2.0
#include "scenarios/pair.hpp"

#include <algorithm>

#include "model/ops.hpp"

namespace trainfare {

std::optional<PairReport> overlapped_pair(StepInputs const& in, StepModel const& model)
{
    auto const& layers = in.model->layers;
    auto const moe = std::find_if(layers.rbegin(), layers.rend(), [](Layer const& l) { return l.is_moe(); });
    if (!in.plan.overlap_ep || moe == layers.rend() || in.plan.ep * in.plan.etp == 1) return std::nullopt;

    constexpr int count = 4; // what one pipeline rank of DeepSeek-V3 holds
    StepModel balanced = model;
    balanced.exchange_skew = 1;
    CostModel const costs{*in.tables, in.cluster.gpu, in.strict, in.what_if};
    auto const local = local_traffic(in.plan, in.cluster);
    Block const block{Block::Kind::layer, static_cast<int>(layers.rend() - moe) - 1};
    auto const priced = price_block(block_ops(*in.model, in.plan, block), costs, {in.plan.comm_sms}, local);

    PairReport report;
    report.layers = count;
    std::vector<PricedBlock const*> const blocks(count, &priced);
    report.seconds = pair_seconds(balanced, blocks, blocks);
    auto const exchange = [&](Segment const& s) {
        if (s.exchanges)
            report.exchange_seconds += count * (model.exchange_latency + s.payload * model.exchange_contention *
                                                                             model.exchange_seconds_per_byte);
    };
    for (int i = 0; i < count; ++i) {
        for (auto const& s : priced.forward) report.by_class += s.compute;
        for (auto const& s : priced.backward) report.by_class += s.compute;
        for (auto const& w : priced.weight) report.by_class += w;
    }
    for (auto const& s : priced.forward) exchange(s);
    for (auto const& s : priced.backward) exchange(s);
    return report;
}

} // namespace trainfare
