// SPDX-License-Identifier: Apache-2.0
//
// Collectives as patterns of flows: who sends what share of a payload to whom.
#pragma once

#include <optional>
#include <vector>

#include "model/architecture.hpp"
#include "model/cluster.hpp"
#include "model/plan.hpp"
#include "model/routing.hpp"
#include "sim/problem.hpp"

namespace trainfare {

/// Where the ranks of a plan sit: pipeline ranks take contiguous GPUs, lock-step groups contiguous nodes of those (or
/// nodes strided over the pipeline rank's whole range, Placement::spread).
class RankMap {
public:
    RankMap(Plan const&, Cluster const&);
    [[nodiscard]] int pipeline_ranks() const { return pp_; }
    [[nodiscard]] int groups_per_rank() const { return groups_; }
    [[nodiscard]] int group_size() const { return size_; }
    [[nodiscard]] int group_id(int pipeline_rank, int group) const { return pipeline_rank * groups_ + group; }
    [[nodiscard]] int gpu(int group_id, int member) const;

private:
    int pp_ = 1, size_ = 1, groups_ = 1, node_ = 8;
    bool spread_ = false;
};

/// GPUs of one NVLink domain that @p ranks contiguous ones fill alike: all where they fit, else the largest number that
/// tiles both. 128 ranks on NVL72 meet in eights.
int ranks_inside(int ranks, int domain);

/// How the tokens of one GPU spread over its expert group, whatever dispatches them: DeepEP sends one copy per domain
/// reached, NCCL's all-to-all one copy per expert, all-gather one copy to everybody.
struct ExpertSpread {
    int domains = 1;          // NVLink domains of the group
    double domain_copies = 0; // copies of a token that enter domains (own one included)
    double gpu_copies = 0;    // copies that reach GPUs
};
ExpertSpread expert_spread(Plan const&, Cluster const&, Experts const&);

/// Ranks over which gradients of dense (shared) and of expert parameters are reduced. DualPipe keeps every stage twice,
/// on mirrored pipeline ranks, which doubles both.
struct GradientRanks {
    int dense = 1, expert = 1;
    int dense_inside = 1; // of the dense ones, in one NVLink domain
};
GradientRanks gradient_ranks(Plan const&, Cluster const&);

/// All flows of the problem, sorted by group and channel; @p only_group: of that group alone.
std::vector<Flow> make_flows(Plan const&, Cluster const&, RankMap const&, Network const&, Experts const* experts,
                             std::optional<int> only_group = {});

/// How much longer an uneven expert exchange takes than an even one. The most loaded ranks are dealt to the domains in
/// turn.
/// @p simulate  on SimGrid, alone (sim/surrogate.hpp); else the ratio of the busiest links, which is the same unless
/// flows that
///              miss the busiest link are the last to finish
double exchange_skew(Plan const&, Cluster const&, Experts const&, double load_cv, bool simulate);

} // namespace trainfare
