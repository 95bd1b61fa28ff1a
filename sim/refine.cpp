// SPDX-License-Identifier: Apache-2.0
//
// Colour refinement on flat arrays. A colour of the next round is a 64-bit hash of the old colour and of the
// neighbours' colours; multisets are sums of mixed hashes, so nothing is sorted. A collision would merge what differs:
// check_fold() finds that by content. Each round costs a few operations per hop of a flow; the number of rounds grows
// with the distance from the farthest defect.
#include "sim/refine.hpp"

#include <bit>
#include <unordered_map>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare {
namespace {

using Hash = std::uint64_t;

constexpr LinkId no_link = 0xffffffff;
constexpr double rounding = 1e-12; // of a sum of capacities

/// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
Hash mix(Hash x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

Hash chain(Hash seed, Hash value)
{
    return mix(seed ^ (value * 0xff51afd7ed558ccd));
}

Hash bits(double value)
{
    return std::bit_cast<Hash>(value);
}

/// Hashes to dense colours, numbered by first occurrence. Returns how many there are.
std::size_t number(std::vector<Hash> const& hashes, std::vector<std::uint32_t>& colours)
{
    std::unordered_map<Hash, std::uint32_t> seen;
    colours.resize(hashes.size());
    for (std::size_t i = 0; i < hashes.size(); ++i) {
        colours[i] = seen.try_emplace(hashes[i], static_cast<std::uint32_t>(seen.size())).first->second;
    }
    return seen.size();
}

class Refinement {
public:
    Refinement(Problem const& problem, std::vector<char> const& left_out)
        : p_{problem}, left_out_{left_out}, flow_hash_(problem.flows.size()), link_hash_(problem.links.size()),
          group_hash_(problem.groups.size())
    {
        for (std::size_t i = 0; i < p_.links.size(); ++i) {
            auto const& link = p_.links[i];
            link_hash_[i] = chain(static_cast<Hash>(link.kind), bits(link.capacity));
        }
        for (std::size_t i = 0; i < p_.groups.size(); ++i) {
            auto const& group = p_.groups[i];
            group_hash_[i] = chain(group.program, bits(group.slowdown));
        }
        links_ = number(link_hash_, colours_.link);
        groups_ = number(group_hash_, colours_.group);
        for (std::size_t i = 0; i < p_.flows.size(); ++i) {
            auto const& flow = p_.flows[i];
            flow_hash_[i] = chain(chain(static_cast<Hash>(flow.channel), bits(flow.share)), colours_.group[flow.group]);
        }
        flows_ = number(flow_hash_, colours_.flow);
    }

    Colours run()
    {
        // A round is a function of the partition and only ever splits it: equal counts mean an equal partition, for
        // good.
        while (round()) {}
        return std::move(colours_);
    }

private:
    bool round()
    {
        ++colours_.rounds;
        auto const before = flows_ + links_ + groups_;
        colour_flows();
        colour_links_and_groups();
        return flows_ + links_ + groups_ != before;
    }

    void colour_flows()
    {
        for (std::size_t i = 0; i < p_.flows.size(); ++i) {
            auto const& flow = p_.flows[i];
            Hash route = 0;
            for (auto const link : flow.route) {
                if (!left_out_[link]) route += mix(colours_.link[link]);
            }
            flow_hash_[i] = chain(chain(colours_.flow[i], colours_.group[flow.group]), route);
        }
        flows_ = number(flow_hash_, colours_.flow);
    }

    void colour_links_and_groups()
    {
        auto const& old = colours_.group;
        for (std::size_t i = 0; i < p_.links.size(); ++i) link_hash_[i] = mix(colours_.link[i]);
        std::vector<Hash> flows_of_group(p_.groups.size(), 0);
        for (std::size_t i = 0; i < p_.flows.size(); ++i) {
            auto const& flow = p_.flows[i];
            auto const seen_by_others = mix(~Hash{colours_.flow[i]});
            flows_of_group[flow.group] += seen_by_others;
            for (auto const link : flow.route) {
                if (!left_out_[link]) link_hash_[link] += seen_by_others;
            }
        }
        std::vector<Hash> team(p_.teams.size(), 0);
        for (std::size_t t = 0; t < p_.teams.size(); ++t) {
            for (auto const member : p_.teams[t]) team[t] += mix(old[member]);
        }
        for (std::size_t i = 0; i < p_.groups.size(); ++i) {
            auto const& group = p_.groups[i];
            auto hash = chain(old[i], flows_of_group[i]);
            hash = chain(hash, old[group.previous]);
            hash = chain(hash, old[group.next]);
            group_hash_[i] = chain(hash, team[group.team]);
        }
        links_ = number(link_hash_, colours_.link);
        groups_ = number(group_hash_, colours_.group);
    }

    Problem const& p_;
    std::vector<char> const& left_out_;
    Colours colours_;
    std::vector<Hash> flow_hash_, link_hash_, group_hash_;
    std::size_t flows_ = 0, links_ = 0, groups_ = 0; // colours of each
};

void require(bool sound, char const* what, std::size_t index)
{
    if (!sound)
        throw InternalError(fmt::format("simulation problem: {} {} names something that does not exist", what, index));
}

} // namespace

void check_references(Problem const& p)
{
    for (std::size_t i = 0; i < p.groups.size(); ++i) {
        auto const& group = p.groups[i];
        require(group.program < p.programs.size() && group.team < p.teams.size() && group.previous < p.groups.size() &&
                    group.next < p.groups.size(),
                "group", i);
    }
    for (std::size_t t = 0; t < p.teams.size(); ++t) {
        for (auto const member : p.teams[t]) require(member < p.groups.size(), "team", t);
    }
    for (std::size_t i = 0; i < p.flows.size(); ++i) {
        auto const& flow = p.flows[i];
        require(flow.group < p.groups.size() && flow.channel < Channel::count && flow.route.count <= Route::max_links,
                "flow", i);
        for (auto const link : flow.route) require(link < p.links.size(), "flow", i);
    }
}

std::vector<char> implied_links(Problem const& p)
{
    auto const is = [&](LinkId link, LinkKind kind) { return p.links[link].kind == kind; };
    std::vector<double> behind(p.links.size(), 0);            // capacity of the NICs behind a leaf link
    std::vector<LinkId> leaf_of(p.links.size(),
                                no_link); // of a NIC; one that changes leaves counts each time, which is safe
    std::vector<char> implied(p.links.size(), 0);
    for (std::size_t i = 0; i < p.links.size(); ++i) {
        implied[i] = p.links[i].kind == LinkKind::leaf_up || p.links[i].kind == LinkKind::leaf_down;
    }
    for (auto const& flow : p.flows) {
        for (auto const* hop = flow.route.begin(); hop != flow.route.end(); ++hop) {
            if (!implied[*hop]) continue;
            auto const up = is(*hop, LinkKind::leaf_up);
            auto const has_nic = up ? hop != flow.route.begin() && is(hop[-1], LinkKind::nic_out)
                                    : hop + 1 != flow.route.end() && is(hop[1], LinkKind::nic_in);
            if (!has_nic) {
                implied[*hop] = 0;
                continue;
            }
            auto const nic = up ? hop[-1] : hop[1];
            if (leaf_of[nic] == *hop) continue;
            leaf_of[nic] = *hop;
            behind[*hop] += p.links[nic].capacity;
        }
    }
    for (std::size_t i = 0; i < p.links.size(); ++i) {
        if (implied[i]) implied[i] = behind[i] <= p.links[i].capacity * (1 + rounding);
    }
    return implied;
}

Colours refine(Problem const& problem, std::vector<char> const& left_out)
{
    return Refinement{problem, left_out}.run();
}

} // namespace trainfare
