// SPDX-License-Identifier: Apache-2.0
//
// The report for people: the answer first, then where the time goes, then how sure that is and what it stands on.
#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include "model/text_units.hpp"
#include "scenarios/report.hpp"
#include "scenarios/report_tables.hpp"
#include "scenarios/report_words.hpp"
#include "scenarios/text_table.hpp"

namespace trainfare {

namespace {

template <class Array>
double sum(Array const& values)
{
    return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<std::string> interval_row(std::string const& what, Interval const& i, std::string const& unit)
{
    return {what, plain(i.value), plain(i.low), plain(i.high), unit};
}

} // namespace

void print_headline(std::ostream& out, Result const& r)
{
    auto const& s = r.scenario;
    auto const& p = r.projection;
    fmt::print(out, "{}\n", cut(s.name, report_width));
    print_wrapped(out, "", verdict(r));
    out << '\n';
    TextTable table{"lrrrl"};
    table.row({"", "value", "low", "high", "unit (low to high: 90 % interval)"});
    table.row(
        interval_row("step", p.step_time_s, fmt::format("s, {} sequences of {}", s.plan.global_batch, s.plan.seq_len)));
    table.row(interval_row("throughput", p.tokens_per_gpu_second, "tokens/s per GPU"));
    table.row(interval_row("training", p.days, "days"));
    table.row(interval_row("GPU time", p.gpu_hours * 1e-3, "1,000 GPU-hours"));
    if (p.energy_kwh)
        table.row(interval_row("energy", *p.energy_kwh * 1e-3, fmt::format("MWh (PUE {})", s.cluster.pue)));
    else
        table.row({"energy", "-", "-", "-", fmt::format("hardware.csv gives no power for {}", s.cluster.gpu.key)});
    auto price = fmt::format("1,000 USD at {}", format(s.price.value));
    if (s.price.low < s.price.high) price += fmt::format(" ({} to {})", format(s.price.low), format(s.price.high));
    table.row(interval_row("cost", p.cost_usd * 1e-3, price));
    table.print(out);
}

void print_causes(std::ostream& out, Result const& r)
{
    double const step = sum(r.causes.mean);
    if (step <= 0) return;
    out << "\nWhere the step goes, mean over GPUs\n";
    TextTable table{"lrrl"};
    table.row({"cause", "s", "share", ""});
    for (std::size_t i = 0; i < r.causes.mean.size(); ++i) {
        auto const cause = static_cast<Cause>(i);
        if (r.causes.mean[i] == 0) continue;
        table.row({std::string(name(cause)), fmt::format("{:.3f}", r.causes.mean[i]), percent(r.causes.mean[i] / step),
                   std::string(description(cause))});
    }
    table.row({"sum", fmt::format("{:.3f}", step), "100.0 %", ""});
    table.print(out);
    if (r.causes.exchange_busy > 0)
        fmt::print(out, "  Expert exchanges are busy {} s, {} of that hidden under compute.\n",
                   plain(r.causes.exchange_busy), percent(r.causes.exchange_hidden / r.causes.exchange_busy));

    double const compute = sum(r.causes.compute_by_op);
    if (compute <= 0) return;
    std::vector<std::size_t> order(r.causes.compute_by_op.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return r.causes.compute_by_op[a] > r.causes.compute_by_op[b]; });
    std::string words;
    for (auto const i : order)
        if (double const share = r.causes.compute_by_op[i] / compute; share >= 0.0005)
            words += fmt::format("{}{} {}", words.empty() ? "" : ", ", name(static_cast<OpClass>(i)), percent(share));
    print_wrapped(out, "  Compute is: ", words);
}

void print_slots(std::ostream& out, Result const& r)
{
    auto const& s = r.causes.slots;
    double const total = s.forward + s.bubble + s.backward + s.weight + s.overlapped + s.optimizer;
    if (total <= 0) return;
    out << "\nThe same step as DeepSeek splits theirs (arXiv:2505.09343 Table 4), s\n";
    TextTable table{"rrrrrrr"};
    table.row({"1F", "bubble", "1B", "1W", "1F1B", "opt", "sum"});
    auto const cell = [](double v) { return fmt::format("{:.2f}", v); };
    table.row({cell(s.forward), cell(s.bubble), cell(s.backward), cell(s.weight), cell(s.overlapped), cell(s.optimizer),
               cell(total)});
    table.print(out);
    if (r.pair)
        fmt::print(out, "  A forward beside a backward over {} MoE layers: {} ms; compute {} ms, exchanges {} ms.\n",
                   r.pair->layers, plain(1e3 * r.pair->seconds), plain(1e3 * sum(r.pair->by_class)),
                   plain(1e3 * r.pair->exchange_seconds));
}

void print_phases(std::ostream& out, Result const& r)
{
    if (r.projection.phases.empty()) return;
    out << "\nPhases\n";
    TextTable table{"lrrrrrl"};
    table.row({"", "tokens", "steps", "GPU-hours", "days", "USD", "how"});
    for (auto const& p : r.projection.phases)
        table.row({p.name, p.tokens > 0 ? format_count(p.tokens) : "-", p.steps > 0 ? format_count(p.steps) : "-",
                   format_count(p.gpu_hours.value), plain(p.days.value, 3), format(Dollars{p.cost_usd.value}), p.how});
    table.print(out);
}

void print_slopes(std::ostream& out, Result const& r)
{
    if (r.slopes.empty()) return;
    out << "\nWhat more of one resource would bring\n";
    TextTable table{"lrl"};
    table.row({"", "step", ""});
    for (auto const& s : r.slopes)
        table.row(
            {fmt::format("{} {}", signed_percent(s.change, 0), s.resource), signed_percent(s.step_change), s.words});
    table.print(out);
}

void print_spreads(std::ostream& out, Result const& r)
{
    if (r.spreads.empty()) return;
    auto spreads = r.spreads;
    std::stable_sort(spreads.begin(), spreads.end(),
                     [](auto const& a, auto const& b) { return a.step_effect > b.step_effect; });
    out << "\nWhat the interval is made of (half-widths, 90 %; their root sum of squares is the step's)\n";
    TextTable table{"lrrl"};
    table.row({"", "its own", "of the step", "from"});
    constexpr std::size_t most = 6;
    for (std::size_t i = 0; i < spreads.size() && i < most; ++i)
        table.row({spreads[i].name, percent(spreads[i].spread), percent(spreads[i].step_effect), spreads[i].source});
    if (spreads.size() > most)
        table.row({fmt::format("{} smaller ones: --json lists them", spreads.size() - most), "", "", ""});
    table.print(out);
}

void print_sources(std::ostream& out, Result const& r)
{
    if (r.sources.empty()) return;
    auto sources = r.sources;
    std::stable_sort(sources.begin(), sources.end(),
                     [](auto const& a, auto const& b) { return a.share_of_compute > b.share_of_compute; });
    out << "\nWhere the costs come from, by share of compute time\n";
    TextTable table{"rlllll"};
    table.row({"share", "", "match", "date", "of", "source"});
    constexpr std::size_t most = 8;
    for (std::size_t i = 0; i < sources.size() && i < most; ++i) {
        auto const& s = sources[i];
        table.row({percent(s.share_of_compute), s.provenance, s.quality, s.date, cut(s.what, 20),
                   s.title.empty() ? s.id : s.title});
    }
    if (sources.size() > most) table.row({"", fmt::format("{} more: --json", sources.size() - most), "", "", "", ""});
    table.print(out);
    double measured = 0;
    for (auto const& s : sources)
        if (s.provenance == "measured" || s.provenance == "imported") measured += s.share_of_compute;
    fmt::print(out, "  Measured with trainfare-calibrate or imported: {} of the compute time.\n",
               measured > 0 ? percent(measured) : "none");
}

void print_guessed(std::ostream& out, Result const& r)
{
    if (r.guessed.empty()) return;
    double sum = 0;
    for (auto const& g : r.guessed) sum += g.share_of_compute;
    fmt::print(out, "\nShapes that nobody timed: {} operations, {} of compute time; measure them with trainfare-calibrate\n",
               r.guessed.size(), percent(sum));
    TextTable table{"rlll"};
    table.row({"share", "operation", "cost from", "shape"});
    constexpr std::size_t most = 6;
    for (std::size_t i = 0; i < r.guessed.size() && i < most; ++i) {
        auto const& g = r.guessed[i];
        table.row({percent(g.share_of_compute), g.key, g.quality == "class rate" ? g.quality : g.quality + " shapes",
                   g.shape});
    }
    if (r.guessed.size() > most)
        table.row({"", fmt::format("{} more: --json", r.guessed.size() - most), "", ""});
    table.print(out);
}

void print_flops(std::ostream& out, Result const& r)
{
    auto const gflop = [](double f) { return plain(f * 1e-9); };
    auto const mfu = [&](double f) {
        return r.flops.causal > 0 ? percent(r.mfu_causal * f / r.flops.causal) : std::string("-");
    };
    fmt::print(out,
               "\nModel: {} parameters, {} active. FLOPs per token and share of the bf16 peak (MFU), by convention\n",
               format_count(r.parameters.total), format_count(r.parameters.active));
    TextTable table{"lrrrr"};
    table.row({"", "causal", "causal + MTP", "non-causal", "6N"});
    table.row({"GFLOP/token", gflop(r.flops.causal), gflop(r.flops.causal_mtp), gflop(r.flops.noncausal),
               gflop(r.flops.six_n)});
    table.row({"MFU", mfu(r.flops.causal), mfu(r.flops.causal_mtp), mfu(r.flops.noncausal), mfu(r.flops.six_n)});
    table.print(out);
}

void print_excluded(std::ostream& out, Result const& r)
{
    out << "\nThe price: " << cut(r.scenario.price.provenance, report_width - 11) << "\n";
    out << "It is GPU-hours times a rental price. It leaves out\n";
    for (auto const& line : not_in_the_price()) print_wrapped(out, "  - ", line);
}

void print_notes(std::ostream& out, Result const& r)
{
    auto const& s = r.scenario;
    out << "\nNotes\n";
    auto how = fmt::format("fidelity {}", name(r.fidelity));
    if (r.groups > 0) how += fmt::format(", {} groups in {} classes", r.groups, r.group_classes);
    print_wrapped(out, "  - ", r.closed_form_words.empty() ? how : how + "; " + r.closed_form_words);
    for (auto const& line : r.topology) print_wrapped(out, "  - ", line);
    for (auto const& line : s.cluster.provenance) print_wrapped(out, "  - ", line);
    print_wrapped(
        out, "  - ",
        fmt::format("tokens per expert vary by a CV of {}: {}", s.assumptions.load_cv, s.assumptions.load_source));
    for (auto const& line : s.warnings) print_wrapped(out, "  - warning: ", line);
    for (auto const& line : r.warnings) print_wrapped(out, "  - warning: ", line);
}

void print_report(std::ostream& out, Result const& r)
{
    print_headline(out, r);
    print_causes(out, r);
    print_slots(out, r);
    print_memory_table(out, r.memory, 16);
    print_phases(out, r);
    print_slopes(out, r);
    print_spreads(out, r);
    print_sources(out, r);
    print_guessed(out, r);
    print_flops(out, r);
    print_excluded(out, r);
    print_notes(out, r);
}

} // namespace trainfare
