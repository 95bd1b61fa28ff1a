// SPDX-License-Identifier: Apache-2.0
//
// Is a folding sound? Compares members of a class by content, not by colour, so that neither a hash collision nor a bug
// of the refinement can pass: the partition must be equitable, and its weights must be those of every link. Linear in
// hops.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include <fmt/format.h>

#include "sim/fold.hpp"

namespace trainfare {
namespace {

class Checker {
public:
    explicit Checker(Folded const& folded) : f_{folded}, p_{*folded.problem} {}

    std::vector<std::string> run()
    {
        if (!check_sizes()) return violations_;
        check_groups();
        check_flows();
        check_flows_of_groups();
        check_links();
        check_bytes();
        return violations_;
    }

private:
    template <class... Args>
    void violation(fmt::format_string<Args...> format, Args&&... args)
    {
        constexpr std::size_t enough = 20; // one wrong class breaks every member
        if (violations_.size() < enough) violations_.push_back(fmt::format(format, std::forward<Args>(args)...));
    }

    bool check_sizes()
    {
        auto const classes = f_.representative.size();
        auto const all = f_.class_of_group.size() == p_.groups.size() && f_.class_of_flow.size() == p_.flows.size() &&
                         f_.class_of_link.size() == p_.links.size() && f_.multiplicity.size() == classes &&
                         f_.previous.size() == classes && f_.next.size() == classes && f_.team.size() == classes &&
                         f_.link_capacity.size() == f_.link_multiplicity.size();
        auto const below = [](std::vector<std::uint32_t> const& values, std::size_t bound) {
            return std::all_of(values.begin(), values.end(), [bound](auto v) { return v < bound; });
        };
        auto const in_range = below(f_.class_of_group, classes) && below(f_.class_of_flow, f_.flows.size()) &&
                              below(f_.representative, p_.groups.size());
        auto const links_in_range = std::all_of(f_.class_of_link.begin(), f_.class_of_link.end(), [this](auto c) {
            return c == no_class || c < f_.link_capacity.size();
        });
        if (!all || !in_range || !links_in_range) violation("the folding does not belong to this problem");
        return violations_.empty();
    }

    void check_groups()
    {
        std::vector<std::vector<std::uint32_t>> team_classes(p_.teams.size());
        for (std::size_t t = 0; t < p_.teams.size(); ++t) {
            for (auto const member : p_.teams[t]) team_classes[t].push_back(f_.class_of_group[member]);
            std::sort(team_classes[t].begin(), team_classes[t].end());
            team_classes[t].erase(std::unique(team_classes[t].begin(), team_classes[t].end()), team_classes[t].end());
        }
        std::vector<std::uint32_t> members(f_.representative.size(), 0);
        for (std::size_t g = 0; g < p_.groups.size(); ++g) {
            auto const& group = p_.groups[g];
            auto const c = f_.class_of_group[g];
            auto const& twin = p_.groups[f_.representative[c]];
            ++members[c];
            if (group.program != twin.program) violation("group {} and its class {} run different programs", g, c);
            if (group.slowdown != twin.slowdown) violation("group {} and its class {} differ in slowdown", g, c);
            if (f_.previous[c] != std::vector{f_.class_of_group[group.previous]} ||
                f_.next[c] != std::vector{f_.class_of_group[group.next]}) {
                violation("group {} and its class {} differ in pipeline neighbours", g, c);
            }
            if (f_.team[c] != team_classes[group.team]) violation("group {} and its class {} differ in team", g, c);
        }
        if (members != f_.multiplicity) violation("multiplicities of group classes are wrong");
    }

    /// Link classes on the route of a flow, sorted, without links left out: equal for twins.
    [[nodiscard]] std::array<std::uint32_t, Route::max_links> hops(Flow const& flow) const
    {
        std::array<std::uint32_t, Route::max_links> out;
        out.fill(no_class);
        auto* end = out.begin();
        for (auto const link : flow.route) {
            auto const c = f_.class_of_link[link];
            if (c == no_class) continue;
            auto* const place = std::upper_bound(out.begin(), end, c);
            *end = c;
            std::rotate(place, end, end + 1);
            ++end;
        }
        return out;
    }

    void check_flows()
    {
        std::vector<std::uint32_t> first(f_.flows.size(), no_class);
        std::vector<std::uint64_t> members(f_.flows.size(), 0);
        for (std::uint32_t i = 0; i < p_.flows.size(); ++i) {
            auto const& flow = p_.flows[i];
            auto const c = f_.class_of_flow[i];
            auto const& of_class = f_.flows[c];
            if (members[c]++ == 0) first[c] = i;
            if (f_.class_of_group[flow.group] != of_class.group || flow.channel != of_class.channel ||
                flow.share != of_class.share) {
                violation("flow {} and its class {} differ in group class, channel or share", i, c);
            }
            auto const& twin = p_.flows[first[c]];
            if (hops(twin) != hops(flow)) {
                violation("flow {} and its class {} cross different link classes", i, c);
            }
        }
        for (std::size_t c = 0; c < members.size(); ++c) {
            if (members[c] != f_.flows[c].multiplicity) violation("multiplicity of flow class {} is wrong", c);
        }
    }

    /// Every group of a class owns as many flows of each flow class as the others do.
    void check_flows_of_groups()
    {
        constexpr auto channels = static_cast<std::size_t>(Channel::count);
        std::vector<std::uint32_t> owner(f_.flows.size(), no_class);
        std::vector<std::uint64_t> count(f_.flows.size(), 0), groups(f_.flows.size(), 0);
        auto const close = [&](std::size_t c) {
            auto const& flow = f_.flows[c];
            if (count[c] * f_.multiplicity[flow.group] != flow.multiplicity) {
                violation("group {} owns {} flows of class {}, others of its class do not", owner[c], count[c], c);
            }
            ++groups[c];
        };
        bool sorted = true;
        for (std::size_t i = 0; i < p_.flows.size(); ++i) {
            auto const& flow = p_.flows[i];
            if (i > 0) {
                auto const& before = p_.flows[i - 1];
                sorted = sorted && before.group * channels + static_cast<std::size_t>(before.channel) <=
                                       flow.group * channels + static_cast<std::size_t>(flow.channel);
            }
            auto const c = f_.class_of_flow[i];
            if (owner[c] != flow.group) {
                if (owner[c] != no_class) close(c);
                owner[c] = flow.group;
                count[c] = 0;
            }
            ++count[c];
        }
        if (!sorted) violation("flows are not sorted by group and channel");
        for (std::size_t c = 0; c < f_.flows.size(); ++c) {
            if (owner[c] != no_class) close(c);
            if (groups[c] != f_.multiplicity[f_.flows[c].group]) violation("not every group owns flows of class {}", c);
        }
    }

    void check_links()
    {
        // Flows on each link, link after link.
        std::vector<std::uint64_t> begin(p_.links.size() + 1, 0);
        for (auto const& flow : p_.flows) {
            for (auto const link : flow.route) ++begin[link + 1];
        }
        for (std::size_t i = 0; i < p_.links.size(); ++i) begin[i + 1] += begin[i];
        std::vector<std::uint32_t> on_link(begin.back());
        auto next = begin;
        for (std::uint32_t i = 0; i < p_.flows.size(); ++i) {
            for (auto const link : p_.flows[i].route) on_link[next[link]++] = i;
        }
        std::vector<std::vector<LinkUse>> expected(
            f_.link_capacity.size()); // by link class; LinkUse::link is the flow class
        for (std::uint32_t c = 0; c < f_.flows.size(); ++c) {
            for (auto const& use : f_.flows[c].uses) {
                if (use.link >= expected.size()) return violation("flow class {} uses a link that does not exist", c);
                expected[use.link].push_back({c, use.weight});
            }
        }
        std::vector<std::uint32_t> count(f_.flows.size(), 0);
        std::vector<std::uint64_t> members(f_.link_capacity.size(), 0);
        for (std::size_t i = 0; i < p_.links.size(); ++i) {
            auto const c = f_.class_of_link[i];
            if (c == no_class) {
                if (!never_binds(i, {on_link.data() + begin[i], on_link.data() + begin[i + 1]})) {
                    violation("link {} was left out, but it can bind", i);
                }
                continue;
            }
            ++members[c];
            if (p_.links[i].capacity != f_.link_capacity[c])
                violation("link {} and its class {} differ in capacity", i, c);
            for (auto at = begin[i]; at < begin[i + 1]; ++at) ++count[f_.class_of_flow[on_link[at]]];
            std::uint64_t seen = 0;
            for (auto const& use : expected[c]) {
                seen += count[use.link];
                if (count[use.link] != use.weight) {
                    violation("link {} carries {} flows of class {}, its class {} says {}", i, count[use.link],
                              use.link, c, use.weight);
                }
            }
            if (seen != begin[i + 1] - begin[i]) violation("link {} carries flows that its class {} does not", i, c);
            for (auto at = begin[i]; at < begin[i + 1]; ++at) count[f_.class_of_flow[on_link[at]]] = 0;
        }
        if (members != f_.link_multiplicity) violation("multiplicities of link classes are wrong");
    }

    /// True where the links just before (or just after) it on the routes of its flows are kept and add up to no more.
    [[nodiscard]] bool never_binds(std::size_t link, std::span<std::uint32_t const> flows) const
    {
        auto const neighbours_bind_first = [&](int step) {
            std::vector<LinkId> neighbours;
            for (auto const i : flows) {
                auto const& route = p_.flows[i].route;
                for (int at = 0; at < route.count; ++at) {
                    if (route.links[static_cast<std::size_t>(at)] != link) continue;
                    if (at + step < 0 || at + step >= route.count) return false;
                    neighbours.push_back(route.links[static_cast<std::size_t>(at + step)]);
                }
            }
            std::sort(neighbours.begin(), neighbours.end());
            neighbours.erase(std::unique(neighbours.begin(), neighbours.end()), neighbours.end());
            double sum = 0;
            for (auto const n : neighbours) {
                if (f_.class_of_link[n] == no_class) return false;
                sum += p_.links[n].capacity;
            }
            return sum <= p_.links[link].capacity * (1 + 1e-12); // rounding of the sum
        };
        return neighbours_bind_first(-1) || neighbours_bind_first(1);
    }

    void check_bytes()
    {
        constexpr auto channels = static_cast<std::size_t>(Channel::count);
        std::array<double, channels> full{}, folded{};
        for (auto const& flow : p_.flows) full[static_cast<std::size_t>(flow.channel)] += flow.share;
        for (auto const& flow : f_.flows) {
            folded[static_cast<std::size_t>(flow.channel)] += flow.share * static_cast<double>(flow.multiplicity);
        }
        for (std::size_t c = 0; c < channels; ++c) {
            if (!(std::abs(full[c] - folded[c]) <= 1e-9 * std::abs(full[c]))) {
                violation("channel {} moves {} in full and {} folded", c, full[c], folded[c]);
            }
        }
    }

    Folded const& f_;
    Problem const& p_;
    std::vector<std::string> violations_;
};

} // namespace

std::vector<std::string> check_fold(Folded const& folded)
{
    return Checker{folded}.run();
}

} // namespace trainfare
