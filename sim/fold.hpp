// SPDX-License-Identifier: Apache-2.0
//
// Exact folding. Colour refinement over groups, flows and links finds the coarsest equitable partition; one group, flow
// and link of each class then stands for all. A flow class crosses a link class with an integer weight: how many flows
// of the class cross one link. Weights are computed and checked, never typed. A fault is just another start colour.
//
// Why it is exact: in a max-min fair network, twins have equal rates at all times, so the quotient system
// (sum of weight x rate <= capacity) has the same solution as the full one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/problem.hpp"

namespace trainfare {

struct LinkUse {
    std::uint32_t link = 0;   // link class
    std::uint32_t weight = 0; // flows of the class on one such link
};

struct FlowClass {
    std::uint32_t group = 0;  // group class that owns it
    Channel channel = Channel::expert;
    double share = 0;
    std::vector<LinkUse> uses;
    std::uint64_t multiplicity = 1; // flows it stands for, over all groups
};

inline constexpr std::uint32_t no_class = 0xffffffff;

/// A problem whose groups, flows and links are classes. All vectors by class.
struct Folded {
    Problem const* problem = nullptr;        // outlives this
    std::vector<std::uint32_t> class_of_group;
    std::vector<std::uint32_t> representative; // a group of each class
    std::vector<std::uint32_t> multiplicity;   // groups in each class
    std::vector<std::vector<std::uint32_t>> previous, next, team; // classes of the neighbours that each class waits for
    std::vector<double> link_capacity;         // B/s
    std::vector<std::uint64_t> link_multiplicity;
    std::vector<FlowClass> flows;              // sorted by group class, then channel
    std::vector<std::uint32_t> class_of_flow, class_of_link; // no_class: a link left out
    int rounds = 0;                            // refinement rounds until stable
};

/// Coarsest equitable partition. Links without flows are left out, and so are leaf links that cannot bind: those whose
/// NICs add up to no more than they carry.
Folded fold(Problem const&);
/// Every group, flow and link its own class, nothing but links without flows left out: the audit run.
Folded unfolded(Problem const&);

/// Independent of the refinement's hashes: every link of a class carries the same number of flows of every flow class,
/// every group of a class has the same program, slowdown and neighbours' classes, and classes times multiplicity give
/// back all bytes. Empty: sound.
std::vector<std::string> check_fold(Folded const&);

} // namespace trainfare
