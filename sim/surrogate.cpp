// SPDX-License-Identifier: Apache-2.0
//
// Worked number: one GPU sends to two others over a 1 GB/s port, loads 1.5 and 0.5. The port still carries the same
// bytes, but the first receiver's port takes 1.5 times as long as before: the factor is max(1, 1.5/2) = 1 when the
// sender binds.
#include "sim/surrogate.hpp"

#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "model/error.hpp"
#include "sim/simulate.hpp"

namespace trainfare {
namespace {

constexpr double payload = 1e9; // bytes; the ratio of two durations without latency does not depend on it

/// The exchange as words: shares, routes and capacities, which is all that its duration depends on.
using Question = std::vector<std::uint64_t>;

Question question_of(Problem const& exchange)
{
    Question out;
    for (auto const& flow : exchange.flows) {
        out.push_back(std::bit_cast<std::uint64_t>(flow.share));
        out.push_back(flow.route.count);
        for (auto const link : flow.route) {
            out.push_back(link);
            out.push_back(std::bit_cast<std::uint64_t>(exchange.links[link].capacity));
        }
    }
    return out;
}

double duration(Problem const& exchange)
{
    static std::map<Question, double> known;
    static std::mutex mutex;
    auto const question = question_of(exchange);
    {
        std::lock_guard const lock{mutex};
        if (auto const found = known.find(question); found != known.end()) return found->second;
    }
    auto const seconds = simulate_alone(exchange, 0, Channel::expert, payload).value();
    std::lock_guard const lock{mutex};
    known.emplace(question, seconds);
    return seconds;
}

void check_loads(std::span<double const> rank_load)
{
    for (auto const load : rank_load) {
        if (!(load >= 0) || !std::isfinite(load)) {
            throw InternalError(fmt::format("surrogate: a rank's load is {}; loads are 0 or more", load));
        }
    }
    auto const mean = std::accumulate(rank_load.begin(), rank_load.end(), 0.0) / static_cast<double>(rank_load.size());
    if (!(std::abs(mean - 1) < 1e-6))
        throw InternalError(fmt::format("surrogate: the mean load is {} and must be 1", mean));
}

double mean_load(RankRange range, std::span<double const> rank_load)
{
    if (range.count == 0 || range.first > rank_load.size() || range.count > rank_load.size() - range.first) {
        throw InternalError(fmt::format("surrogate: a flow carries tokens of {} expert ranks from {}, but there are {}",
                                        range.count, range.first, rank_load.size()));
    }
    auto const loads = rank_load.subspan(range.first, range.count);
    return std::accumulate(loads.begin(), loads.end(), 0.0) / range.count;
}

} // namespace

double skew_factor(Problem const& problem, std::uint32_t group, std::span<RankRange const> ranks,
                   std::span<double const> rank_load)
{
    Problem uniform;
    uniform.links = problem.links;
    for (auto const& flow : problem.flows) {
        if (flow.group != group || flow.channel != Channel::expert) continue;
        uniform.flows.push_back(flow);
        uniform.flows.back().group = 0;
    }
    if (uniform.flows.size() != ranks.size()) {
        throw InternalError(fmt::format("surrogate: group {} has {} expert flows, ranks were given for {}", group,
                                        uniform.flows.size(), ranks.size()));
    }
    if (uniform.flows.empty()) return 1;
    check_loads(rank_load);
    auto skewed = uniform;
    for (std::size_t i = 0; i < ranks.size(); ++i) skewed.flows[i].share *= mean_load(ranks[i], rank_load);
    auto const uniform_seconds = duration(uniform);
    return uniform_seconds > 0 ? duration(skewed) / uniform_seconds : 1;
}

} // namespace trainfare
