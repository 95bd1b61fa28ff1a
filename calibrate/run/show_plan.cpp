// SPDX-License-Identifier: Apache-2.0
//
// Tables for people: what a plan holds, and how a prediction of the real step compares.
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include "calibrate/run/show.hpp"

namespace trainfare::measure {

namespace {

/// "45 s" or "6 minutes"
std::string about(double seconds)
{
    return seconds < 90 ? fmt::format("{:.0f} s", std::ceil(seconds))
                        : fmt::format("{:.0f} minutes", std::ceil(seconds / 60));
}

} // namespace

void show(std::ostream& out, ClosureReport const& r)
{
    auto const ms = [](double seconds) { return fmt::format("{:.3f} ms", seconds * 1e3); };
    auto const off = [](double predicted, double measured) {
        return fmt::format("{:+.1f} %", 100 * (predicted / measured - 1));
    };
    auto const some = [](int n) { return n > 0 ? std::to_string(n) : std::string{"-"}; };
    fmt::print(out, "The real step in {}: every call that it makes, priced by measured rows\n", name(r.precision));
    fmt::print(out, "  {:<24}{:>14}{:>8}{:>14}{:>14}{:>15}\n", "operation", "predicted", "calls", "other sizes",
               "as launches", "not measured");
    for (auto const& line : r.operations)
        fmt::print(out, "  {:<24}{:>14}{:>8}{:>14}{:>14}{:>15}\n", line.what, ms(line.predicted_s), line.calls,
                   some(line.other_sizes), some(line.launches), some(line.missing));
    fmt::print(out, "  {:<24}{:>14}{:>14}{:>10}\n", "", "predicted", "measured", "error");
    auto const compared = [&](char const* what, double predicted, double measured, std::string const& verdict) {
        fmt::print(out, "  {:<24}{:>14}{:>14}{:>10}{}\n", what, ms(predicted), ms(measured), off(predicted, measured),
                   verdict);
    };
    compared("forward and backward", r.predicted_passes_s, r.measured_passes_s, "");
    compared("optimizer", r.predicted_update_s, r.measured_update_s, "");
    compared("step", r.predicted_s(), r.measured_s,
             r.closes()          ? "  closes (within 5 %)"
             : r.missing.empty() ? "  does not close (within 5 %)"
                                 : "  incomplete");
    for (auto const& what : r.missing) fmt::print(out, "  not measured: {}\n", what);
}

void show(std::ostream& out, std::vector<Point> const& points, Accelerator const& gpu, double measuring_s,
          double sustained_s)
{
    std::map<Group, std::pair<int, double>> groups;
    double all = 0;
    for (auto const& p : points) {
        double const s = seconds_guess(p, gpu, measuring_s, sustained_s);
        auto& [count, seconds] = groups[p.group];
        ++count, seconds += s, all += s;
    }
    fmt::print(out, "{:<12}{:>8}{:>14}\n", "group", "points", "about");
    for (auto const& [group, sum] : groups)
        fmt::print(out, "{:<12}{:>8}{:>12.1f} s\n", name(group), sum.first, sum.second);
    fmt::print(out, "{:<12}{:>8}{:>12.1f} s\n", "all", points.size(), all);
    fmt::print(out, "Plan {}, about {} on {}: an estimate before anything is measured.\n", plan_hash(points),
               about(all), gpu.key == "cpu" ? "a host, with a tiny model" : gpu.key);
    fmt::print(out, "`run` prints the time left as it goes, and goes on after an interruption.\n");
}

} // namespace trainfare::measure
