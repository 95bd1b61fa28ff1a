// SPDX-License-Identifier: Apache-2.0
//
// Sentences and number formats that more than one report uses.
#include "scenarios/report_words.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "model/text_units.hpp"
#include "scenarios/report.hpp"

namespace trainfare {

std::string plain(double value, int significant)
{
    if (!std::isfinite(value)) return "-";
    if (value == 0) return "0";
    int const magnitude = static_cast<int>(std::floor(std::log10(std::abs(value))));
    return fmt::format("{:.{}f}", value, std::clamp(significant - 1 - magnitude, 0, 6));
}

std::string percent(double share, int digits)
{
    auto text = fmt::format("{:.{}f}", 100 * share, digits);
    if (text.front() == '-' && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);
    return text + " %";
}

std::string signed_percent(double change, int digits)
{
    auto const text = percent(change, digits);
    bool const zero = text.find_first_of("123456789") == std::string::npos;
    return zero || change < 0 ? text : "+" + text;
}

std::string verdict(Result const& r)
{
    auto const& p = r.projection;
    auto const& fullest = r.memory.fullest();
    std::string const memory =
        r.fits ? fmt::format("Fits, {} free on the fullest GPU", format(r.memory.headroom()))
               : fmt::format("DOES NOT FIT: pipeline rank {} needs {} and has {} ({} missing). If it did", fullest.rank,
                             format(fullest.total()), format(r.memory.capacity), format(-r.memory.headroom()));
    return fmt::format("{}: {} days, {}, {} [{} to {}]. Limited by {}.", memory, plain(p.days.value, 3),
                       format(p.gpu_hours.value * units::gpu_hour), format(Dollars{p.cost_usd.value}),
                       format(Dollars{p.cost_usd.low}), format(Dollars{p.cost_usd.high}), r.limited_by);
}

std::vector<std::string> not_in_the_price()
{
    return {
        "research before the run: ablations, smaller models, runs that failed or were thrown away",
        "lost time of this run: crashes, restarts, slow nodes, waiting for repairs, evaluation on the same GPUs",
        "people: researchers, engineers, operations, annotators",
        "data: collecting, licensing, cleaning and generating it",
        "storage, CPU machines, checkpoint and wide-area traffic, networking beyond what the rental includes",
        "GPUs reserved but idle: spare nodes, the ends of a contract, time between phases",
        "phases that are not listed above (for example long reinforcement learning), safety work and serving",
        "electricity on top: it is part of a rental, so the energy above is for information and not added",
    };
}

} // namespace trainfare
