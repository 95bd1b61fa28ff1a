// SPDX-License-Identifier: Apache-2.0
//
// Flows against hand counts: who sends to whom, which share, and that a collective's bytes are all there.
#include "sim/traffic.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

Experts const& experts()
{
    static Architecture const arch = moe_model();
    return *arch.layers.back().ffn.experts;
}

struct Traffic {
    Plan plan;
    Cluster cluster;
    RankMap map;
    Network network;
    std::vector<Flow> flows;

    Traffic(Plan const& p, Cluster const& c, Experts const* e)
        : plan{p}, cluster{c}, map{p, c}, network{c}, flows{make_flows(p, c, map, network, e)}
    {
    }

    [[nodiscard]] bool over_nic(Flow const& flow) const
    {
        return std::any_of(flow.route.begin(), flow.route.end(),
                           [&](LinkId id) { return network.links()[id].kind == LinkKind::nic_out; });
    }
    /// First link of a route names the sender, the last one the receiver.
    [[nodiscard]] int sender(Flow const& flow) const { return gpu_of(*flow.route.begin()); }
    [[nodiscard]] int receiver(Flow const& flow) const { return gpu_of(*(flow.route.end() - 1)); }

    [[nodiscard]] std::vector<Flow> of(Channel channel, int from = -1) const
    {
        std::vector<Flow> out;
        for (auto const& flow : flows)
            if (flow.channel == channel && (from < 0 || sender(flow) == from)) out.push_back(flow);
        return out;
    }
    /// A ring's hop over the fabric: out of a NIC and into the same one, which stands for its neighbour's.
    [[nodiscard]] bool on_own_ports(Flow const& flow) const
    {
        if (!over_nic(flow)) return network.links()[*(flow.route.end() - 1)].kind == LinkKind::scale_up_in;
        auto const out = *(flow.route.end() - 2), in = *(flow.route.end() - 1);
        return in - network.link(LinkKind::nic_in, 0) == out - network.link(LinkKind::nic_out, 0);
    }
    /// Shares that a GPU sends on a channel, over NICs or not.
    [[nodiscard]] double sent(Channel channel, int from, bool nic) const
    {
        double sum = 0;
        for (auto const& flow : of(channel, from))
            if (over_nic(flow) == nic) sum += flow.share;
        return sum;
    }
    [[nodiscard]] double received(Channel channel, int to) const
    {
        double sum = 0;
        for (auto const& flow : flows)
            if (flow.channel == channel && receiver(flow) == to) sum += flow.share;
        return sum;
    }

private:
    [[nodiscard]] int gpu_of(LinkId id) const
    {
        return static_cast<int>(id - network.link(network.links()[id].kind, 0));
    }
};

Plan moe_plan(int pp, int dp, int ep, Dispatcher dispatcher = Dispatcher::deepep)
{
    Plan p;
    p.pp = pp, p.dp = dp, p.ep = ep;
    p.schedule = pp > 1 ? ScheduleKind::one_f_one_b : ScheduleKind::none;
    p.dispatcher = dispatcher;
    return p;
}

/// Every GPU of the cluster in one place of one group.
void check_permutation(Plan const& plan, Cluster const& cluster)
{
    RankMap const map{plan, cluster};
    std::set<int> seen;
    int places = 0;
    for (int id = 0; id < map.pipeline_ranks() * map.groups_per_rank(); ++id)
        for (int i = 0; i < map.group_size(); ++i, ++places) seen.insert(map.gpu(id, i));
    CHECK(places == cluster.gpus);
    CHECK(static_cast<int>(seen.size()) == cluster.gpus);
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == cluster.gpus - 1);
}

} // namespace

TEST_CASE("every GPU has one place in one lock-step group, aligned and spread")
{
    for (auto const placement : {Placement::aligned, Placement::spread})
        for (auto const& [pp, dp, ep] : {std::array{1, 256, 64}, std::array{2, 128, 32}, std::array{4, 64, 16},
                                         std::array{4, 64, 8}, std::array{4, 64, 4}, std::array{4, 64, 1}}) {
            auto c = h800(256);
            c.placement = placement;
            check_permutation(moe_plan(pp, dp, ep), c);
        }
    auto plan = moe_plan(4, 8, 4);
    plan.tp = 8;
    check_permutation(plan, h800(256));
}

TEST_CASE("a lock-step group holds whole expert groups and whole tensor and context-parallel groups")
{
    auto plan = moe_plan(2, 4, 2); // cp 3 and etp 2 on 12 GPUs a rank
    plan.cp = 3, plan.ep = 1, plan.etp = 2;
    auto const c = h800(24);
    check_permutation(plan, c);
    Traffic const t{plan, c, &experts()};
    CHECK(t.map.group_size() == 6);
    for (auto const& flow : t.of(Channel::expert)) CHECK(t.receiver(flow) / 2 == t.sender(flow) / 2);
    for (auto const& flow : t.of(Channel::data_expert)) CHECK(t.on_own_ports(flow));
}

TEST_CASE("spread groups take turns node by node, and keep to their pipeline rank's GPUs")
{
    auto c = h800(256);
    c.placement = Placement::spread;
    RankMap const map{moe_plan(2, 128, 32), c}; // four groups of four nodes a rank
    CHECK(map.gpu(1, 0) == 8);
    CHECK(map.gpu(1, 7) == 15);
    CHECK(map.gpu(1, 8) == 8 + 4 * 8);
    CHECK(map.gpu(5, 0) == 128 + 8);
}

TEST_CASE("DeepEP on 64 GPUs in 8 nodes: one copy to each of 7 nodes over the NIC, then to 7 neighbours over NVLink")
{
    Traffic const t{moe_plan(1, 64, 64), h800(64), &experts()};
    auto const spread = expert_spread(t.plan, t.cluster, experts());
    CHECK(spread.domains == 8);
    CHECK(spread.domain_copies == Approx(3.63).epsilon(0.01)); // 8 of 256 experts, 4 of 8 groups: routing.hpp
    for (int gpu = 0; gpu < 64; ++gpu) {
        std::set<int> nodes, neighbours;
        for (auto const& flow : t.of(Channel::expert, gpu)) {
            auto const to = t.receiver(flow);
            if (t.over_nic(flow)) {
                CHECK(flow.share == Approx(spread.domain_copies / 8));
                CHECK(to % 8 == gpu % 8); // the same rail
                nodes.insert(to / 8);
            } else {
                CHECK(flow.share == Approx(spread.gpu_copies / 8 * 8 / 7)); // with what stays on the GPU; of all that came in, an eighth
                CHECK(to / 8 == gpu / 8);
                neighbours.insert(to);
            }
        }
        CHECK(nodes.size() == 7);
        CHECK(neighbours.size() == 7);
        CHECK(t.of(Channel::expert, gpu).size() == 14);
        CHECK(t.received(Channel::expert, gpu) ==
              Approx(t.sent(Channel::expert, gpu, true) + t.sent(Channel::expert, gpu, false)));
    }
}

TEST_CASE("the expert flows carry the bytes of the closed form")
{
    for (auto const dispatcher : {Dispatcher::deepep, Dispatcher::alltoall, Dispatcher::allgather})
        for (int const ep : {8, 16, 64}) {
            Traffic const t{moe_plan(1, 64, ep, dispatcher), h800(64), &experts()};
            auto const spread = expert_spread(t.plan, t.cluster, experts());
            auto const exchange =
                expert_exchange(Bytes{1}, {spread.domain_copies, spread.gpu_copies},
                                {std::min(ep, 8), spread.domains, t.cluster.scale_up, t.cluster.nic, {}, {}});
            CHECK(t.sent(Channel::expert, 9, true) == Approx(exchange.fabric.value()).margin(1e-12));
            CHECK(t.sent(Channel::expert, 9, false) == Approx(exchange.inside.value())); // copies that stay count, as published
        }
}

TEST_CASE("NCCL's all-to-all sends a copy for every expert, all-gather one to everybody")
{
    Traffic const all_to_all{moe_plan(1, 64, 64, Dispatcher::alltoall), h800(64), &experts()};
    for (auto const& flow : all_to_all.of(Channel::expert, 0)) // 8 experts, 8 nodes
        CHECK(flow.share == Approx(all_to_all.over_nic(flow) ? 1 : 8.0 / 7));
    Traffic const all_gather{moe_plan(1, 64, 64, Dispatcher::allgather), h800(64), &experts()};
    for (auto const& flow : all_gather.of(Channel::expert, 0))
        CHECK(flow.share == Approx(all_gather.over_nic(flow) ? 1 : 8.0 * 8 / 7)); // with what stays on the GPU
}

TEST_CASE("64 experts' ranks in one NVL72 domain send nothing over NICs")
{
    auto c = h800(72);
    c.gpus_per_node = 4;
    c.domain = 72;
    auto plan = moe_plan(1, 72, 72);
    plan.ep = 8;
    Traffic const t{plan, c, &experts()};
    CHECK(expert_spread(plan, c, experts()).domains == 1);
    REQUIRE_FALSE(t.flows.empty());
    for (auto const& flow : t.flows) CHECK_FALSE(t.over_nic(flow));
    CHECK(t.of(Channel::expert, 0).size() == 7);

    auto wide = h800(64);
    wide.gpus_per_node = 4;
    wide.domain = 64;
    Traffic const w{moe_plan(1, 64, 64), wide, &experts()};
    CHECK(w.of(Channel::expert, 0).size() == 63);
    for (auto const& flow : w.flows) CHECK_FALSE(w.over_nic(flow));
}

TEST_CASE("expert ranks inside a larger tensor-parallel group exchange among themselves only")
{
    auto plan = moe_plan(1, 2, 4);
    plan.tp = 8;
    Traffic const t{plan, h800(16), &experts()};
    CHECK(t.map.group_size() == 8);
    for (int gpu = 0; gpu < 16; ++gpu) {
        CHECK(t.of(Channel::expert, gpu).size() == 3);
        for (auto const& flow : t.of(Channel::expert, gpu)) CHECK(t.receiver(flow) / 4 == gpu / 4);
    }
}

TEST_CASE("a pipeline send goes from every GPU to the same place in the next and the previous group, in a ring")
{
    Traffic const t{moe_plan(4, 16, 8), h800(64), &experts()};
    for (int gpu = 0; gpu < 64; ++gpu) {
        auto const next = t.of(Channel::to_next, gpu), previous = t.of(Channel::to_previous, gpu);
        REQUIRE(next.size() == 1);
        REQUIRE(previous.size() == 1);
        CHECK(next[0].share == 1);
        CHECK(t.receiver(next[0]) == (gpu + 16) % 64);
        CHECK(t.receiver(previous[0]) == (gpu + 48) % 64);
    }
}

TEST_CASE("a model without a pipeline, experts and data parallelism has no flows")
{
    Plan plan;
    plan.tp = 8;
    CHECK(Traffic{plan, h800(8), nullptr}.flows.empty());
}

TEST_CASE("dense gradients go round two rings, which together carry (n-1)/n of the payload")
{
    // 32 ranks: in the node 7/8, then over the NIC (4-1)/4 of the eighth that is left.
    Traffic const t{moe_plan(1, 32, 8), h800(32), &experts()};
    for (int gpu = 0; gpu < 32; ++gpu) {
        CHECK(t.sent(Channel::data_dense, gpu, false) == Approx(7.0 / 8));
        CHECK(t.sent(Channel::data_dense, gpu, true) == Approx(3.0 / 4 / 8));
        CHECK(t.received(Channel::data_dense, gpu) == Approx(31.0 / 32));
        CHECK(t.of(Channel::data_dense, gpu).size() == 2);
    }
}

TEST_CASE("gradient rings join ranks of equal parameters inside a node and leave it over their own NIC")
{
    auto plan = moe_plan(2, 8, 4);
    plan.tp = 4, plan.pp = 2; // 64 GPUs: 32 a rank, two dense ranks in a node
    Traffic const t{plan, h800(64), &experts()};
    CHECK(gradient_ranks(plan, t.cluster).dense == 8);
    CHECK(gradient_ranks(plan, t.cluster).dense_inside == 2);
    CHECK(gradient_ranks(plan, t.cluster).expert == 8);
    for (int gpu = 0; gpu < 64; ++gpu) {
        CHECK(t.sent(Channel::data_dense, gpu, false) == Approx(1.0 / 2));       // (2 - 1) / 2 inside
        CHECK(t.sent(Channel::data_dense, gpu, true) == Approx(3.0 / 4 / 2));    // (4 - 1) / 4 of the half that is left
        CHECK(t.sent(Channel::data_expert, gpu, true) + t.sent(Channel::data_expert, gpu, false) == Approx(7.0 / 8));
    }
    for (auto const channel : {Channel::data_dense, Channel::data_expert})
        for (auto const& flow : t.of(channel)) {
            CHECK(t.on_own_ports(flow));
            auto const from = t.sender(flow), to = t.receiver(flow);
            if (!t.over_nic(flow)) CHECK((to != from && to % 4 == from % 4 && to / 8 == from / 8)); // same TP rank, same node
        }
}

TEST_CASE("groups that do not fill NVLink domains evenly use what tiles both")
{
    CHECK(ranks_inside(8, 72) == 8);
    CHECK(ranks_inside(72, 72) == 72);
    CHECK(ranks_inside(128, 72) == 8);
    CHECK(ranks_inside(12, 8) == 4);
    auto c = h800(288);
    c.gpus_per_node = 4;
    c.domain = 72;
    auto plan = moe_plan(1, 256, 128);
    plan.dp = 256;
    Traffic const t{plan, c, &experts()};
    CHECK(gradient_ranks(plan, c).dense_inside == 8);
    auto const spread = expert_spread(plan, c, experts());
    CHECK(spread.domains == 16);
    for (int gpu = 0; gpu < 256; ++gpu) {
        double sum = 0;
        for (auto const& flow : t.of(Channel::expert)) {
            if (t.sender(flow) != gpu) continue;
            CHECK(t.receiver(flow) / 128 == gpu / 128); // never another group's GPU
            sum += flow.share;
        }
        CHECK(sum == Approx(spread.domain_copies * 15 / 16 + spread.gpu_copies));
    }
}

TEST_CASE("the gradient rings stay on their pipeline rank's GPUs whatever their number")
{
    for (auto const& [pp, dp] :
         {std::pair{2, 12}, std::pair{2, 20}, std::pair{4, 6}, std::pair{8, 3}, std::pair{1, 24}}) {
        Traffic const t{moe_plan(pp, dp, 1), h800(pp * dp), nullptr};
        double sum = 0;
        for (auto const& flow : t.of(Channel::data_dense)) {
            if (!t.over_nic(flow)) CHECK(t.sender(flow) / dp == t.receiver(flow) / dp);
            CHECK(t.on_own_ports(flow));
            sum += flow.share;
        }
        CHECK(sum == Approx(pp * (dp - 1.0))); // every rank sends (n-1)/n of the payload
    }
}

TEST_CASE("expert gradients go round the ranks that hold the same experts")
{
    Traffic const t{moe_plan(1, 64, 16), h800(64), &experts()};
    CHECK(gradient_ranks(t.plan, t.cluster).expert == 4);
    for (int gpu = 0; gpu < 64; ++gpu) {
        auto const flows = t.of(Channel::data_expert, gpu);
        REQUIRE(flows.size() == 1);
        CHECK(flows[0].share == Approx(3.0 / 4));
        CHECK(t.on_own_ports(flows[0]));
    }
}

TEST_CASE("DualPipe keeps each stage twice, which doubles the ranks that share gradients")
{
    auto plan = moe_plan(4, 32, 16);
    auto const c = h800(128);
    auto const one = gradient_ranks(plan, c);
    plan.schedule = ScheduleKind::dualpipe;
    auto const two = gradient_ranks(plan, c);
    CHECK(two.dense == 2 * one.dense);
    CHECK(two.expert == 2 * one.expert);
    CHECK(two.dense_inside == one.dense_inside);
    Traffic const t{plan, c, &experts()};
    CHECK(t.sent(Channel::data_dense, 0, false) + t.sent(Channel::data_dense, 0, true) == Approx(63.0 / 64));
    CHECK(t.sent(Channel::data_expert, 0, true) == Approx(3.0 / 4)); // two holders on each of the two ranks
}

TEST_CASE("where only DualPipe's mirrored rank holds the same parameters, gradients go there")
{
    auto plan = moe_plan(4, 8, 8);
    plan.schedule = ScheduleKind::dualpipe;
    Traffic const t{plan, h800(32), &experts()}; // a node is a pipeline rank
    for (int gpu = 0; gpu < 32; ++gpu) {
        auto const expert = t.of(Channel::data_expert, gpu);
        REQUIRE(expert.size() == 1);
        CHECK(expert[0].share == Approx(0.5));
        CHECK(t.on_own_ports(expert[0]));
        CHECK(t.sent(Channel::data_dense, gpu, true) == Approx(1.0 / 2 / 8));
        CHECK(t.sent(Channel::data_dense, gpu, false) == Approx(7.0 / 8));
    }
}

TEST_CASE("flows come sorted by group and channel, and those of one group are the same alone")
{
    Traffic const t{moe_plan(2, 32, 16), h800(64), &experts()};
    auto const before = [](Flow const& a, Flow const& b) {
        return std::pair{a.group, a.channel} < std::pair{b.group, b.channel};
    };
    CHECK(std::is_sorted(t.flows.begin(), t.flows.end(), before));
    auto const alone = make_flows(t.plan, t.cluster, t.map, t.network, &experts(), 2);
    auto const all = std::count_if(t.flows.begin(), t.flows.end(), [](Flow const& f) { return f.group == 2; });
    CHECK(static_cast<long>(alone.size()) == all);
    for (auto const& flow : alone) CHECK(flow.group == 2);
}
