// SPDX-License-Identifier: Apache-2.0
//
// Operations of whole blocks: work by pass, recomputation and the optimizer, against the published FLOPs per token.
#include <filesystem>

#include "tests/model/ops_cases.hpp"

using namespace trainfare;
using namespace trainfare::ops_cases;

TEST_CASE("DeepSeek-V3's operations add up to its published 260.6 GFLOP a token")
{
    auto const w = work(v3(), v3_plan_keeping_all());
    double const published = flops_per_token(v3(), 4096).causal_mtp;
    CHECK(published == Approx(260.6e9).epsilon(0.001));
    CHECK(3 * w.forward() == Approx(published * tokens).epsilon(0.005)); // backward counts twice the forward
    CHECK(w.linear[recompute] == 0);
}

TEST_CASE("forward, input gradients and weight gradients of linear layers are the same work")
{
    auto const w = work(v3(), deepseek_v3_plan());
    CHECK(w.linear[dgrad] == Approx(w.linear[forward]).epsilon(1e-12));
    CHECK(w.linear[wgrad] == Approx(w.linear[forward]).epsilon(1e-12));
}

TEST_CASE("every shipped model's operations add up to its FLOPs per token")
{
    int checked = 0;
    for (auto const& entry : std::filesystem::directory_iterator{models}) {
        if (entry.path().extension() != ".json") continue;
        auto const arch = read_hf_config(entry.path().string());
        INFO(entry.path().filename().string());
        auto plan = plain();
        auto const w = work(arch, plan);
        CHECK(3 * w.forward() == Approx(flops_per_token(arch, 4096).causal_mtp * tokens).epsilon(0.005));
        CHECK(w.linear[wgrad] == Approx(w.linear[forward]).epsilon(1e-12));
        ++checked;
    }
    CHECK(checked > 40);
}

TEST_CASE("weight gradients, and nothing else, have the pass wgrad and lie in the weight lists")
{
    for (auto const block : blocks(v3())) {
        auto const ops = block_ops(v3(), deepseek_v3_plan(), block);
        for (auto const* list : {&ops.weight_ffn, &ops.weight_attention})
            for (auto const& op : *list) CHECK(op.pass == Pass::wgrad);
        for (auto const& op : ops.forward) CHECK(op.pass == Pass::forward);
        for (auto const& op : ops.backward) CHECK((op.pass == Pass::dgrad || op.pass == Pass::recompute));
    }
}

TEST_CASE("an embedding has no products and no weight gradients of its own")
{
    auto const ops = block_ops(v3(), deepseek_v3_plan(), {Block::Kind::embedding, 0});
    REQUIRE(ops.forward.size() == 1);
    REQUIRE(ops.backward.size() == 1);
    CHECK(ops.weight_ffn.empty());
    CHECK(ops.weight_attention.empty());
    CHECK(ops.forward[0].bytes.value() == 4 * tokens * hidden);            // a row read, a row written
    CHECK(ops.backward[0].bytes.value() == (2 + 2 * 4) * tokens * hidden); // fp32 gradients read and written
    CHECK(ops.forward[0].flops.value() == 0);
}

TEST_CASE("the head is a 16-bit product of 129,280 columns")
{
    auto const ops = block_ops(v3(), deepseek_v3_plan(), {Block::Kind::head, 0});
    auto const head = one(ops.forward, "lm_head", Pass::forward);
    CHECK((head.m == 4096 && head.n == 129280 && head.k == 7168));
    CHECK(head.kind == OpKind::head);
    CHECK(head.precision == Precision::bf16);
    CHECK(one(ops.forward, "cross_entropy", Pass::forward).bytes.value() == 4 * tokens * 129280);
}

TEST_CASE("an MTP module is a projection of two hidden states, a layer and the head")
{
    auto const plan = deepseek_v3_plan();
    auto const ops = block_ops(v3(), plan, {Block::Kind::mtp, 0});
    auto const projection = one(ops.forward, "mtp_proj", Pass::forward);
    CHECK((projection.n == 7168 && projection.k == 2 * 7168));
    Work module, inside;
    module.add(every(ops));
    inside.add(every(layer(v3(), plan, 60)));
    inside.add(every(block_ops(v3(), plan, {Block::Kind::head, 0})));
    CHECK(module.linear[forward] == Approx(inside.linear[forward] + projection.flops.value()));
    CHECK(module.linear[wgrad] == Approx(inside.linear[wgrad] + projection.flops.value()));
}

TEST_CASE("full recomputation does the forward products once more")
{
    auto plan = v3_plan_keeping_all();
    plan.recompute.kind = RecomputeKind::full;
    for (int i : {0, 10}) {
        Work w;
        w.add(every(layer(v3(), plan, i)));
        CHECK(w.linear[recompute] == w.linear[forward]);
        CHECK(w.scores[recompute] == w.scores[forward]);
    }
    auto const dense = layer(v3(), plan, 0);
    CHECK(count(dense.backward, OpKind::activation) == 2); // again, and its gradient
}

TEST_CASE("norms are recomputed only where the plan says so")
{
    auto const norms = [](Plan const& plan) { return count(layer(v3(), plan, 10).backward, OpKind::norm); };
    auto plan = v3_plan_keeping_all();
    CHECK(norms(plan) == 3); // gradients of the two block norms and of the latents'
    plan.recompute.norm = true;
    CHECK(norms(plan) == 5);
    plan.recompute.mla_up_proj = true; // starts at the latents' norm
    CHECK(norms(plan) == 6);
}

TEST_CASE("AdamW with fp32 master, bf16 moments and fp32 gradients moves 22 bytes a parameter of the shard")
{
    auto plan = deepseek_v3_plan();
    plan.zero = 0;
    CHECK(optimizer_op(plan, 1e6, 2e6).bytes.value() == 22 * 3e6);
    plan.moment_dtype = DType::fp32;
    CHECK(optimizer_op(plan, 1e6, 0).bytes.value() == 30e6);
    plan.zero = 1; // over 128 data-parallel ranks; experts over the two that hold the same ones
    CHECK(optimizer_op(plan, 128e6, 0).bytes.value() == Approx(30e6));
    CHECK(optimizer_op(plan, 0, 2e6).bytes.value() == Approx(30e6));
    CHECK(optimizer_op(plan, 1, 1).pass == Pass::update);
}
