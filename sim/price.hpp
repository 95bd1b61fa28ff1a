// SPDX-License-Identifier: Apache-2.0
//
// Operations of a block, priced and merged into segments: runs of compute between two exchanges over the network.
#pragma once

#include <array>
#include <vector>

#include "calibrate/cost.hpp"
#include "model/ops.hpp"

namespace trainfare {

using ClassSeconds = std::array<double, static_cast<std::size_t>(OpClass::count)>;
double seconds(ClassSeconds const&);
ClassSeconds& operator+=(ClassSeconds&, ClassSeconds const&);

/// Compute, then (optionally) one exchange of experts' traffic.
struct Segment {
    ClassSeconds compute{};
    bool exchanges = false;
    bool is_dispatch = false;      // else combine
    double payload = 0;            // bytes of one copy of all tokens of one GPU
};

struct PricedBlock {
    std::vector<Segment> forward, backward;
    std::vector<ClassSeconds> weight; // weight[i]: weight gradients that may run once backward[i] is done
};

/// All weight gradients of a block.
double weight_seconds(PricedBlock const&);

/// What compute of one GPU shares with its neighbours. TP and CP traffic stays inside the NVLink domain and is serial with the
/// compute around it, so it is priced here in closed form instead of as flows.
struct LocalTraffic {
    int tp = 1, cp = 1;
    bool overlap_tp = false;
    Bandwidth scale_up;
    Bandwidth cp_bandwidth;        // of the link that a context-parallel ring crosses
    Seconds latency;
    double expert_load = 1;        // rows of the most loaded expert rank over the mean: it sets the pace
};

/// One block alone (comm_sms 0) or beside communication.
PricedBlock price_block(BlockOps const&, CostModel const&, Conditions, LocalTraffic const&);

/// Time of one operation under these conditions, neighbours' traffic and load included.
double price_op(Op const&, CostModel const&, Conditions, LocalTraffic const&);

} // namespace trainfare
