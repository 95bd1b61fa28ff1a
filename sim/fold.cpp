// SPDX-License-Identifier: Apache-2.0
//
// From colours to classes: representatives, multiplicities, neighbours, and the weight w(F, L) with which a flow class
// loads a link class, counted on the representative link. Worked number: 8 GPUs in a node, each sending to the 7 others
// over NVLink: 56 flows and 16 ports fold to one flow class that loads the class of out ports, and that of in ports,
// with weight 7.
#include "sim/fold.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "sim/refine.hpp"

namespace trainfare {
namespace {

std::uint32_t count_of(std::vector<std::uint32_t> const& classes)
{
    return classes.empty() ? 0 : *std::max_element(classes.begin(), classes.end()) + 1;
}

void add_once(std::vector<std::uint32_t>& list, std::uint32_t value)
{
    if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

void add_groups(Folded& out, Problem const& p, std::vector<std::uint32_t> class_of_group)
{
    auto const classes = count_of(class_of_group);
    out.class_of_group = std::move(class_of_group);
    out.representative.assign(classes, no_class);
    out.multiplicity.assign(classes, 0);
    for (auto* list : {&out.previous, &out.next, &out.team}) list->resize(classes);
    std::vector<std::vector<std::uint32_t>> classes_of_team(p.teams.size());
    for (std::size_t t = 0; t < p.teams.size(); ++t) {
        auto& list = classes_of_team[t];
        for (auto const member : p.teams[t]) list.push_back(out.class_of_group[member]);
        std::sort(list.begin(), list.end());
        list.erase(std::unique(list.begin(), list.end()), list.end());
    }
    for (std::uint32_t g = 0; g < p.groups.size(); ++g) {
        auto const& group = p.groups[g];
        auto const c = out.class_of_group[g];
        if (out.multiplicity[c]++ == 0) out.representative[c] = g;
        add_once(out.previous[c], out.class_of_group[group.previous]);
        add_once(out.next[c], out.class_of_group[group.next]);
        if (out.representative[c] == g) out.team[c] = classes_of_team[group.team];
    }
}

/// Keeps links that carry flows and are not left out; classes are renumbered by first occurrence. Returns the first
/// link of each class.
std::vector<std::uint32_t> add_links(Folded& out, Problem const& p, std::vector<std::uint32_t> const& colour,
                                     std::vector<char> const& left_out)
{
    std::vector<char> used(p.links.size(), 0);
    for (auto const& flow : p.flows) {
        for (auto const link : flow.route) used[link] = 1;
    }
    std::vector<std::uint32_t> class_of_colour(count_of(colour), no_class), first;
    out.class_of_link.assign(p.links.size(), no_class);
    for (std::uint32_t i = 0; i < p.links.size(); ++i) {
        if (!used[i] || left_out[i]) continue;
        auto& c = class_of_colour[colour[i]];
        if (c == no_class) {
            c = static_cast<std::uint32_t>(first.size());
            first.push_back(i);
            out.link_capacity.push_back(p.links[i].capacity);
            out.link_multiplicity.push_back(0);
        }
        out.class_of_link[i] = c;
        ++out.link_multiplicity[c];
    }
    return first;
}

void add_flows(Folded& out, Problem const& p, std::vector<std::uint32_t> const& colour)
{
    std::vector<FlowClass> flows(count_of(colour));
    for (auto& flow : flows) flow.multiplicity = 0;
    for (std::size_t i = 0; i < p.flows.size(); ++i) {
        auto& c = flows[colour[i]];
        if (c.multiplicity++ > 0) continue;
        c.group = out.class_of_group[p.flows[i].group];
        c.channel = p.flows[i].channel;
        c.share = p.flows[i].share;
    }
    std::vector<std::uint32_t> order(flows.size()), rank(flows.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
        return std::tie(flows[a].group, flows[a].channel) < std::tie(flows[b].group, flows[b].channel);
    });
    for (std::uint32_t i = 0; i < order.size(); ++i) {
        rank[order[i]] = i;
        out.flows.push_back(std::move(flows[order[i]]));
    }
    out.class_of_flow.resize(p.flows.size());
    for (std::size_t i = 0; i < p.flows.size(); ++i) out.class_of_flow[i] = rank[colour[i]];
}

void add_weights(Folded& out, Problem const& p, std::vector<std::uint32_t> const& first_link)
{
    struct Crossing {
        std::uint32_t flow, link;
        auto operator<=>(Crossing const&) const = default;
    };
    std::vector<Crossing> crossings; // flows on representative links
    for (std::size_t i = 0; i < p.flows.size(); ++i) {
        for (auto const link : p.flows[i].route) {
            auto const c = out.class_of_link[link];
            if (c != no_class && first_link[c] == link) crossings.push_back({out.class_of_flow[i], c});
        }
    }
    std::sort(crossings.begin(), crossings.end());
    for (std::size_t i = 0; i < crossings.size();) {
        auto const begin = i;
        while (i < crossings.size() && crossings[i] == crossings[begin]) ++i;
        out.flows[crossings[begin].flow].uses.push_back({crossings[begin].link, static_cast<std::uint32_t>(i - begin)});
    }
}

Folded classes_of(Problem const& p, Colours colours, std::vector<char> const& left_out)
{
    Folded out;
    out.problem = &p;
    out.rounds = colours.rounds;
    add_groups(out, p, std::move(colours.group));
    auto const first_link = add_links(out, p, colours.link, left_out);
    add_flows(out, p, colours.flow);
    add_weights(out, p, first_link);
    return out;
}

} // namespace

Folded fold(Problem const& problem)
{
    check_references(problem);
    auto const left_out = implied_links(problem);
    return classes_of(problem, refine(problem, left_out), left_out);
}

Folded unfolded(Problem const& problem)
{
    check_references(problem);
    Colours own;
    for (auto [colour, size] :
         {std::pair{&own.group, problem.groups.size()}, std::pair{&own.flow, problem.flows.size()},
          std::pair{&own.link, problem.links.size()}}) {
        colour->resize(size);
        std::iota(colour->begin(), colour->end(), 0U);
    }
    return classes_of(problem, std::move(own), std::vector<char>(problem.links.size(), 0));
}

} // namespace trainfare
