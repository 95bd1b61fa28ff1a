// SPDX-License-Identifier: Apache-2.0
//
// Tokens of a GPU, bytes of formats, and where a quantised recipe casts.
#include "model/op_builder.hpp"

#include "tests/model/ops_cases.hpp"

using namespace trainfare;
using namespace trainfare::ops_cases;

TEST_CASE("bf16 training casts nothing")
{
    auto plan = deepseek_v3_plan();
    plan.precision = Precision::bf16;
    for (auto const block : blocks(v3())) {
        auto const ops = every(block_ops(v3(), plan, block));
        CHECK(count(ops, OpKind::cast) == 0);
        for (auto const& op : ops) CHECK(op.precision == Precision::bf16);
    }
}

TEST_CASE("casts exist exactly where an fp8 product has no quantised input")
{
    auto const plan = v3_plan_keeping_all();
    auto const moe = layer(v3(), plan, 10);
    // q_a_kv_a, q_b, kv_b, o, and once before dispatch; experts and the shared expert get fp8 rows, down-projections
    // from SwiGLU
    CHECK(count(moe.forward, OpKind::cast) == 5);
    // one a linear layer (4 + 2 + 2), and the gradient before dispatch
    CHECK(count(moe.backward, OpKind::cast) == 9);
    CHECK(count(moe.weight_ffn, OpKind::cast) == 4);
    CHECK(count(moe.weight_attention, OpKind::cast) == 4);
    auto const dense = layer(v3(), plan, 0);
    CHECK(count(dense.forward, OpKind::cast) == 5); // the up-projection casts for itself
    CHECK(count(every(block_ops(v3(), plan, {Block::Kind::head, 0})), OpKind::cast) == 0);
    CHECK(one(moe.forward, "router", Pass::forward).precision == Precision::bf16);
    // a cast reads 16 bit and writes 8 bit with an fp32 scale per 128
    auto const before = one(moe.forward, "quantise_dispatch", Pass::forward);
    CHECK(before.bytes.value() == Approx(tokens * hidden * (2 + 1 + 4.0 / 128)));
}

TEST_CASE("a builder shares tokens out by context and sequence parallelism")
{
    auto plan = plain();
    plan.micro_batch = 2;
    plan.cp = 2;
    plan.tp = 4;
    CHECK(OpBuilder{v3(), plan}.tokens == 4096);
    CHECK(OpBuilder{v3(), plan}.own_tokens == 4096);
    plan.sp = true;
    CHECK(OpBuilder{v3(), plan}.own_tokens == 1024);
}

TEST_CASE("quantised bytes count their scales")
{
    CHECK(quantised_bytes(Precision::fp8_block, 128) == 132);
    CHECK(quantised_bytes(Precision::mxfp8, 32) == 33);
    CHECK(quantised_bytes(Precision::nvfp4, 16) == 9);
    CHECK(quantised_bytes(Precision::bf16, 8) == 16);
}
