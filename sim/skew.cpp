// SPDX-License-Identifier: Apache-2.0
//
// Uneven loads on the exchange: which ranks each flow carries tokens for, and what that does to its time.
#include <algorithm>
#include <map>
#include <numeric>

#include "sim/surrogate.hpp"
#include "sim/traffic.hpp"

namespace trainfare {
namespace {

/// Expert ranks behind every expert flow, in the order in which FlowMaker::expert makes them: per GPU, first one flow
/// into each other domain (all ranks there), then one to each other GPU of the own domain.
std::vector<RankRange> flow_ranks(Plan const& plan, Cluster const& cluster, int group_size)
{
    int const size = plan.ep * plan.etp, inside = ranks_inside(size, cluster.domain), domains = size / inside;
    std::vector<RankRange> ranks;
    for (int i = 0; i < group_size; ++i) {
        int const own = i % size / inside, at = i % size % inside;
        for (int d = 0; d < domains; ++d)
            if (d != own) ranks.push_back({static_cast<std::uint32_t>(d * inside), static_cast<std::uint32_t>(inside)});
        for (int j = 0; j < inside; ++j)
            if (j != at) ranks.push_back({static_cast<std::uint32_t>(own * inside + j), 1});
    }
    return ranks;
}

/// Largest first, dealt to the domains like cards: no domain gets all the popular experts.
std::vector<double> deal(std::vector<double> const& sorted, int domains)
{
    std::vector<double> dealt(sorted.size());
    auto const d = static_cast<std::size_t>(domains), inside = sorted.size() / d;
    for (std::size_t i = 0; i < sorted.size(); ++i) dealt[i % d * inside + i / d] = sorted[i];
    return dealt;
}

double busiest_link(Problem const& problem, std::vector<double> const& factor)
{
    std::map<LinkId, double> load;
    std::size_t k = 0;
    for (auto const& flow : problem.flows) {
        if (flow.channel != Channel::expert) continue;
        for (auto const link : flow.route) load[link] += flow.share * factor[k];
        ++k;
    }
    double worst = 0;
    for (auto const& [link, bytes] : load) worst = std::max(worst, bytes / problem.links[link].capacity);
    return worst;
}

} // namespace

double exchange_skew(Plan const& plan, Cluster const& cluster, Experts const& experts, double load_cv, bool simulate)
{
    if (load_cv == 0 || plan.ep * plan.etp == 1) return 1;
    RankMap const map{plan, cluster};
    Network const network{cluster};
    Problem problem;
    problem.links = network.links();
    problem.flows = make_flows(plan, cluster, map, network, &experts, 0);
    problem.programs.resize(1);
    problem.groups.resize(static_cast<std::size_t>(map.pipeline_ranks() * map.groups_per_rank()));

    auto by_rank = rank_loads(experts, plan.ep, load_cv);
    std::vector<double> loads; // ranks of one expert-tensor group hold the same experts
    for (double const load : deal(by_rank, std::gcd(expert_spread(plan, cluster, experts).domains, plan.ep)))
        loads.insert(loads.end(), static_cast<std::size_t>(plan.etp), load);
    auto const ranks = flow_ranks(plan, cluster, map.group_size());
    if (simulate) return skew_factor(problem, 0, ranks, loads);

    std::vector<double> factor;
    for (auto const& range : ranks) {
        double sum = 0;
        for (std::uint32_t r = range.first; r < range.first + range.count; ++r) sum += loads[r];
        factor.push_back(sum / range.count);
    }
    return busiest_link(problem, factor) / busiest_link(problem, std::vector<double>(factor.size(), 1.0));
}

} // namespace trainfare
