// SPDX-License-Identifier: Apache-2.0
//
// The step timed, and predicted from rows.
#include "calibrate/run/closure.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

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

bool counts(Row const& row)
{
    auto const& p = row.point;
    return row.status == "ok" && row.timing.median > 0 && p.load_cv <= 0 && p.sm_budget == 0 && p.comm_sms == 0 &&
           p.repeat == 0 && p.variant.empty();
}

/// What calls cost by the rows: the very call, else the nearest of its kind by its work; tiny ones a
/// launch.
class Prices {
public:
    explicit Prices(std::vector<Row> const& rows)
    {
        for (auto const& row : rows) {
            if (!counts(row)) continue;
            if (row.point.method == "graph_gap") launch_s_ = row.seconds();
            if (row.point.group == Group::ceilings && row.point.op.bytes.value() <= 0 && row.point.method != "gemm")
                continue; // a hundred launches
            auto calls = calls_of(row.point);
            if (calls.size() == 1)
                single_[calls.front().kind].push_back({calls.front(), row.timing.median});
            else if (!calls.empty())
                several_.emplace_back(std::move(calls), row.timing.median);
        }
    }

    /// Seconds of all @p calls; adds to the lines of their operations and names what nothing is known of.
    double add(std::vector<Call> const& calls, std::map<std::string, ClosureLine>& lines,
               std::vector<std::string>& missing) const
    {
        std::map<Call, int> left;
        for (auto const& call : calls) ++left[call];
        double all = 0;
        for (auto const& [together, seconds] : several_) { // one kernel's time for several calls, shared by their work
            std::map<Call, int> needed;
            double work = 0;
            for (auto const& call : together) ++needed[call], work += call.work;
            int times = static_cast<int>(calls.size());
            for (auto const& [call, n] : needed) {
                auto const found = left.find(call);
                times = found == left.end() ? 0 : std::min(times, found->second / n);
            }
            if (times <= 0) continue;
            all += times * seconds;
            for (auto const& call : together) {
                left[call] -= times;
                auto& line = line_of(lines, call, times);
                line.predicted_s += times * seconds * call.work / work;
            }
        }
        for (auto const& [call, times] : left) {
            if (times <= 0) continue;
            auto& line = line_of(lines, call, times);
            auto const* row = nearest(call);
            double seconds = 0;
            if (row != nullptr && alike(row->call, call)) {
                seconds = row->seconds * call.work / row->call.work;
            } else if (row != nullptr && call.work >= tiny_work) {
                line.other_sizes += times;
                seconds = std::max(launch_s_, row->seconds * call.work / row->call.work);
            } else if (call.work < tiny_work && launch_s_ > 0) {
                line.launches += times;
                seconds = launch_s_;
            } else {
                line.missing += times;
                missing.push_back(call.text());
            }
            line.predicted_s += times * seconds;
            all += times * seconds;
        }
        return all;
    }

private:
    struct Known {
        Call call;
        double seconds = 0;
    };

    static ClosureLine& line_of(std::map<std::string, ClosureLine>& lines, Call const& call, int times)
    {
        auto& line = lines[call.operation()];
        line.what = call.operation();
        line.calls += times;
        return line;
    }
    [[nodiscard]] Known const* nearest(Call const& call) const
    {
        auto const rows = single_.find(call.kind);
        if (rows == single_.end()) return nullptr;
        return &*std::min_element(rows->second.begin(), rows->second.end(), [&](Known const& a, Known const& b) {
            return distance(a.call, call) < distance(b.call, call);
        });
    }

    std::map<std::string, std::vector<Known>> single_;
    std::vector<std::pair<std::vector<Call>, double>> several_;
    double launch_s_ = 0;
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
    auto const in = step_input(config);
    auto const first = trainer.step(in.tokens, &in.routing);
    if (!std::isfinite(first.loss)) throw InternalError("the step's loss is not finite");
    trainer.capture(in.routing);
    static_cast<void>(trainer.replay(in.tokens));
    std::array<std::vector<double>, 3> samples;
    for (int i = 0; i < repeats; ++i) {
        static_cast<void>(trainer.replay(in.tokens));
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

ClosureReport closure(std::vector<Row> const& rows, Request const& r, Precision precision, std::string const& folder)
{
    ClosureReport report;
    report.precision = precision;
    report.measured_s = measured(rows, "step", precision);
    report.measured_passes_s = measured(rows, "step_passes", precision);
    report.measured_update_s = measured(rows, "step_update", precision);
    if (report.measured_s <= 0)
        throw InputError({folder}, fmt::format("holds no real step in {} (there is nothing to compare with); run with "
                                               "--groups closure, or with another --precision",
                                               name(precision)));
    auto const step = step_calls(r, precision);
    Prices const prices{rows};
    std::map<std::string, ClosureLine> lines;
    report.predicted_passes_s = prices.add(step.passes, lines, report.missing);
    report.predicted_update_s = prices.add(step.update, lines, report.missing);
    for (auto const& [operation, line] : lines) report.operations.push_back(line);
    std::stable_sort(report.operations.begin(), report.operations.end(),
                     [](auto const& a, auto const& b) { return a.predicted_s > b.predicted_s; });
    std::sort(report.missing.begin(), report.missing.end());
    report.missing.erase(std::unique(report.missing.begin(), report.missing.end()), report.missing.end());
    return report;
}

} // namespace trainfare::measure
