// SPDX-License-Identifier: Apache-2.0
#include "sim/traffic.hpp"

#include <algorithm>
#include <numeric>

namespace trainfare {

RankMap::RankMap(Plan const& plan, Cluster const& cluster)
    // Whole expert groups and whole TP x CP groups; both divide the ranks of a stage, so their least common multiple
    // does.
    : pp_{plan.pp}, size_{std::lcm(plan.ep * plan.etp, plan.tp * plan.cp)}, node_{cluster.gpus_per_node},
      spread_{cluster.placement == Placement::spread && size_ % cluster.gpus_per_node == 0}
{
    groups_ = plan.gpus() / pp_ / size_;
}

int RankMap::gpu(int group_id, int member) const
{
    int const rank = group_id / groups_, group = group_id % groups_;
    int const first = rank * groups_ * size_;
    if (!spread_) return first + group * size_ + member;
    int const node = member / node_ * groups_ + group; // the groups' nodes take turns
    return first + node * node_ + member % node_;
}

int ranks_inside(int ranks, int domain) { return ranks <= domain ? ranks : std::gcd(ranks, domain); }

ExpertSpread expert_spread(Plan const& plan, Cluster const& cluster, Experts const& experts)
{
    int const ranks = plan.ep * plan.etp;
    ExpertSpread spread;
    spread.domains = ranks / ranks_inside(ranks, cluster.domain);
    switch (plan.dispatcher) {
    case Dispatcher::allgather: spread.domain_copies = spread.domains, spread.gpu_copies = ranks; break;
    case Dispatcher::alltoall: // one copy per expert, and per tensor slice of it
        spread.gpu_copies = static_cast<double>(experts.top_k) * plan.etp;
        spread.domain_copies = spread.gpu_copies;
        break;
    case Dispatcher::deepep:
    case Dispatcher::none:
        auto const reach = expected_reach(experts, plan.ep, std::gcd(spread.domains, plan.ep));
        spread.domain_copies = reach.domains, spread.gpu_copies = reach.gpus * plan.etp;
        break;
    }
    return spread;
}

GradientRanks gradient_ranks(Plan const& plan, Cluster const& cluster)
{
    int const mirrored = plan.schedule == ScheduleKind::dualpipe ? 2 : 1;
    GradientRanks ranks;
    int const dense = plan.dp * plan.cp;
    ranks.dense_inside = ranks_inside(dense, std::max(1, cluster.domain / plan.tp));
    ranks.dense = dense * mirrored;
    ranks.expert = std::max(1, plan.gpus() / (plan.pp * plan.ep * plan.etp)) * mirrored;
    return ranks;
}

namespace {

class FlowMaker {
public:
    FlowMaker(Plan const& plan, Cluster const& cluster, RankMap const& map, Network const& network,
              Experts const* experts)
        : plan_{plan}, map_{map}, network_{network}, domain_{cluster.domain}, gradients_{gradient_ranks(plan, cluster)},
          has_experts_{experts != nullptr}, exchanges_{has_experts_ && plan.ep * plan.etp > 1}
    {
        if (exchanges_) spread_ = expert_spread(plan, cluster, *experts);
    }

    void group(std::vector<Flow>& flows, int id)
    {
        if (exchanges_) expert(flows, id);
        if (plan_.pp > 1) {
            pipeline(flows, id, Channel::to_next, 1);
            pipeline(flows, id, Channel::to_previous, -1);
        }
        if (gradients_.dense > 1) dense(flows, id);
        if (has_experts_ && gradients_.expert > 1) expert_gradients(flows, id);
    }

private:
    void add(std::vector<Flow>& flows, int id, Channel channel, double share, int from, int to) const
    {
        if (from != to && share > 0)
            flows.push_back({static_cast<std::uint32_t>(id), channel, share, network_.route(from, to)});
    }

    /// A hop of a gradient ring. All GPUs of a ring send as much as they receive, so the way over the fabric is charged to the
    /// sender's own two NIC ports: the same load as on the receiver's, and every GPU far from a fault stays like every other. With a
    /// flow to the real neighbour, one slow NIC made each GPU different by its distance along the ring (6,000 flow classes
    /// instead of 400 on 2,048 GPUs). Leaf uplinks see one hop in nodes_per_leaf of a ring: left out.
    void add_ring_hop(std::vector<Flow>& flows, int id, Channel channel, double share, int from, int to) const
    {
        if (from == to || share <= 0) return;
        Route route;
        for (auto const link : network_.route(from, to)) {
            route.add(link);
            if (network_.links()[link].kind != LinkKind::nic_out) continue;
            auto const carrier = static_cast<int>(link - network_.link(LinkKind::nic_out, 0));
            route.add(network_.link(LinkKind::nic_in, carrier));
            break;
        }
        flows.push_back({static_cast<std::uint32_t>(id), channel, share, route});
    }

    /// One copy crosses to the GPU of the same position in each other domain, which hands it on to those of its
    /// neighbours that hold an expert of the token (DeepEP; NCCL's PXN does the same with more copies).
    void expert(std::vector<Flow>& flows, int id) const
    {
        int const size = plan_.ep * plan_.etp; // ranks that exchange; several such sets may share one lock-step group
        int const inside = ranks_inside(size, domain_);
        // Copies that stay on their GPU go through the same kernel: published bandwidths count them (EP8 on H800:
        // 153-158 of 160 GB/s with them, 134-138 without), so they take their share of the ports' time.
        double const own_copies = inside > 1 ? inside / (inside - 1.0) : 1;
        for (int i = 0; i < map_.group_size(); ++i) {
            int const base = i / size * size, own = (i - base) / inside;
            for (int d = 0; d < spread_.domains; ++d)
                if (d != own)
                    add(flows, id, Channel::expert, spread_.domain_copies / spread_.domains, map_.gpu(id, i),
                        map_.gpu(id, base + d * inside + (i - base) % inside));
            for (int j = 0; j < inside; ++j)
                add(flows, id, Channel::expert, own_copies * spread_.domains * spread_.gpu_copies / size,
                    map_.gpu(id, i), map_.gpu(id, base + own * inside + j));
        }
    }

    void pipeline(std::vector<Flow>& flows, int id, Channel channel, int step) const
    {
        int const per_rank = map_.groups_per_rank(), ranks = map_.pipeline_ranks();
        int const other = map_.group_id((id / per_rank + step + ranks) % ranks, id % per_rank);
        for (int i = 0; i < map_.group_size(); ++i) add(flows, id, channel, 1, map_.gpu(id, i), map_.gpu(other, i));
    }

    /// Two-level ring over all data-parallel ranks: inside the domain, then across domains on what is left, one rail
    /// each.
    void dense(std::vector<Flow>& flows, int id) const
    {
        int const per_rank = map_.groups_per_rank(), size = map_.group_size();
        int const first = id / per_rank * per_rank; // first group of this pipeline rank
        int const stage = per_rank * size;          // GPUs of a pipeline rank
        int const inside = gradients_.dense_inside, across = gradients_.dense / inside;
        auto const gpu_at = [&](int position) { return map_.gpu(first + position / size, position % size); };
        for (int i = 0; i < size; ++i) {
            int const position = id % per_rank * size + i;
            int const span = inside * plan_.tp; // GPUs of one domain that hold the same parameters, all TP ranks
            int const start = position / span * span;
            int const next = start + (position - start + plan_.tp) % span;
            if (inside > 1)
                add_ring_hop(flows, id, Channel::data_dense, double(inside - 1) / inside, gpu_at(position), gpu_at(next));
            int const to = stage > span ? gpu_at((position + span) % stage) : map_.gpu(mirrored(id), i);
            add_ring_hop(flows, id, Channel::data_dense, double(across - 1) / across / inside, gpu_at(position), to);
        }
    }

    /// The group that holds the same stages in DualPipe. Its part in a ring shows as a share of the ring's hops; it
    /// carries hops of its own where it is all there is to reduce with.
    [[nodiscard]] int mirrored(int id) const
    {
        int const per_rank = map_.groups_per_rank();
        return map_.group_id(map_.pipeline_ranks() - 1 - id / per_rank, id % per_rank);
    }

    /// Ring over the ranks that hold the same experts.
    void expert_gradients(std::vector<Flow>& flows, int id) const
    {
        int const per_rank = map_.groups_per_rank(), size = map_.group_size();
        int const first = id / per_rank * per_rank, stage = per_rank * size, step = plan_.ep * plan_.etp;
        int const n = gradients_.expert;
        for (int i = 0; i < size; ++i) {
            int const position = id % per_rank * size + i, peer = (position + step) % stage;
            int const to = stage > step ? map_.gpu(first + peer / size, peer % size) : map_.gpu(mirrored(id), i);
            add_ring_hop(flows, id, Channel::data_expert, double(n - 1) / n, map_.gpu(id, i), to);
        }
    }

    Plan const& plan_;
    RankMap const& map_;
    Network const& network_;
    int domain_;
    GradientRanks gradients_;
    bool has_experts_, exchanges_;
    ExpertSpread spread_;
};

} // namespace

std::vector<Flow> make_flows(Plan const& plan, Cluster const& cluster, RankMap const& map, Network const& network,
                             Experts const* experts, std::optional<int> only_group)
{
    FlowMaker maker{plan, cluster, map, network, experts};
    std::vector<Flow> flows;
    if (only_group) {
        maker.group(flows, *only_group);
        return flows;
    }
    for (int id = 0; id < map.pipeline_ranks() * map.groups_per_rank(); ++id) maker.group(flows, id);
    return flows;
}

} // namespace trainfare
