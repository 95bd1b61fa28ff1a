// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/meter.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace trainfare::measure {

using namespace kernels;

namespace {

constexpr double short_run_s = 200e-6; // a host queues a run in a few microseconds; below this a graph is safer
constexpr double graph_s = 1e-3;       // of one replay
constexpr int most_in_graph = 1000;

/// Runs until @p least_s have passed on the device. @return seconds of one run
double warm_up(Backend& on, std::vector<Instance> const& instances, double least_s)
{
    double elapsed = 0;
    std::size_t next = 0;
    for (int batch = 1;; batch *= 2) {
        auto const begin = on.record();
        for (int i = 0; i < batch; ++i) instances[next++ % instances.size()].run();
        auto const end = on.record();
        elapsed = on.seconds(begin, end);
        if (elapsed >= least_s || batch >= 1 << 20) return std::max(1e-9, elapsed / batch);
    }
}

int count(double wanted, int least, int most)
{
    return static_cast<int>(std::clamp(std::ceil(wanted), static_cast<double>(least), static_cast<double>(most)));
}

} // namespace

double quantile(std::vector<double> const& sorted, double q)
{
    double const at = q * static_cast<double>(sorted.size() - 1);
    auto const low = static_cast<std::size_t>(at);
    auto const high = std::min(low + 1, sorted.size() - 1);
    return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Timing measure(Backend& on, std::vector<Instance> const& instances, MeterOptions const& options,
               MeterHooks const& hooks)
{
    for (auto const& instance : instances) instance.run(); // also what a library chooses at first sight
    double const once = warm_up(on, instances, options.warm_up_s);

    auto const timing = instances.front().timing;
    bool const in_graph =
        timing == Instance::Timing::graph || (timing == Instance::Timing::automatic && once < short_run_s);
    int const at_once = in_graph ? count(graph_s / once, static_cast<int>(instances.size()), most_in_graph) : 1;
    std::unique_ptr<Graph> graph;
    if (in_graph) {
        graph = on.capture([&] {
            for (int i = 0; i < at_once; ++i) instances[static_cast<std::size_t>(i) % instances.size()].run();
        });
        graph->replay();
    }
    double const sample_s = once * at_once;
    int const samples = count(options.measuring_s / sample_s, options.fewest, options.runs);

    on.synchronise();
    if (hooks.before) hooks.before();
    std::vector<Event> events{on.record()};
    for (int i = 0; i < samples; ++i) {
        if (graph)
            graph->replay();
        else
            instances[static_cast<std::size_t>(i) % instances.size()].run();
        events.push_back(on.record());
    }
    if (hooks.busy) hooks.busy();
    std::vector<double> times;
    for (std::size_t i = 1; i < events.size(); ++i)
        times.push_back(std::max(1e-9, on.seconds(events[i - 1], events[i]) / at_once));
    if (hooks.after) hooks.after();

    std::sort(times.begin(), times.end());
    Timing t;
    t.median = quantile(times, 0.5), t.p10 = quantile(times, 0.1), t.p90 = quantile(times, 0.9), t.low = times.front();
    t.repeats = samples * at_once;
    t.how = in_graph ? fmt::format("{} replays of a graph of {}", samples, at_once)
                     : fmt::format("{} runs on a stream", samples);
    if (instances.size() > 1) t.how += fmt::format("; {} sets of buffers", instances.size());
    return t;
}

} // namespace trainfare::measure
