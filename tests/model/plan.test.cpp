// SPDX-License-Identifier: Apache-2.0
#include "model/plan.hpp"

#include <algorithm>
#include <climits>
#include <random>

#include "model/memory.hpp"
#include "tests/catch.hpp"
#include "tests/model/deepseek_v3.hpp"

using namespace trainfare;

namespace {

constexpr int gpus = 2048;

std::vector<std::string> broken(Plan const& plan) { return check_plan(plan, deepseek_v3(), gpus); }

bool says(std::vector<std::string> const& messages, std::string const& text)
{
    return std::any_of(messages.begin(), messages.end(),
                       [&](std::string const& m) { return m.find(text) != std::string::npos; });
}

/// The published plan with one change.
template <class Change>
std::vector<std::string> after(Change change)
{
    auto plan = deepseek_v3_plan();
    change(plan);
    return broken(plan);
}

Architecture llama_405b() { return dense_model({16384, 126, 128, 8, 53248, 128256, true}); }

Plan llama_plan()
{
    Plan plan;
    plan.tp = 8, plan.sp = true, plan.pp = 16, plan.dp = 128;
    plan.zero = 2;
    plan.schedule = ScheduleKind::one_f_one_b;
    plan.global_batch = 2048;
    plan.seq_len = 8192;
    plan.dispatcher = Dispatcher::none;
    return plan;
}

} // namespace

TEST_CASE("the published plans of DeepSeek-V3 and Llama-3.1-405B are possible")
{
    CHECK(broken(deepseek_v3_plan()).empty());
    CHECK(check_plan(llama_plan(), llama_405b(), 16384).empty());
}

TEST_CASE("an expert group that does not divide the experts is refused with the nearest sizes that do")
{
    auto const messages = after([](Plan& p) { p.ep = 96; });
    CHECK(says(messages,
               "plan.ep = 96 does not divide 256 experts (every rank must hold the same number); try 64 or 128"));
}

TEST_CASE("every broken rule is listed, not only the first")
{
    auto const messages = after([](Plan& p) { p.ep = 96, p.sp = true, p.pp = 15, p.global_batch = 15361; });
    CHECK(says(messages, "plan.ep = 96"));
    CHECK(says(messages, "plan.sp = true with tp = 1"));
    CHECK(says(messages, "does not make 2048 GPUs"));
    CHECK(says(messages, "plan.global_batch = 15361 does not divide by dp * micro_batch = 128"));
    CHECK(says(messages, "try 15360 or 15488"));
    CHECK(says(messages, "plan.pp = 15 with schedule = dualpipe"));
    CHECK(says(messages, "needs 96 ranks, which do not divide the tp * cp * dp = 128"));
    CHECK(messages.size() == 6);
}

TEST_CASE("degrees that do not make the cluster name the missing one")
{
    CHECK(says(after([](Plan& p) { p.dp = 64; }), "try dp = 128"));
    CHECK(says(after([](Plan& p) { p.cp = 3; }), "try 32 or 64 for tp * cp * pp"));
}

TEST_CASE("tensor parallelism must cut every width into equal slices, and the advice keeps all of them")
{
    auto plan = llama_plan();
    plan.tp = 12;
    auto const messages = check_plan(plan, llama_405b(), 16384);
    CHECK(says(messages, "plan.tp = 12 does not divide hidden 16384"));
    CHECK(says(messages, "plan.tp = 12 does not divide attention heads 128"));
    CHECK(says(messages, "plan.tp = 12 does not divide FFN width 53248"));
    CHECK(says(messages, "plan.tp = 12 and 8 key-value heads do not divide one another"));
    CHECK(says(messages, "plan.seq_len = 8192 does not divide by cp * tp = 12"));
    CHECK(says(messages, "try 8"));
}

TEST_CASE("key-value heads may be copied to whole ranks")
{
    auto plan = llama_plan();
    plan.tp = 16, plan.dp = 64;
    CHECK(check_plan(plan, llama_405b(), 16384).empty());
}

TEST_CASE("expert groups tile the ranks of a pipeline stage, over tensor and context parallel ranks too")
{
    CHECK(after([](Plan& p) { p.tp = 2, p.dp = 64, p.ep = 128; }).empty());
    CHECK(says(after([](Plan& p) { p.ep = 256; }), "needs 256 ranks, which do not divide the tp * cp * dp = 128"));
    CHECK(says(after([](Plan& p) { p.etp = 3; }), "plan.etp = 3 does not divide expert width 2048"));
    CHECK(says(after([](Plan& p) { p.dispatcher = Dispatcher::none; }), "plan.dispatcher = none"));
    auto dense = llama_plan();
    dense.ep = 8, dense.etp = 2;
    auto const messages = check_plan(dense, llama_405b(), 16384);
    CHECK(says(messages, "plan.ep = 8 but dense has no experts"));
    CHECK(says(messages, "plan.etp = 2 but dense has no experts"));
}

TEST_CASE("a schedule gets the micro-batches and ranks it needs")
{
    CHECK(says(after([](Plan& p) { p.schedule = ScheduleKind::none; }), "plan.schedule = none with pp = 16"));
    CHECK(says(after([](Plan& p) { p.vpp = 2; }), "plan.vpp = 2 with schedule = dualpipe"));
    CHECK(says(after([](Plan& p) { p.schedule = ScheduleKind::interleaved; }), "nothing to interleave"));
    CHECK(says(after([](Plan& p) { p.global_batch = 128 * 31; }), "needs a multiple of 2, at least 32"));
    CHECK(says(after([](Plan& p) { p.global_batch = 128 * 30; }), "try 4096"));
    CHECK(
        says(after([](Plan& p) { p.schedule = ScheduleKind::dualpipe_v, p.global_batch = 128 * 31; }), "at least 32"));
    CHECK(says(after([](Plan& p) { p.schedule = ScheduleKind::interleaved, p.vpp = 2, p.global_batch = 128 * 24; }),
               "a multiple of 16, at least 16"));
    CHECK(after([](Plan& p) { p.schedule = ScheduleKind::one_f_one_b, p.global_batch = 128; }).empty());
}

TEST_CASE("explicit stages must hold all layers and leave none empty")
{
    auto const with = [](std::vector<int> layers) {
        return after([&](Plan& p) { p.stage_layers = std::move(layers); });
    };
    std::vector<int> published(16, 4);
    published.back() = 1;
    CHECK(with(published).empty());
    CHECK(says(with({61}), "has 1 entries for 16 model stages"));
    auto layers = published;
    layers[3] = 3;
    CHECK(says(with(layers), "sums to 60, DeepSeek-V3 has 61 layers (each layer has one place); try 1 more"));
    layers[3] = 0, layers[4] = 8;
    CHECK(says(with(layers), "plan.stage_layers[3] = 0"));
    layers = published;
    layers[3] = -4, layers[4] = 12;
    CHECK(says(with(layers), "plan.stage_layers[3] = -4"));
    CHECK(says(with({INT_MAX, INT_MAX, INT_MAX}), "sums to 6442450941"));
}

TEST_CASE("more stages than blocks cannot be filled")
{
    auto plan = llama_plan();
    plan.schedule = ScheduleKind::interleaved;
    plan.vpp = 9;
    CHECK(says(check_plan(plan, llama_405b(), 16384), "makes 144 stages of 126 layers"));
}

TEST_CASE("recomputed modules belong to selective recomputation, MTP modules to the model")
{
    CHECK(says(after([](Plan& p) { p.recompute.kind = RecomputeKind::full; }),
               "plan.recompute = full with modules named"));
    CHECK(says(after([](Plan& p) { p.mtp_layers = 2; }), "plan.mtp_layers = 2 but DeepSeek-V3 has 1"));
}

TEST_CASE("numbers out of range are refused one by one and overflow nothing")
{
    for (int const value : {INT_MIN, -1, 0, INT_MAX}) {
        auto const messages = after([&](Plan& p) {
            p.tp = p.cp = p.pp = p.vpp = p.dp = p.ep = p.etp = p.micro_batch = p.global_batch = p.seq_len = value;
            p.zero = p.comm_sms = value;
        });
        CHECK(messages.size() >= 10);
        CHECK(says(messages, "plan.tp = " + std::to_string(value) + " is not between 1 and"));
    }
    auto const large = after([](Plan& p) {
        p.tp = p.cp = p.dp = p.ep = p.etp = p.vpp = 1 << 20, p.pp = 1024, p.micro_batch = p.global_batch = 1 << 26;
        p.seq_len = 1 << 30;
    });
    CHECK(says(large, "does not make 2048 GPUs"));
    CHECK(says(after([](Plan& p) { p.seq_len = 1 << 30, p.micro_batch = 2; }), "tokens a pass"));
    CHECK(!check_plan(deepseek_v3_plan(), deepseek_v3(), 0).empty());
    CHECK(!check_plan(deepseek_v3_plan(), deepseek_v3(), -1).empty());
}

TEST_CASE("names are read back, unknown ones are absent")
{
    for (auto const* text : {"none", "gpipe", "1f1b", "interleaved", "zb_h1", "zb_v", "dualpipe", "dualpipev"}) {
        REQUIRE(schedule_from(text));
        CHECK(name(*schedule_from(text)) == text);
    }
    for (auto const* text : {"none", "selective", "full"}) CHECK(name(recompute_from(text).value()) == text);
    for (auto const* text : {"none", "alltoall", "allgather", "deepep"})
        CHECK(name(dispatcher_from(text).value()) == text);
    CHECK_FALSE(schedule_from("1F1B"));
    CHECK_FALSE(recompute_from(""));
    CHECK_FALSE(dispatcher_from("nccl"));
}

TEST_CASE("what passes the check can be scheduled, cut into stages and weighed")
{
    std::mt19937 random{7};
    auto const arch = deepseek_v3();
    auto const power = [&](unsigned largest) { return 1 << (random() % (largest + 1)); };
    int possible = 0;
    for (int i = 0; i < 4000; ++i) {
        auto plan = deepseek_v3_plan();
        plan.tp = power(3), plan.cp = power(1), plan.pp = static_cast<int>(random() % 9);
        plan.dp = power(4), plan.ep = power(6), plan.etp = power(1), plan.vpp = static_cast<int>(random() % 3);
        plan.sp = random() % 2 == 0;
        plan.zero = static_cast<int>(random() % 4);
        plan.schedule = static_cast<ScheduleKind>(random() % 8);
        plan.global_batch = static_cast<int>(random() % 64) * 4;
        if (!check_plan(plan, arch, plan.gpus()).empty()) continue;
        ++possible;
        auto const schedule = make_schedule(plan.schedule, plan.pp, plan.vpp, plan.micro_batches());
        CHECK(schedule.stages == model_stages(plan));
        auto const report = memory_per_stage(arch, plan, schedule, 80 * units::GB);
        CHECK(report.stages.size() == static_cast<std::size_t>(plan.pp));
        CHECK(report.fullest().total() > 10 * units::GB);
    }
    CHECK(possible > 100);
}
