// SPDX-License-Identifier: Apache-2.0
//
// Attention of one layer: shapes of its projections and its kernel, by hand.
#include "tests/model/ops_cases.hpp"

using namespace trainfare;
using namespace trainfare::ops_cases;

TEST_CASE(
    "causal attention of 128 heads, 192/128 wide, over 4,096 tokens is 687 GFLOP forward and 2.6 times that backward")
{
    auto const ops = layer(v3(), deepseek_v3_plan(), 10);
    auto const op = one(ops.forward, "attention", Pass::forward);
    CHECK(op.flops.value() == 4096.0 * 4096 * 128 * (192 + 128));
    CHECK(op.flops.value() == Approx(687e9).epsilon(0.001));
    CHECK(op.keys == 2048);
    CHECK(op.precision == Precision::bf16);
    // five products: two of q k' width and one of v width again, and two of v's (arXiv:2307.08691 s3.1.2)
    CHECK(one(ops.backward, "attention", Pass::dgrad).flops / op.flops == Approx((3 * 192 + 2 * 128) / 320.0));
    // q, k, v read and o written once, 16 bit
    CHECK(op.bytes.value() == 2.0 * 4096 * 128 * (192 + 192 + 128 + 128));
}

TEST_CASE("latent projections of DeepSeek-V3 are 2 x 187.1M FLOPs a token in the shapes of DeepGEMM's table")
{
    auto const ops = layer(v3(), deepseek_v3_plan(), 10).forward;
    struct Shape {
        char const* name;
        std::int64_t n, k;
    };
    double sum = 0;
    for (auto const& s : {Shape{"q_a_kv_a_proj", 2112, 7168},
                          {"q_b_proj", 24576, 1536},
                          {"kv_b_proj", 32768, 512},
                          {"o_proj", 7168, 16384}}) {
        auto const op = one(ops, s.name, Pass::forward);
        CHECK(op.m == 4096);
        CHECK(op.n == s.n);
        CHECK(op.k == s.k);
        CHECK(op.precision == Precision::fp8_block);
        sum += op.flops.value();
    }
    CHECK(sum == Approx(2 * 4096 * 187.1e6).epsilon(0.001));
}

TEST_CASE("grouped attention of Llama-3.1-70B projects q, k and v in one product of 10,240 columns")
{
    auto const arch = read_hf_config(models + "/llama-3.1-70b.json");
    auto const ops = layer(arch, plain(), 0).forward;
    auto const qkv = one(ops, "qkv_proj", Pass::forward);
    CHECK((qkv.m == 4096 && qkv.n == (64 + 2 * 8) * 128 && qkv.k == 8192));
    auto const attention = one(ops, "attention", Pass::forward);
    CHECK((attention.heads == 64 && attention.kv_heads == 8));
    CHECK(attention.bytes.value() == 2.0 * 4096 * (64 + 8) * 256);
}

TEST_CASE("a sliding window of 128 leaves 126 keys of 4,096 tokens, on the layers that have one")
{
    auto const arch = read_hf_config(models + "/gpt-oss-120b.json");
    std::vector<double> keys;
    for (int i : {0, 1}) keys.push_back(one(layer(arch, plain(), i).forward, "attention", Pass::forward).keys);
    std::sort(keys.begin(), keys.end());
    CHECK(keys[0] == 126);
    CHECK(keys[1] == 2048);
}

TEST_CASE("a chunk of 8,192 tokens halves the keys of 16,384, a sliding window would not")
{
    auto const arch = read_hf_config(models + "/llama-4-scout.json");
    auto plan = plain();
    plan.seq_len = 16384;
    CHECK(one(layer(arch, plan, 0).forward, "attention", Pass::forward).keys == 4096);
    auto slides = arch;
    slides.layers[0].attention.chunked = false;
    CHECK(one(layer(slides, plan, 0).forward, "attention", Pass::forward).keys == 8192 * 0.75);
}

TEST_CASE("sparse attention reads 2,048 keys while its indexer reads all")
{
    auto const arch = read_hf_config(models + "/deepseek-v3.2.json");
    auto plan = plain();
    plan.seq_len = 65536;
    auto const ops = layer(arch, plan, 5);
    CHECK(one(ops.forward, "attention", Pass::forward).keys == Approx(2048 * (1 - 2048 / 131072.0)));
    auto const scores = one(ops.forward, "indexer", Pass::forward);
    CHECK(scores.flops.value() == 2.0 * 65536 * 32768 * 64 * 128); // 64 heads of 128
    CHECK(one(ops.backward, "indexer", Pass::dgrad).flops == 2 * scores.flops);
    auto const q = one(ops.forward, "indexer_q_proj", Pass::forward);
    CHECK((q.n == 64 * 128 && q.k == 1536));
    CHECK(one(ops.forward, "q_a_kv_a_proj", Pass::forward).n == 2112 + 128 + 64); // one shared key, a weight a head
}

TEST_CASE("tensor parallelism cuts columns and heads, sequence parallelism the tokens outside")
{
    auto const arch = read_hf_config(models + "/llama-3.1-70b.json");
    auto plan = plain();
    auto const whole = layer(arch, plan, 0).forward;
    plan.tp = 2;
    auto const half = layer(arch, plan, 0).forward;
    plan.sp = true;
    auto const sharded = layer(arch, plan, 0).forward;

    for (auto const* name : {"qkv_proj", "ffn_up"}) {
        CHECK(one(half, name, Pass::forward).n * 2 == one(whole, name, Pass::forward).n);
        CHECK(one(half, name, Pass::forward).k == one(whole, name, Pass::forward).k);
    }
    for (auto const* name : {"o_proj", "ffn_down"}) {
        CHECK(one(half, name, Pass::forward).k * 2 == one(whole, name, Pass::forward).k);
        CHECK(one(half, name, Pass::forward).n == one(whole, name, Pass::forward).n);
    }
    CHECK(one(half, "attention", Pass::forward).heads == 32);
    CHECK(one(half, "attention", Pass::forward).kv_heads == 4);
    CHECK(one(half, "qkv_proj", Pass::forward).m == 4096);
    CHECK(one(sharded, "qkv_proj", Pass::forward).m == 4096); // gathered before the product
    CHECK(one(half, "attention_norm", Pass::forward).bytes == one(whole, "attention_norm", Pass::forward).bytes);
    CHECK(one(sharded, "attention_norm", Pass::forward).bytes * 2 == one(whole, "attention_norm", Pass::forward).bytes);
    CHECK(one(sharded, "residual_in", Pass::forward).bytes * 2 == one(whole, "residual_in", Pass::forward).bytes);
    CHECK(count(whole, OpKind::tp_collective) == 0);
    // a gather and a scatter around each part; without sequence parallelism they are the halves of one all-reduce
    CHECK(count(sharded, OpKind::tp_collective) == 4);
    CHECK(payload(sharded, OpKind::tp_collective) == 4 * 2.0 * 4096 * 8192);
    CHECK(payload(half, OpKind::tp_collective) == payload(sharded, OpKind::tp_collective));
}

TEST_CASE("more tensor ranks than key heads still leave each rank one key head")
{
    auto const arch = read_hf_config(models + "/llama-3.1-70b.json");
    auto plan = plain();
    plan.tp = 16;
    auto const ops = layer(arch, plan, 0).forward;
    CHECK(one(ops, "attention", Pass::forward).kv_heads == 1);
    CHECK(one(ops, "qkv_proj", Pass::forward).n == 64 * 128 / 16 + 2 * 128);
}

TEST_CASE("context parallelism halves the tokens, not the keys, and sends keys and values around")
{
    auto const arch = read_hf_config(models + "/llama-3.1-70b.json");
    auto plan = plain();
    auto const whole = layer(arch, plan, 0);
    plan.cp = 2;
    auto const half = layer(arch, plan, 0);
    CHECK(one(half.forward, "qkv_proj", Pass::forward).m == 2048);
    CHECK(one(half.forward, "attention", Pass::forward).keys == 2048);
    CHECK(one(half.forward, "attention", Pass::forward).flops * 2 ==
          one(whole.forward, "attention", Pass::forward).flops);
    CHECK(payload(whole.forward, OpKind::cp_exchange) == 0);
    CHECK(payload(half.forward, OpKind::cp_exchange) == 2.0 * 2048 * 8 * (128 + 128)); // own share, one other rank
    CHECK(payload(half.backward, OpKind::cp_exchange) == 2 * payload(half.forward, OpKind::cp_exchange));
    plan.recompute.kind = RecomputeKind::full; // the ring runs again
    CHECK(payload(layer(arch, plan, 0).backward, OpKind::cp_exchange) ==
          3 * payload(half.forward, OpKind::cp_exchange));
}
