// SPDX-License-Identifier: Apache-2.0
//
// Experts and dense feed-forward parts: shapes, what is sent, what is run again.
#include "tests/model/ops_cases.hpp"

using namespace trainfare;
using namespace trainfare::ops_cases;

TEST_CASE("a GPU of 64 holds 4 experts and gives each 8,192 rows")
{
    auto const ops = layer(v3(), deepseek_v3_plan(), 10);
    auto const up = one(ops.forward, "expert_up", Pass::forward), down = one(ops.forward, "expert_down", Pass::forward);
    CHECK(up.m == 8192);
    CHECK(up.n == 4096);
    CHECK(up.k == 7168);
    CHECK(up.groups == 4);
    CHECK(down.n == 7168);
    CHECK(down.k == 2048);
    CHECK(up.flops.value() == 2.0 * 4 * 8192 * 4096 * 7168);
    CHECK((up.routed && down.routed));

    auto const back = one(ops.backward, "expert_up", Pass::dgrad);
    CHECK((back.m == 8192 && back.n == 7168 && back.k == 4096));
    auto const weight = one(ops.weight_ffn, "expert_up", Pass::wgrad);
    CHECK((weight.m == 4096 && weight.n == 7168 && weight.k == 8192));
    // fp8 inputs read once, fp32 gradients read and written
    CHECK(weight.bytes.value() == 4 * (8192.0 * (4096 + 7168) + 4096.0 * 7168 * 8));
}

TEST_CASE("dispatch carries fp8 with scales, combine 16 bit, in both directions")
{
    auto const ops = layer(v3(), deepseek_v3_plan(), 10);
    for (auto const& [list, pass] : {std::pair{&ops.forward, Pass::forward}, {&ops.backward, Pass::dgrad}}) {
        CHECK(one(*list, "dispatch", pass).payload.value() == tokens * hidden * (1 + 4.0 / 128));
        CHECK(one(*list, "combine", pass).payload.value() == tokens * hidden * 2);
    }
    auto wide = deepseek_v3_plan();
    wide.dispatch_dtype = DType::bf16;
    CHECK(payload(layer(v3(), wide, 10).forward, OpKind::dispatch) == tokens * hidden * 2);
}

TEST_CASE("without expert parallelism nothing is exchanged")
{
    auto plan = deepseek_v3_plan();
    plan.ep = 1;
    auto const ops = every(layer(v3(), plan, 10));
    CHECK(count(ops, OpKind::dispatch) == 0);
    CHECK(count(ops, OpKind::combine) == 0);
    CHECK(one(ops, "expert_up", Pass::forward).groups == 256);
    CHECK(one(ops, "expert_up", Pass::forward).m == 128);
}

TEST_CASE("dense layers have no router, and dispatch lies between router and experts")
{
    auto const dense = every(layer(v3(), deepseek_v3_plan(), 0));
    CHECK(count(dense, OpKind::router) == 0);
    CHECK(count(dense, OpKind::dispatch) == 0);
    CHECK(one(dense, "ffn_up", Pass::forward).n == 2 * 18432);

    auto const ops = layer(v3(), deepseek_v3_plan(), 3).forward;
    auto const at = [&](OpKind kind) {
        return std::find_if(ops.begin(), ops.end(), [&](Op const& op) { return op.kind == kind; }) - ops.begin();
    };
    CHECK(at(OpKind::attention) < at(OpKind::router));
    CHECK(at(OpKind::router) < at(OpKind::dispatch));
    CHECK(at(OpKind::dispatch) < at(OpKind::permute));
    CHECK(at(OpKind::permute) < at(OpKind::expert_gemm));
    CHECK(at(OpKind::unpermute) < at(OpKind::combine));
}

TEST_CASE("tensor parallelism inside experts cuts their width and doubles their rows")
{
    auto plan = deepseek_v3_plan();
    auto const whole = one(layer(v3(), plan, 10).forward, "expert_up", Pass::forward);
    plan.ep = 32;
    plan.etp = 2;
    auto const up = one(layer(v3(), plan, 10).forward, "expert_up", Pass::forward);
    CHECK(up.groups == 8);
    CHECK(up.n == 2048);
    CHECK(up.m == 8192); // twice the rows on twice the experts
    CHECK(up.flops == whole.flops);
    CHECK(one(layer(v3(), plan, 10).forward, "expert_down", Pass::forward).k == 1024);
}

TEST_CASE("an activation inside a recomputed part is not recomputed a second time")
{
    auto plan = v3_plan_keeping_all();
    plan.recompute.kind = RecomputeKind::selective;
    plan.recompute.mlp = plan.recompute.moe_act = true;
    CHECK(count(layer(v3(), plan, 0).backward, OpKind::activation) == 2);
}

TEST_CASE("recomputing experts repeats their dispatch, other modules move nothing")
{
    auto plan = deepseek_v3_plan(); // norms, latent up-projections, SwiGLU
    auto const selective = layer(v3(), plan, 10);
    CHECK(count(selective.backward, OpKind::dispatch) == 1);
    Work w;
    w.add(selective.backward);
    CHECK(w.linear[recompute] == 2 * tokens * (1536.0 * 24576 + 512.0 * 32768));
    CHECK(w.scores[recompute] == 0);

    plan.recompute.moe = true;
    auto const all = layer(v3(), plan, 10);
    CHECK(count(all.backward, OpKind::dispatch) == 2);
    Work again;
    again.add(all.backward);
    CHECK(again.linear[recompute] > w.linear[recompute] + 2 * 4 * 8192.0 * 3 * 2048 * 7168);

    plan.recompute.attention_core = true;
    Work core;
    core.add(layer(v3(), plan, 10).backward);
    CHECK(core.scores[recompute] == Approx(687e9).epsilon(0.001));
}
