// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/sustained.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <fmt/format.h>

#include "calibrate/run/points_internal.hpp"

namespace trainfare::measure {

namespace {

struct Mix {
    std::vector<Subject> subjects;
    double flops = 0, moved = 0;

    void round() const
    {
        for (auto const& s : subjects) s.instances.front().run();
    }
};

Mix make_mix(kernels::Backend& on, Request const& r, SubjectOptions options)
{
    Mix mix;
    options.l2_bytes = 0; // together they are far larger than any cache
    for (auto const& p : subset(r)) {
        try {
            mix.subjects.push_back(make_subject(on, p, options));
        } catch (kernels::Unsupported const&) {
            continue;
        }
        mix.flops += p.op.flops.value(), mix.moved += mix.subjects.back().instances.front().moved;
    }
    if (mix.subjects.empty()) throw kernels::Unsupported("no operation of the mix can run here");
    return mix;
}

double mean(std::vector<double> const& x, std::size_t first, std::size_t count)
{
    double sum = 0;
    for (std::size_t i = first; i < first + count; ++i) sum += x[i];
    return sum / static_cast<double>(count);
}

} // namespace

Sustained run_sustained(kernels::Backend& on, Request const& r, Point const& p, Telemetry& telemetry,
                        SubjectOptions const& options, std::function<bool()> const& stop)
{
    constexpr double batch_s = 0.25;
    auto const mix = make_mix(on, r, options);
    mix.round();
    auto const timed = [&](int rounds, Sample* sample) {
        auto const begin = on.record();
        for (int i = 0; i < rounds; ++i) mix.round();
        auto const end = on.record();
        if (sample != nullptr) *sample = telemetry.sample();
        return on.seconds(begin, end) / rounds;
    };
    double const once = std::max(1e-9, timed(1, nullptr));
    int const rounds = static_cast<int>(std::clamp(batch_s / once, 1.0, 1e4));

    std::ostringstream series;
    CsvWriter csv{series, {"time_s", "round_us", "clk_sm_mhz", "power_w", "temp_c", "throttle_mask"}};
    std::vector<double> times;
    Sustained out;
    for (double passed = 0; passed < r.sizes.sustained_s && !(stop && stop());) {
        times.push_back(timed(rounds, &out.row.sample));
        passed += times.back() * rounds;
        auto const& s = out.row.sample;
        csv.field(std::round(passed * 1000) / 1000)
            .field(times.back() * 1e6)
            .field(s.clk_sm_mhz)
            .field(s.power_w)
            .field(s.temp_c);
        csv.field(s.throttle_mask ? fmt::format("{:#x}", *s.throttle_mask) : std::string{}).end_row();
    }
    if (times.empty()) times.push_back(once);
    auto const third = std::max<std::size_t>(1, times.size() / 3);
    double const cold = mean(times, 0, std::min<std::size_t>(2, times.size())),
                 steady = mean(times, times.size() - third, third);
    std::vector<double> last(times.end() - static_cast<std::ptrdiff_t>(third), times.end());
    std::sort(last.begin(), last.end());
    out.row.point = p;
    out.row.point.op.flops = Flops{mix.flops};
    out.row.moved = mix.moved;
    out.row.timing = {steady,
                      quantile(last, 0.1),
                      quantile(last, 0.9),
                      last.front(),
                      static_cast<int>(times.size()) * rounds,
                      "rounds on a stream"};
    out.row.note = fmt::format("{} operations a round; the last third takes {:.4f} of the first half second",
                               mix.subjects.size(), steady / cold);
    out.series = series.str();
    return out;
}

} // namespace trainfare::measure
