// SPDX-License-Identifier: Apache-2.0
#include "model/activations.hpp"

#include "tests/catch.hpp"
#include "tests/model/deepseek_v3.hpp"

using namespace trainfare;

namespace {

// GPT-3 175B: s = 2048, h = 12288, 96 heads.
Architecture gpt3() { return dense_model({12288, 96, 96, 96, 4 * 12288, 51200, false}); }

constexpr double sbh = 2048.0 * 12288, log_sum_exp = 4.0 * 2048 * 96;

Plan gpt3_plan(int tp, bool sp)
{
    Plan plan;
    plan.tp = tp;
    plan.sp = sp;
    plan.seq_len = 2048;
    return plan;
}

double layer(Architecture const& arch, Plan const& plan, int index = 0)
{
    return activation_bytes(arch, plan, {Block::Kind::layer, index}).value();
}

/// DeepSeek-V3's MoE layer in bytes per token, with one change of recomputation.
template <class Change>
double moe_layer_per_token(Change change)
{
    auto plan = deepseek_v3_plan();
    change(plan);
    return layer(deepseek_v3(), plan, 10) / 4096;
}

} // namespace

TEST_CASE("a bf16 GPT layer keeps 32 s b h (34 less two dropout masks), as Korthikanti et al. count it")
{
    CHECK(layer(gpt3(), gpt3_plan(1, false)) == Approx(32 * sbh + log_sum_exp));
}

TEST_CASE("tensor parallelism divides 24 of the 32; with sequence parallelism, all")
{
    CHECK(layer(gpt3(), gpt3_plan(8, false)) == Approx(8 * sbh + 24 * sbh / 8 + log_sum_exp / 8));
    CHECK(layer(gpt3(), gpt3_plan(8, true)) == Approx((32 * sbh + log_sum_exp) / 8));
}

TEST_CASE("full recomputation keeps a layer's input, 2 s b h")
{
    auto plan = gpt3_plan(1, false);
    plan.recompute.kind = RecomputeKind::full;
    CHECK(layer(gpt3(), plan) == Approx(2 * sbh));
}

TEST_CASE("context parallelism divides the sequence, micro-batches multiply it")
{
    auto plan = gpt3_plan(1, false);
    auto const one = layer(gpt3(), plan);
    plan.cp = 2, plan.micro_batch = 6;
    CHECK(layer(gpt3(), plan) == Approx(3 * one));
}

TEST_CASE("recomputing norms, or the dense feed-forward network, frees what they wrote")
{
    auto plan = gpt3_plan(1, false);
    plan.recompute.kind = RecomputeKind::selective;
    plan.recompute.norm = true;
    CHECK(layer(gpt3(), plan) == Approx(28 * sbh + log_sum_exp));
    plan.recompute.mlp = true;
    CHECK(layer(gpt3(), plan) == Approx(12 * sbh + log_sum_exp));
    plan.recompute.attention_core = true; // FlashAttention: nothing left to free
    CHECK(layer(gpt3(), plan) == Approx(12 * sbh + log_sum_exp));
}

TEST_CASE("a DeepSeek-V3 layer with its published recomputation keeps 164 kB a token, 673 MB a micro-batch")
{
    double const h = 7168, fp8 = 1 + 4.0 / 128;
    double const attention = (1536 + 512 + 64) * 2 + 128 * 128 * 2 + 128 * 4;
    double const experts = 256 * 4 + 8 * h * fp8 + 8 * 2 * 2048 * fp8 + 2 * 2048 * fp8;
    CHECK(moe_layer_per_token([](Plan&) {}) == Approx(2 * h + attention + 2 * h + experts));
    CHECK(moe_layer_per_token([](Plan&) {}) * 4096 == Approx(673e6).epsilon(0.005));
}

TEST_CASE("each module recomputed frees its own tensors")
{
    auto const with_all = moe_layer_per_token([](Plan&) {});
    double const h = 7168, fp8 = 1 + 4.0 / 128;
    CHECK(moe_layer_per_token([](Plan& p) { p.recompute.norm = false; }) - with_all == Approx(h * fp8 + h * 2));
    CHECK(moe_layer_per_token([](Plan& p) { p.recompute.mla_up_proj = false; }) - with_all ==
          Approx((1536 + 512) * fp8 + 128 * (192 + 192 + 128) * 2));
    // Without: the output of SwiGLU in fp8, and its input as the product wrote it.
    CHECK(moe_layer_per_token([](Plan& p) { p.recompute.moe_act = false; }) - with_all ==
          Approx(9 * 2048 * fp8 + 9 * 2 * 2048 * (2 - fp8)));
    CHECK(moe_layer_per_token([](Plan& p) { p.recompute.moe = true; }) ==
          Approx(2 * h + (1536 + 512 + 64) * 2 + 128 * 128 * 2 + 128 * 4 + 2 * h));
}

TEST_CASE("bf16 experts whose output is weighted at the end keep that output")
{
    auto const change = [](bool early) {
        return moe_layer_per_token([&](Plan& p) {
            p.precision = Precision::bf16;
            p.recompute.moe_act = early;
        });
    };
    CHECK(change(false) - change(true) == Approx(8 * 7168 * 2 + 9 * 2048 * 2));
}

TEST_CASE("expert tensor parallelism receives the rows of its whole group and cuts the width")
{
    auto plan = deepseek_v3_plan();
    auto const one = layer(deepseek_v3(), plan, 10);
    plan.etp = 2;
    CHECK(layer(deepseek_v3(), plan, 10) - one == Approx(4096 * 8 * 7168 * (1 + 4.0 / 128)));
}

TEST_CASE("key-value heads fewer than ranks are kept on each rank")
{
    auto const arch = dense_model({1024, 1, 16, 2, 4096, 100, true}); // heads of 64
    Plan plan;
    plan.tp = 8, plan.sp = true, plan.seq_len = 1;
    double const kv = 2 * 64 * 2, rest = (4 * 1024 * 2 + 2 * 1024 * 2 + 3 * 4096 * 2 + 16 * 4) / 8.0;
    CHECK(layer(arch, plan) == Approx(kv + rest));
}

TEST_CASE("an embedding keeps nothing, a head two hidden states, an MTP module a layer and more")
{
    auto const arch = deepseek_v3();
    auto const plan = deepseek_v3_plan();
    CHECK(activation_bytes(arch, plan, {Block::Kind::embedding}).value() == 0);
    CHECK(activation_bytes(arch, plan, {Block::Kind::head}).value() == 4096.0 * 7168 * 2 * 2);
    CHECK(activation_bytes(arch, plan, {Block::Kind::mtp}).value() ==
          Approx(layer(arch, plan, 10) + 4096.0 * 7168 * 2 * 4));
}
