// SPDX-License-Identifier: Apache-2.0
//
// Where tokens go, counted exactly for a uniform router, and how load is spread for an uneven one.
#include "model/routing.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare {

namespace {

double log_choose(int n, int k) { return std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0); }

double choose_share(int n, int k) { return k < 0 || k > n ? -INFINITY : log_choose(n, k); }

/// Chance that none of @p taken draws (without replacement) from @p all hits one of @p marked.
double miss(int all, int marked, int taken)
{
    double chance = 1;
    for (int i = 0; i < taken; ++i) chance *= std::max(0.0, 1.0 * all - marked - i) / (1.0 * all - i);
    return chance;
}

/// A holder's experts seen from the router's groups: groups it holds whole, and at most two that it holds in part.
struct Overlap {
    int whole = 0;
    std::array<int, 2> part{};
    int parts = 0;
};

Overlap overlap_of(int begin, int end, int group_size)
{
    Overlap o;
    for (int group = begin / group_size; group * group_size < end; ++group) {
        int const inside = std::min(end, (group + 1) * group_size) - std::max(begin, group * group_size);
        if (inside == group_size)
            ++o.whole;
        else
            o.part[static_cast<std::size_t>(o.parts++)] = inside;
    }
    return o;
}

/// Chance that a token visits a holder: sum over which of its groups the token may use (hypergeometric), then over
/// the draw of experts from the groups in use.
double visit_chance(Experts const& e, Overlap const& o)
{
    int const group_size = e.count / e.groups, reachable = e.top_groups * group_size;
    int const elsewhere = e.groups - o.whole - o.parts;
    double const ways = log_choose(e.groups, e.top_groups);
    double visited = 0;
    for (int mask = 0; mask < (1 << o.parts); ++mask) {
        int const used_parts = (mask & 1) + (mask >> 1);
        int const in_parts = ((mask & 1) ? o.part[0] : 0) + ((mask & 2) ? o.part[1] : 0);
        for (int used = 0; used <= std::min(o.whole, e.top_groups - used_parts); ++used) {
            double const log_ways =
                choose_share(o.whole, used) + choose_share(elsewhere, e.top_groups - used_parts - used);
            double const marked = used * group_size + in_parts;
            visited += std::exp(log_ways - ways) * (1 - miss(reachable, static_cast<int>(marked), e.top_k));
        }
    }
    return visited;
}

double expected_visits(Experts const& e, int holders)
{
    int const held = e.count / holders, group_size = e.count / e.groups;
    // Holders and groups that nest are all alike; otherwise they meet in different ways, one by one.
    if (held % group_size == 0 || group_size % held == 0)
        return holders * visit_chance(e, overlap_of(0, held, group_size));
    double sum = 0;
    for (int h = 0; h < holders; ++h) sum += visit_chance(e, overlap_of(h * held, (h + 1) * held, group_size));
    return sum;
}

void require(bool holds, std::string const& text)
{
    if (!holds) throw InputError(text);
}

void check_experts(Experts const& e, int ep)
{
    require(e.count > 0 && e.top_k > 0 && e.top_k <= e.count,
            fmt::format(
                "{} of {} experts cannot be chosen (a token needs at least one, and all of them different); try top-k "
                "between 1 and the number of experts",
                e.top_k, e.count));
    require(
        e.groups > 0 && e.count % e.groups == 0 && e.top_groups > 0 && e.top_groups <= e.groups,
        fmt::format("{} of {} groups of {} experts cannot be (groups are equal); try groups that divide the experts",
                    e.top_groups, e.groups, e.count));
    require(ep > 0 && e.count % ep == 0,
            fmt::format("ep = {} does not divide {} experts (every rank must hold the same number); try a divisor", ep,
                        e.count));
}

/// The standard normal quantile for p in [1/2, 1), by Newton's method from 0: the distribution is concave there, so the
/// steps approach from below and never overshoot.
double upper_normal_quantile(double p)
{
    constexpr double root_two_pi = 2.5066282746310002;
    double x = 0;
    for (int i = 0; i < 100; ++i) {
        double const above = std::erfc(x / std::sqrt(2.0)) / 2 - (1 - p);
        double const step = above * root_two_pi * std::exp(x * x / 2);
        x += step;
        if (std::abs(step) < 1e-13) break;
    }
    return x;
}

} // namespace

Reach expected_reach(Experts const& experts, int ep, int domains)
{
    Experts e = experts;
    if (e.groups == 1) e.top_groups = 1; // no limit, whatever the field says
    check_experts(e, ep);
    require(e.top_k <= e.top_groups * (e.count / e.groups),
            fmt::format("top-{} does not fit into {} groups of {} experts; try more groups", e.top_k, e.top_groups,
                        e.count / e.groups));
    require(domains > 0 && ep % domains == 0,
            fmt::format(
                "ep = {} does not divide into {} NVLink domains (an expert group fills whole domains or shares one); "
                "try a multiple",
                ep, domains));
    return {expected_visits(e, domains), expected_visits(e, ep)};
}

std::vector<double> rank_loads(Experts const& e, int ep, double load_cv)
{
    check_experts(e, ep);
    require(load_cv >= 0 && load_cv <= 100, fmt::format("load_cv = {} is not between 0 and 100; try 0.2", load_cv));
    auto const ranks = static_cast<std::size_t>(ep);
    // The mean over a rank's experts, each with its own luck, varies less than one expert does.
    double const cv = load_cv / std::sqrt(e.count / ep);
    std::vector<double> loads(ranks, 1);
    for (std::size_t i = 0; i < ranks / 2; ++i) {
        // Blom 1958: the i-th largest of n normal draws is near the quantile (i - 3/8) / (n + 1/4) from the top.
        double const from_top = (static_cast<double>(i) + 0.625) / (ep + 0.25);
        double const z = upper_normal_quantile(1 - from_top);
        loads[i] = 1 + cv * z;
        loads[ranks - 1 - i] = std::max(0.0, 1 - cv * z);
    }
    double const mean = std::accumulate(loads.begin(), loads.end(), 0.0) / ep;
    for (auto& load : loads) load /= mean;
    return loads;
}

} // namespace trainfare
