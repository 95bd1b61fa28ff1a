// SPDX-License-Identifier: Apache-2.0
//
// What the real step runs against what the plan measures, call by call.
#include "calibrate/run/closure.hpp"

#include <algorithm>
#include <set>

#include "tests/calibrate_run/tiny.hpp"
#include "tests/catch.hpp"

namespace trainfare::measure {

namespace {

Request deepseek_v3()
{
    Request r;
    r.model = read_hf_config(TRAINFARE_SOURCE_DIR "/scenarios/models/deepseek-v3.json");
    r.ep = 64;
    return r;
}

/// Widths that fp8 blocks of 128 divide.
Request tiny_in_blocks()
{
    Request r = tiny_request();
    r.model = parse_hf_config(
        R"({"model_type": "deepseek_v3", "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 128,
        "intermediate_size": 256, "kv_lora_rank": 128, "max_position_embeddings": 4096, "moe_intermediate_size": 128, "n_group": 2,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 4, "num_experts_per_tok": 2,
        "num_hidden_layers": 3, "num_key_value_heads": 4, "num_nextn_predict_layers": 1, "q_lora_rank": 128, "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 32, "rms_norm_eps": 1e-06, "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
        "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 32, "vocab_size": 512})",
        "tiny.json");
    r.seq = 128;
    r.precisions = {Precision::fp8_block};
    return r;
}

std::vector<std::string> texts(std::vector<Call> const& calls)
{
    std::vector<std::string> out;
    for (auto const& call : calls) out.push_back(call.text());
    return out;
}

/// Calls of the step that no point of the plan contains, but for launches and for what a ceiling measures by size.
std::set<std::string> unpriced(Request const& r, Precision precision)
{
    std::vector<Call> measured;
    for (auto const& p : make_points(r))
        for (auto const& call : calls_of(p)) measured.push_back(call);
    std::set<std::string> out;
    auto const step = step_calls(r, precision);
    for (auto const* calls : {&step.passes, &step.update})
        for (auto const& call : *calls) {
            bool const by_size = call.operation() == "fill" || call.operation() == "sum" ||
                                 call.operation() == "adamw" || call.kind == "copy";
            bool const found = std::any_of(measured.begin(), measured.end(), [&](Call const& m) {
                return alike(m, call) || (by_size && m.kind == call.kind);
            });
            if (!found && call.work >= tiny_work) out.insert(call.text());
        }
    return out;
}

} // namespace

TEST_CASE("every operation that the step runs is priced in the closure")
{
    for (auto const& [request, precision] : {std::pair{tiny_request(), Precision::bf16},
                                             {tiny_in_blocks(), Precision::fp8_block},
                                             {deepseek_v3(), Precision::bf16},
                                             {deepseek_v3(), Precision::fp8_block}})
        for (auto const& call : unpriced(request, precision))
            FAIL_CHECK(request.model.name << " in " << name(precision) << ": " << call);
}

TEST_CASE("the step asked without computing makes the calls that it makes on a back-end")
{
    for (auto const precision : {Precision::bf16, Precision::fp8_block}) {
        auto const request = precision == Precision::bf16 ? tiny_request() : tiny_in_blocks();
        auto const config = step_config(request, precision);
        auto const host = kernels::make_host_backend(false);
        CallLog log{host.get()};
        auto const world = kernels::make_solo_communicator(log);
        kernels::Trainer trainer{log, *world, config};
        auto const in = step_input(config);
        log.calls.clear(), log.records.clear();
        CHECK(trainer.step(in.tokens, &in.routing).loss > 0);
        auto const asked = step_calls(request, precision);
        auto all = asked.passes;
        all.insert(all.end(), asked.update.begin(), asked.update.end());
        REQUIRE(log.records.size() == 3);
        auto const at = [&](std::size_t i) { return log.calls.begin() + static_cast<std::ptrdiff_t>(log.records[i]); };
        auto const really = texts({at(0), at(2)}), told = texts(all); // without what prepares the batch
        REQUIRE(really.size() == told.size());
        for (std::size_t i = 0; i < told.size(); ++i)
            if (really[i] != told[i]) FAIL_CHECK(really[i] << " is not " << told[i]);
        CHECK(asked.passes.size() > 100);
        CHECK(asked.update.size() > 5);
    }
}

TEST_CASE("two calls are alike up to padding: 2112 columns and the 2176 that fp8 makes of them, but not 2304")
{
    Call const a{"gemm nt bf16 e4m3 e4m3", {4096, 2112, 7168, 1}, 1}, padded{a.kind, {4096, 2176, 7168, 1}, 1},
        wider{a.kind, {4096, 2304, 7168, 1}, 1};
    CHECK(alike(a, padded));
    CHECK_FALSE(alike(a, wider));
    CHECK_FALSE(alike(a, Call{"gemm nt bf16 bf16 bf16", a.sizes, 1}));
    CHECK(a.text() == "gemm nt bf16 e4m3 e4m3 4096x2112x7168x1");
}

TEST_CASE("rows that cost what they cost give the step their sum")
{
    // Each call of the step as a row of 1 ms, found by the very points of the plan.
    auto const request = tiny_request();
    std::vector<Row> rows;
    for (auto const& p : make_points(request)) {
        Row row;
        row.point = p, row.timing.median = 1e-3;
        if (p.method == "step") row.timing.median = 1;
        if (p.group <= Group::memory || p.group == Group::closure) rows.push_back(row);
    }
    auto const report = closure(rows, request, Precision::bf16, "folder");
    CHECK(report.missing.empty());
    auto const step = step_calls(request, Precision::bf16);
    int calls = 0;
    for (auto const& line : report.operations) {
        calls += line.calls;
        CHECK(line.missing == 0);
    }
    CHECK(calls == static_cast<int>(step.passes.size() + step.update.size()));
    auto const products = std::find_if(report.operations.begin(), report.operations.end(),
                                       [](ClosureLine const& line) { return line.what == "grouped_gemm"; });
    REQUIRE(products != report.operations.end());
    CHECK(products->predicted_s == Approx(1e-3 * products->calls)); // 2 layers x 2 weights x 3 passes
    CHECK(products->calls == 12);
}

} // namespace trainfare::measure
