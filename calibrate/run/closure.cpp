// SPDX-License-Identifier: Apache-2.0
//
// The step timed, and predicted from rows.
#include "calibrate/run/closure.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "calibrate/cost.hpp"
#include "calibrate/run/tensors.hpp"
#include "kernels/step/trainer.hpp"

namespace trainfare::measure {

namespace {

constexpr double tolerance = 0.05;

Timing of(std::vector<double> samples)
{
    std::sort(samples.begin(), samples.end());
    Timing t;
    t.median = quantile(samples, 0.5), t.p10 = quantile(samples, 0.1), t.p90 = quantile(samples, 0.9),
    t.low = samples.front();
    t.repeats = static_cast<int>(samples.size());
    t.how = "graph of the whole step";
    return t;
}

/// What one operation costs by the rows: the very shape, else (products) the cost model over these rows, else the
/// nearest size.
class Prices {
public:
    Prices(std::vector<Row> const& rows, CostModel const& model) : model_{model}
    {
        for (auto const& row : rows) {
            if (row.status != "ok" || row.timing.median <= 0 || row.point.load_cv > 0 || row.point.sm_budget > 0 ||
                row.point.repeat > 0)
                continue;
            exact_.emplace(row.point.what(), row.seconds());
            by_method_[row.point.method].push_back(&row);
        }
    }

    struct Price {
        double seconds = 0;
        bool nearest = false, missing = false;
    };
    [[nodiscard]] Price of(Point const& p) const
    {
        if (auto const found = exact_.find(p.what()); found != exact_.end()) return {found->second, false, false};
        if (p.op.flops.value() > 0) {
            auto const cost = model_.cost(p.op, {});
            return {cost.time.value(), true, cost.quality == Quality::class_rate};
        }
        auto const rows = by_method_.find(p.method);
        if (rows == by_method_.end()) return {0, false, true};
        auto const distance = [&](Row const* row) {
            return std::abs(std::log(row->point.op.bytes.value() / p.op.bytes.value()));
        };
        auto const* best = *std::min_element(rows->second.begin(), rows->second.end(),
                                             [&](Row const* a, Row const* b) { return distance(a) < distance(b); });
        return {p.op.bytes.value() / (best->gbps() * 1e9), true, false};
    }

private:
    CostModel const& model_;
    std::map<std::string, double> exact_;
    std::map<std::string, std::vector<Row const*>> by_method_;
};

double measured(std::vector<Row> const& rows, char const* method, Precision precision)
{
    double seconds = 0;
    for (auto const& row : rows)
        if (row.point.group == Group::closure && row.point.method == method && row.point.op.precision == precision &&
            row.status == "ok")
            seconds = row.timing.median;
    return seconds;
}

} // namespace

std::vector<Row> measure_step(kernels::Backend& on, Request const& r, Point const& p, int repeats)
{
    auto const config = step_config(r, p.op.precision);
    if (auto const reasons = kernels::check(config, 1); !reasons.empty()) throw kernels::Unsupported(reasons.front());
    auto const world = kernels::make_solo_communicator(on);
    kernels::Trainer trainer{on, *world, config};
    std::vector<std::int32_t> tokens;
    std::int64_t const count = static_cast<std::int64_t>(config.micro_batch) * (config.seq_len + 1);
    for (std::int64_t i = 0; i < count; ++i)
        tokens.push_back(static_cast<std::int32_t>(pick(11, i, config.model.vocab)));
    auto const routing = kernels::make_routing(config, 0, 1);
    auto const first = trainer.step(tokens, &routing);
    if (!std::isfinite(first.loss)) throw InternalError("the step's loss is not finite");
    trainer.capture(routing);
    static_cast<void>(trainer.replay(tokens));
    std::array<std::vector<double>, 3> samples;
    for (int i = 0; i < repeats; ++i) {
        static_cast<void>(trainer.replay(tokens));
        auto const t = trainer.last_times();
        samples[0].push_back(t.passes), samples[1].push_back(t.update), samples[2].push_back(t.passes + t.update);
    }
    std::vector<Row> rows(3);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        rows[i].point = p;
        rows[i].point.method = std::array{"step_passes", "step_update", "step"}[i];
        rows[i].timing = of(samples[i]);
        rows[i].note =
            fmt::format("{} layers, {:.3g} parameters, {} local experts, one of {} ranks", config.model.layers.size(),
                        trainer.parameters(), r.experts_per_gpu(), config.emulated_ep);
    }
    return rows;
}

Accelerator host_accelerator()
{
    Accelerator host;
    host.key = "cpu";
    host.bf16 = host.fp8 = FlopRate{1e12}; // bounds, not rates: never the reason for a time
    host.memory_bandwidth = Bandwidth{1e12};
    return host;
}

bool ClosureReport::closes() const { return missing.empty() && std::abs(error()) <= tolerance; }

ClosureReport closure(std::vector<Row> const& rows, Request const& r, Precision precision, Tables tables,
                      std::string const& folder)
{
    ClosureReport report;
    report.precision = precision;
    report.measured_s = measured(rows, "step", precision);
    report.measured_passes_s = measured(rows, "step_passes", precision);
    report.measured_update_s = measured(rows, "step_update", precision);
    if (report.measured_s <= 0)
        throw InputError(
            {folder}, fmt::format("holds no real step in {} to compare with; run with --groups closure, or --precision",
                                  name(precision)));
    auto const known = tables.accelerators.find(rows.front().accelerator);
    auto gpu = known != tables.accelerators.end() ? known->second : host_accelerator();
    gpu.variant_of.reset(); // nobody else's rows
    tables.ops.clear(), tables.collectives.clear();
    add_measured(tables, folder);
    WhatIf no_gaps; // measured times contain the gap to the next kernel of a graph
    no_gaps.by_class[static_cast<std::size_t>(OpClass::launch)] = 0;
    CostModel const model{tables, gpu, false, no_gaps};
    Prices const prices{rows, model};

    std::map<OpClass, ClosureLine> classes;
    report.passes.what = "forward and backward", report.update.what = "optimizer";
    for (auto const& part : step_parts(r, precision)) {
        auto const price = prices.of(part.point);
        auto const kind = class_of(part.point.op);
        for (auto* line : {&classes[kind], part.update ? &report.update : &report.passes}) {
            line->predicted_s += part.times * price.seconds;
            ++line->parts, line->nearest += price.nearest, line->missing += price.missing;
        }
        if (price.missing) report.missing.push_back(part.point.what());
    }
    for (auto& [kind, line] : classes) line.what = name(kind), report.classes.push_back(line);
    std::sort(report.classes.begin(), report.classes.end(),
              [](auto const& a, auto const& b) { return a.predicted_s > b.predicted_s; });
    std::sort(report.missing.begin(), report.missing.end());
    report.missing.erase(std::unique(report.missing.begin(), report.missing.end()), report.missing.end());
    return report;
}

} // namespace trainfare::measure
