// SPDX-License-Identifier: Apache-2.0
#include "scenarios/sources.hpp"

#include <algorithm>
#include <map>

#include "model/ops.hpp"

namespace trainfare {

std::vector<OpUse> op_uses(StepInputs const& in)
{
    CostModel const costs{*in.tables, in.cluster.gpu, in.strict, in.what_if};
    Conditions const conditions{in.plan.overlap_ep ? in.plan.comm_sms : 0};
    double const runs = static_cast<double>(in.plan.micro_batches()) / in.plan.pp; // of one block on an average rank
    // Blocks of equal operations are many; the first of each kind speaks for all, by the names and shapes of its
    // operations.
    std::map<std::string, OpUse> uses;
    for (auto const& stage : stage_blocks(in.plan, *in.model))
        for (auto const block : stage) {
            auto const ops = block_ops(*in.model, in.plan, block);
            for (auto const* list : {&ops.forward, &ops.backward, &ops.weight_ffn, &ops.weight_attention})
                for (auto const& op : *list) {
                    if (is_communication(op.kind)) continue;
                    auto key = std::string{op.name} + "." + std::string{name(op.pass)} + ":" + std::to_string(op.m) +
                               "," + std::to_string(op.n) + "," + std::to_string(op.k) + "," +
                               std::to_string(op.bytes.value()) + "," + std::to_string(op.keys);
                    auto const [entry, fresh] = uses.try_emplace(std::move(key));
                    if (fresh) entry->second = {op, 0, costs.cost(op, conditions)};
                    entry->second.times += runs;
                }
        }
    std::vector<OpUse> list;
    for (auto& [key, use] : uses) list.push_back(std::move(use));
    return list;
}

std::vector<ClassUse> class_uses(StepInputs const& in)
{
    struct Sum {
        double seconds = 0, weighted = 0;
        std::map<int, double> by_source;
    };
    std::map<OpClass, Sum> sums;
    for (auto const& use : op_uses(in)) {
        double const t = use.cost.time.value() * use.times;
        auto& sum = sums[class_of(use.op)];
        sum.seconds += t, sum.weighted += t * use.cost.spread, sum.by_source[use.cost.source] += t;
    }
    std::vector<ClassUse> classes;
    for (auto const& [op_class, sum] : sums) {
        auto const most = std::max_element(sum.by_source.begin(), sum.by_source.end(),
                                           [](auto const& a, auto const& b) { return a.second < b.second; });
        classes.push_back({op_class, sum.seconds, sum.seconds > 0 ? sum.weighted / sum.seconds : 0,
                           most->first < 0 ? "" : in.tables->sources[static_cast<std::size_t>(most->first)].id});
    }
    return classes;
}

std::string op_key(Op const& op) { return "op:" + std::string{op.name} + "." + std::string{name(op.pass)}; }

std::vector<GuessedOp> guessed_ops(StepInputs const& in)
{
    std::vector<GuessedOp> guessed;
    double total = 0;
    for (auto const& use : op_uses(in)) {
        double const t = use.cost.time.value() * use.times;
        total += t;
        if (use.cost.quality != Quality::exact)
            guessed.push_back({op_key(use.op), shape_words(use.op), std::string{name(use.cost.quality)}, t});
    }
    for (auto& g : guessed) g.share_of_compute /= total;
    std::stable_sort(guessed.begin(), guessed.end(),
                     [](auto const& a, auto const& b) { return a.share_of_compute > b.share_of_compute; });
    return guessed;
}

std::vector<UsedSource> used_sources(StepInputs const& in)
{
    struct Sum {
        double seconds = 0;
        std::map<std::string, double> classes;
        Quality worst = Quality::exact;
    };
    std::map<int, Sum> sums;
    double total = 0;
    for (auto const& use : op_uses(in)) {
        double const t = use.cost.time.value() * use.times;
        if (t == 0) continue; // counted in another operation's row
        auto& sum = sums[use.cost.source];
        sum.seconds += t, total += t, sum.classes[std::string{name(class_of(use.op))}] += t;
        sum.worst = std::max(sum.worst, use.cost.quality);
    }
    std::vector<UsedSource> used;
    for (auto const& [index, sum] : sums) {
        UsedSource row;
        if (index >= 0) {
            auto const& source = in.tables->sources[static_cast<std::size_t>(index)];
            row.id = source.id, row.provenance = name(source.provenance), row.title = source.title,
            row.date = source.date;
        }
        for (auto const& [what, t] : sum.classes) row.what += (row.what.empty() ? "" : ", ") + what;
        row.quality = name(sum.worst);
        row.share_of_compute = sum.seconds / total;
        used.push_back(std::move(row));
    }
    std::stable_sort(used.begin(), used.end(),
                     [](auto const& a, auto const& b) { return a.share_of_compute > b.share_of_compute; });
    return used;
}

} // namespace trainfare
