// SPDX-License-Identifier: Apache-2.0
//
// How one number comes about: the formula with its values, and the table rows behind them.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "calibrate/collectives.hpp"
#include "model/ops.hpp"
#include "scenarios/estimate.hpp"
#include "scenarios/run.hpp"
#include "scenarios/sources.hpp"
#include "sim/task_graph.hpp"

namespace trainfare {
namespace {

std::string source_line(Tables const& tables, int index)
{
    if (index < 0) return "  source: none\n";
    auto const& s = tables.sources[static_cast<std::size_t>(index)];
    return fmt::format("  source: {} ({}{}{}): {}{}{}\n", s.id, name(s.provenance), s.date.empty() ? "" : ", ", s.date,
                       s.title, s.url.empty() ? "" : "; ", s.url);
}

std::string indent(std::string const& text)
{
    std::string out = "  ";
    for (char const c : text) {
        out += c;
        if (c == '\n') out += "  ";
    }
    return out + "\n";
}

std::string explain_op(StepInputs const& in, std::string const& quantity)
{
    CostModel const costs{*in.tables, in.cluster.gpu};
    std::string out;
    for (auto const& use : op_uses(in)) {
        if (op_key(use.op) != quantity) continue;
        Conditions const beside{in.plan.overlap_ep ? in.plan.comm_sms : 0};
        auto const cost = costs.explain(use.op, beside);
        out +=
            fmt::format("{}: {:.4g} us a run +- {:.0f} %, {:.0f} runs a step on an average GPU = {:.4g} s\n", quantity,
                        cost.time.value() * 1e6, 100 * cost.spread, use.times, cost.time.value() * use.times);
        out += indent(cost.derivation) + source_line(*in.tables, cost.source);
    }
    return out;
}

/// The chain of tasks that set the step's length, by what they do, and how much of all compute could end later without harm.
std::string critical_words(Timeline const& timeline)
{
    static constexpr char const* names[] = {"compute",       "dispatch",      "combine",  "pipeline send",
                                            "data parallel", "weight update", "a barrier"};
    std::array<double, std::size(names)> seconds{};
    auto const label = [&](TaskRef t) -> TaskLabel const& {
        auto const& problem = timeline.iteration.problem;
        return timeline.iteration.labels[problem.groups[timeline.folded.representative[t.group_class]].program][t.task];
    };
    auto const path = critical_path(timeline.folded, timeline.run);
    for (auto const t : path) {
        auto const& times = timeline.run.classes[t.group_class];
        seconds[static_cast<std::size_t>(label(t).activity)] += times.end[t.task] - times.start[t.task];
    }
    std::string out = fmt::format("  critical path: {} tasks,", path.size());
    for (std::size_t i = 0; i < seconds.size(); ++i)
        if (seconds[i] > 0) out += fmt::format(" {} {:.4g} s", names[i], seconds[i]);
    double loose = 0, all = 0;
    auto const spare = slack(timeline.folded, timeline.run);
    for (std::uint32_t c = 0; c < spare.size(); ++c)
        for (std::uint32_t t = 0; t < spare[c].size(); ++t)
            if (label({c, t}).activity == Activity::compute) {
                double const lasts = timeline.run.classes[c].end[t] - timeline.run.classes[c].start[t];
                all += lasts, loose += spare[c][t] > lasts ? lasts : 0;
            }
    return out + fmt::format("\n  slack: {:.0f} % of the compute could take twice as long, one task at a time, without "
                             "moving the end\n",
                             100 * loose / all);
}

std::string explain_step(Scenario const& s)
{
    RunOptions options;
    options.keep_timeline = true;
    auto const r = run(s, options);
    std::string out = fmt::format("step_time_s = {:.5g} s [{:.5g}, {:.5g}]: makespan of one iteration, {} simulation\n",
                                  r.projection.step_time_s.value, r.projection.step_time_s.low,
                                  r.projection.step_time_s.high, name(r.fidelity));
    out += fmt::format("  {} lock-step groups in {} classes; schedule {}, {} micro-batches a rank\n", r.groups,
                       r.group_classes, name(s.plan.schedule), s.plan.micro_batches());
    out += "  = mean over groups of\n";
    for (std::size_t i = 0; i < r.causes.mean.size(); ++i)
        out += fmt::format("    {:<16} {:8.4f} s  {}\n", name(static_cast<Cause>(i)), r.causes.mean[i],
                           description(static_cast<Cause>(i)));
    out += "  compute by class of operation (explain op:NAME.PASS for one of them)\n";
    for (std::size_t i = 0; i < r.causes.compute_by_op.size(); ++i)
        if (r.causes.compute_by_op[i] > 0)
            out += fmt::format("    {:<20} {:8.4f} s\n", name(static_cast<OpClass>(i)), r.causes.compute_by_op[i]);
    out += "  interval (90 %): root of the sum of squares of\n";
    for (auto const& p : r.spreads)
        if (p.step_effect > 0)
            out += fmt::format("    {:<28} +- {:4.1f} %  moves the step by {:.2f} %  ({})\n", p.name, 100 * p.spread,
                               100 * p.step_effect, p.source);
    return out + critical_words(*r.timeline) + "  " + r.closed_form_words + "\n";
}

std::string explain_projection(Scenario const& s, std::string const& quantity)
{
    auto const r = run(s);
    auto const& p = r.projection;
    double const hours = p.gpu_hours.value;
    std::string out;
    if (quantity == "cost_usd")
        out += fmt::format(
            "cost_usd = {:.5g} USD [{:.5g}, {:.5g}] = gpu_hours {:.6g} h x {:.4g} USD per GPU-hour\n  price: {}\n",
            p.cost_usd.value, p.cost_usd.low, p.cost_usd.high, hours, s.price.value.value() * 3600, s.price.provenance);
    else if (quantity == "days")
        out += fmt::format("days = {:.5g} = gpu_hours {:.6g} h / {} GPUs / 24\n", p.days.value, hours, s.cluster.gpus);
    else if (quantity == "energy_kwh")
        out += p.energy_kwh ? fmt::format("energy_kwh = {:.5g} kWh = gpu_hours {:.6g} h x {:.0f} W x (1 + {:.2g} node "
                                          "overhead) x {:.3g} PUE\n",
                                          p.energy_kwh->value, hours, s.cluster.gpu.tdp->value(),
                                          s.cluster.node_overhead, s.cluster.pue)
                            : "energy_kwh: absent, the accelerator's power is not published\n";
    out += fmt::format("gpu_hours = {:.6g} h [{:.6g}, {:.6g}]\n", hours, p.gpu_hours.low, p.gpu_hours.high);
    for (auto const& phase : p.phases)
        out += fmt::format(
            "  {:<20} {:10.5g} h  {}{}\n", phase.name, phase.gpu_hours.value, phase.how,
            phase.steps > 0 ? fmt::format(", {:.0f} steps, {:.4g} B tokens", phase.steps, phase.tokens / 1e9) : "");
    return out + fmt::format("  a step: {} sequences x {} tokens, {:.5g} s on {} GPUs (explain step_time_s)\n",
                             s.plan.global_batch, s.plan.seq_len, p.step_time_s.value, s.cluster.gpus);
}

std::string explain_links(Scenario const& s, Tables const& tables)
{
    std::string out;
    auto const nvlink = scale_up_rate(tables, s.cluster.gpu);
    out += fmt::format("nvlink = {:.4g} GB/s per GPU and direction, payload\n", s.cluster.scale_up.value() / 1e9);
    out += indent(nvlink.derivation) + source_line(tables, nvlink.source);
    if (s.cluster.gpu.nic) {
        auto const nic = nic_rate(tables, *s.cluster.gpu.nic);
        out += fmt::format("nic = {:.4g} GB/s per GPU and direction, payload\n", s.cluster.nic.value() / 1e9);
        out += indent(nic.derivation) + source_line(tables, nic.source);
    }
    for (auto const& line : s.cluster.provenance) out += "  " + line + "\n";
    return out;
}

std::string explain_contention(Scenario const& s, Tables const& tables)
{
    auto const c = derive_contention(tables, s.cluster.gpu);
    return fmt::format(
        "contention: matrix products in a training step keep {:.3f} of the rate that they have in a benchmark of their "
        "own on as many SMs "
        "(+- {:.0f} %, {} kernels timed alone and in the published layer trace)\n"
        "  expert exchanges beside compute take {:.3f} x the time of the same exchange alone (+- {:.0f} %, {} pairs: "
        "trace over benchmark)\n",
        c.matrix, 100 * c.matrix_spread, c.matrix_pairs, c.exchange, 100 * c.exchange_spread, c.exchange_pairs);
}

std::string explain_flops(Scenario const& s)
{
    std::optional<double> card;
    if (s.card_active_parameters > 0) card = s.card_active_parameters;
    auto const f = flops_per_token(s.model, s.plan.seq_len, card);
    auto const p = count_parameters(s.model);
    return fmt::format("flops_per_token, forward and backward, at {} tokens a sequence\n"
                       "  causal       {:8.2f} GFLOP = 6 x matrix parameters ({:.2f} B) + scores of seen keys only\n"
                       "  causal + MTP {:8.2f} GFLOP\n  non-causal   {:8.2f} GFLOP: the whole square of scores\n"
                       "  6N           {:8.2f} GFLOP = 6 x {:.2f} B active parameters{}\n",
                       s.plan.seq_len, f.causal / 1e9, p.matrix / 1e9, f.causal_mtp / 1e9, f.noncausal / 1e9,
                       f.six_n / 1e9, f.six_n / 6e9, card ? " (model card)" : " (counted)");
}

std::string explain_memory(Scenario const& s)
{
    auto const schedule =
        make_schedule(s.plan.schedule, s.plan.pp, s.plan.vpp, s.plan.micro_batches(), s.plan.overlap_ep);
    auto const m = memory_per_stage(s.model, s.plan, schedule, s.cluster.gpu.memory);
    auto const& f = m.fullest();
    auto const gb = [](Bytes b) { return b.value() / 1e9; };
    return fmt::format(
        "memory_bytes: fullest is pipeline rank {}: {:.4g} GB of {:.4g} GB usable\n"
        "  weights {:.4g} GB + gradients {:.4g} GB ({}) + optimizer {:.4g} GB (master {}, moments {}, ZeRO-{})\n"
        "  + activations {:.4g} GB ({} forward passes held at the peak, recompute {}) + buffers {:.4g} GB\n",
        f.rank, gb(f.total()), gb(m.capacity), gb(f.weights), gb(f.gradients), name(s.plan.gradient_dtype),
        gb(f.optimizer), name(s.plan.master_dtype), name(s.plan.moment_dtype), s.plan.zero, gb(f.activations),
        f.live_micro_batches, name(s.plan.recompute.kind), gb(f.buffers));
}

} // namespace

std::vector<std::string> explainable_quantities(Scenario const& s)
{
    std::vector<std::string> all{"step_time_s",  "gpu_hours",       "days",  "cost_usd",  "energy_kwh",
                                 "memory_bytes", "flops_per_token", "links", "contention"};
    auto const tables = scenario_tables(s);
    std::vector<std::string> ops;
    for (auto const& use : op_uses(step_inputs(s, tables, false))) ops.push_back(op_key(use.op));
    std::sort(ops.begin(), ops.end());
    ops.erase(std::unique(ops.begin(), ops.end()), ops.end());
    all.insert(all.end(), ops.begin(), ops.end());
    return all;
}

std::string explain(Scenario const& s, std::string const& quantity)
{
    auto const tables = scenario_tables(s);
    if (quantity == "step_time_s") return explain_step(s);
    if (quantity == "memory_bytes") return explain_memory(s);
    if (quantity == "flops_per_token") return explain_flops(s);
    if (quantity == "links") return explain_links(s, tables);
    if (quantity == "contention") return explain_contention(s, tables);
    if (quantity.starts_with("op:"))
        if (auto const text = explain_op(step_inputs(s, tables, false), quantity); !text.empty()) return text;
    for (auto const* known : {"gpu_hours", "days", "cost_usd", "energy_kwh"})
        if (quantity == known) return explain_projection(s, quantity);
    throw InputError(fmt::format(
        "{} is no quantity of this scenario (nothing to derive); try step_time_s, gpu_hours, days, cost_usd, "
        "energy_kwh, memory_bytes, flops_per_token, links, contention, or op:NAME.PASS (explain without a "
        "quantity lists them all)",
        quantity));
}

} // namespace trainfare
