// SPDX-License-Identifier: Apache-2.0
#include "model/ops.hpp"
#include "tests/catch.hpp"
#include "tests/model/deepseek_v3.hpp"

using namespace trainfare;

namespace {

ShardParameters whole_model(Architecture const& arch, Plan const& plan)
{
    auto one = plan;
    one.pp = 1;
    one.schedule = ScheduleKind::none;
    return shard_parameters(arch, one, stage_blocks(one, arch).front());
}

} // namespace

TEST_CASE("unsharded, the three groups add up to all parameters")
{
    auto const arch = deepseek_v3();
    Plan plan;
    plan.mtp_layers = 1;
    auto const s = whole_model(arch, plan);
    auto const count = count_parameters(arch);
    CHECK(s.tensor + s.replicated + s.expert == Approx(count.total + count.mtp).epsilon(1e-12));
    CHECK(s.tables == count.embedding + count.head);
}

TEST_CASE("a DeepSeek-V3 layer on EP64: 176.2 M of experts, 233 M of everything else")
{
    auto const s = shard_parameters(deepseek_v3(), deepseek_v3_plan(), {{Block::Kind::layer, 10}});
    CHECK(s.expert == 4 * 3.0 * 7168 * 2048);
    CHECK(s.tensor + s.replicated == Approx(233.0e6).epsilon(0.001));
    CHECK(s.tables == 0);
}

TEST_CASE("tensor parallelism leaves latent down-projections, router and norms whole")
{
    auto const arch = deepseek_v3();
    auto plan = deepseek_v3_plan();
    auto const one = shard_parameters(arch, plan, {{Block::Kind::layer, 10}});
    plan.tp = 4;
    auto const four = shard_parameters(arch, plan, {{Block::Kind::layer, 10}});
    CHECK(four.tensor == one.tensor / 4);
    CHECK(four.replicated == one.replicated);
    CHECK(four.expert == one.expert);
    CHECK(one.replicated == Approx(7168.0 * (1536 + 512 + 64) + 7168 * 256).epsilon(0.001));
    plan.etp = 2;
    CHECK(shard_parameters(arch, plan, {{Block::Kind::layer, 10}}).expert == one.expert / 2);
}

TEST_CASE("fewer key-value heads than ranks: each rank holds one, copied")
{
    auto const arch = dense_model({1024, 1, 16, 2, 4096, 100, true}); // heads of 64
    Plan plan;
    plan.tp = 8;
    double const q_and_o = 2.0 * 1024 * 1024, one_kv_head = 2.0 * 1024 * 64, ffn = 3.0 * 1024 * 4096;
    CHECK(shard_parameters(arch, plan, {{Block::Kind::layer, 0}}).tensor == q_and_o / 8 + one_kv_head + ffn / 8);
}

TEST_CASE("an MTP module needs both tables, and shares them where they are on its rank")
{
    auto const arch = deepseek_v3();
    Plan const plan;
    double const table = 7168.0 * 129280;
    Block const embedding{Block::Kind::embedding}, mtp{Block::Kind::mtp}, head{Block::Kind::head};
    CHECK(shard_parameters(arch, plan, {mtp}).tables == 2 * table);
    CHECK(shard_parameters(arch, plan, {mtp, head}).tables == 2 * table);
    CHECK(shard_parameters(arch, plan, {embedding, mtp, head}).tables == 2 * table);
    CHECK(shard_parameters(arch, plan, {head}).tables == table);
    auto tied = arch;
    tied.tied_embeddings = true;
    CHECK(shard_parameters(tied, plan, {embedding, mtp, head}).tables == table);
    CHECK(shard_parameters(tied, plan, {head}).tables == table);
}
