// SPDX-License-Identifier: Apache-2.0
//
// Prices every block of every pipeline rank, and the exchanges between them, before anything is simulated.
#include <algorithm>
#include <map>
#include <tuple>

#include "calibrate/collectives.hpp"
#include "model/ops.hpp"
#include "sim/iteration.hpp"
#include "sim/traffic.hpp"

namespace trainfare {
namespace {

/// What makes two layers cost the same.
auto signature(Layer const& layer)
{
    auto const& a = layer.attention;
    auto const& f = layer.ffn;
    return std::tuple{a.matrix_parameters,
                      f.matrix_parameters,
                      f.gated,
                      a.sparse_top_k.value_or(0),
                      a.indexer_width.value_or(0),
                      static_cast<int>(a.kind),
                      a.heads,
                      a.kv_heads,
                      a.qk_dim,
                      a.v_dim,
                      a.window.value_or(0),
                      a.owns_kv,
                      f.width,
                      f.residual_width,
                      f.experts ? f.experts->count : 0,
                      f.experts ? f.experts->width : 0,
                      f.experts ? f.experts->top_k : 0,
                      f.experts ? f.experts->shared_width : 0};
}

class BlockPricer {
public:
    BlockPricer(Architecture const& arch, Plan const& plan, CostModel const& costs, LocalTraffic const& local)
        : arch_{arch}, plan_{plan}, costs_{costs}, local_{local}
    {
    }

    BlockCost const& operator()(Block block)
    {
        auto const& list = block.kind == Block::Kind::mtp ? arch_.mtp : arch_.layers;
        bool const layered = block.kind == Block::Kind::layer || block.kind == Block::Kind::mtp;
        Key const key{block.kind,
                      layered ? signature(list[static_cast<std::size_t>(block.index)]) : signature(Layer{})};
        if (auto const found = known_.find(key); found != known_.end()) return found->second;

        auto const ops = block_ops(arch_, plan_, block);
        BlockCost cost;
        // The SMs for communication are set aside when the kernels are built, not slot by slot (arXiv:2412.19437
        // s3.2.2).
        cost.priced = price_block(ops, costs_, {plan_.overlap_ep ? plan_.comm_sms : 0}, local_);
        auto const shard = shard_parameters(arch_, plan_, {block});
        double const size = size_of(plan_.gradient_dtype).value();
        cost.dense_bytes = (shard.tensor + shard.replicated) * size;
        cost.expert_bytes = shard.expert * size;
        return known_.emplace(key, std::move(cost)).first->second;
    }

private:
    using Key = std::pair<Block::Kind, decltype(signature(std::declval<Layer>()))>;
    Architecture const& arch_;
    Plan const& plan_;
    CostModel const& costs_;
    LocalTraffic const& local_;
    std::map<Key, BlockCost> known_;
};

Experts const* find_experts(Architecture const& arch)
{
    for (auto const& layer : arch.layers)
        if (layer.is_moe()) return &*layer.ffn.experts;
    return nullptr;
}

/// Vocabulary tables (embedding, head) that blocks of their own bring to a rank.
int tables_here(StepModel const& step, std::vector<std::vector<Block>> const& stages, int rank)
{
    int tables = 0;
    for (int chunk = 0; chunk < step.schedule.chunks; ++chunk)
        for (auto const block : stages[static_cast<std::size_t>(step.schedule.stage_of(rank, chunk))])
            tables += block.kind == Block::Kind::embedding || block.kind == Block::Kind::head;
    return tables;
}

/// Gradients of one rank reduced over its data-parallel ranks, and the weights gathered back, each alone on the
/// network.
struct DataSeconds {
    double reduce = 0, gather = 0;
};
DataSeconds data_parallel_seconds(StepModel const& step, Cluster const& cluster, double dense, double expert)
{
    auto const ranks = gradient_ranks(step.plan, cluster);
    TwoLevel const levels{ranks.dense_inside, ranks.dense / ranks.dense_inside, cluster.scale_up,
                          cluster.nic,        cluster.scale_up_latency,         cluster.nic_latency};
    DataSeconds t;
    if (ranks.dense > 1) t.reduce += hierarchical_time(CollectiveOp::reduce_scatter, Bytes{dense}, levels).value();
    // A ring is as fast as its slowest hop: over NVLink only where a whole pipeline rank, and no mirrored one, is in a
    // domain.
    bool const near = step.plan.gpus() / step.plan.pp <= cluster.domain && step.plan.schedule != ScheduleKind::dualpipe;
    if (ranks.expert > 1 && expert > 0)
        t.reduce += collective_time(CollectiveOp::reduce_scatter, Algorithm::ring, ranks.expert, Bytes{expert},
                                    near ? cluster.scale_up : cluster.nic,
                                    near ? cluster.scale_up_latency : cluster.nic_latency)
                        .value();
    t.gather = t.reduce * step.gather_share;
    return t;
}

} // namespace

LocalTraffic local_traffic(Plan const& plan, Cluster const& cluster)
{
    bool const inside = plan.tp * plan.cp <= cluster.domain;
    return {plan.tp,
            plan.cp,
            plan.overlap_tp,
            cluster.scale_up,
            inside ? cluster.scale_up : cluster.nic,
            cluster.scale_up_latency,
            1};
}

StepModel price_step(Architecture const& arch, Plan const& plan, Cluster const& cluster, CostModel const& costs,
                     IterationOptions const& options)
{
    StepModel step;
    step.plan = plan;
    int const micro_batches = options.micro_batches > 0 ? options.micro_batches : plan.micro_batches();
    step.schedule = make_schedule(plan.schedule, plan.pp, plan.vpp, micro_batches, plan.overlap_ep);
    step.exchange_contention = options.exchange_contention;
    step.exchange_skew = options.exchange_skew;
    step.gather_share =
        plan.zero >= 1 ? 2.0 / size_of(plan.gradient_dtype).value() : 1.0; // bf16 weights; else gradients
    step.data_latency = cluster.nic_latency.value();

    LocalTraffic local = local_traffic(plan, cluster);
    if (auto const* experts = find_experts(arch)) {
        step.routing = *experts;
        auto const loads = rank_loads(*experts, plan.ep, options.load_cv);
        step.expert_slowdown = *std::max_element(loads.begin(), loads.end());
        local.expert_load = step.expert_slowdown;
        if (plan.ep * plan.etp > 1) {
            auto const spread = expert_spread(plan, cluster, *experts);
            TwoLevel const levels{ranks_inside(plan.ep * plan.etp, cluster.domain),
                                  spread.domains,
                                  cluster.scale_up,
                                  cluster.nic,
                                  cluster.scale_up_latency,
                                  cluster.nic_latency};
            auto const one = expert_exchange(Bytes{1e6}, {spread.domain_copies, spread.gpu_copies}, levels);
            auto const two = expert_exchange(Bytes{2e6}, {spread.domain_copies, spread.gpu_copies}, levels);
            step.exchange_seconds_per_byte = (two.time - one.time).value() / 1e6;
            step.exchange_latency = one.time.value() - step.exchange_seconds_per_byte * 1e6;
        }
    }
    bool const near = plan.gpus() <= cluster.domain; // else some hop crosses the fabric, and the slowest sets the pace
    step.send_payload = 2.0 * plan.micro_batch * plan.seq_len / plan.cp * arch.hidden / plan.tp; // bf16
    step.send_latency = (near ? cluster.scale_up_latency : cluster.nic_latency).value();
    step.send_seconds = step.send_latency + step.send_payload / (near ? cluster.scale_up : cluster.nic).value();

    BlockPricer price{arch, plan, costs, local};
    double const table_bytes =
        static_cast<double>(arch.vocab) * arch.hidden / plan.tp * size_of(plan.gradient_dtype).value();
    auto const stages = stage_blocks(plan, arch);
    for (int rank = 0; rank < plan.pp; ++rank) {
        StageCost cost;
        double dense = 0, expert = 0;
        for (int chunk = 0; chunk < step.schedule.chunks; ++chunk) {
            cost.chunk_begin.push_back(static_cast<int>(cost.blocks.size()));
            for (auto const block : stages[static_cast<std::size_t>(step.schedule.stage_of(rank, chunk))]) {
                auto& priced = cost.blocks.emplace_back(price(block));
                // An MTP module reads the tables of embedding and head: where those live on the same rank, their
                // gradients are too.
                if (block.kind == Block::Kind::mtp) priced.dense_bytes -= tables_here(step, stages, rank) * table_bytes;
                auto const data = data_parallel_seconds(step, cluster, priced.dense_bytes, priced.expert_bytes);
                priced.reduce_seconds = data.reduce, priced.gather_seconds = data.gather;
                cost.reduce_seconds += data.reduce, cost.gather_seconds += data.gather;
                dense += priced.dense_bytes, expert += priced.expert_bytes;
            }
        }
        cost.chunk_begin.push_back(static_cast<int>(cost.blocks.size()));
        double const size = size_of(plan.gradient_dtype).value();
        auto const mirrored =
            plan.schedule == ScheduleKind::dualpipe ? 2.0 : 1.0; // two homes share one optimizer state
        cost.optimizer_seconds =
            costs.cost(optimizer_op(plan, dense / size / mirrored, expert / size / mirrored), {}).time.value();
        step.stages.push_back(std::move(cost));
    }
    return step;
}

} // namespace trainfare
