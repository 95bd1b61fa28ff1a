// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model/error.hpp"
#include "model/plan.hpp"
#include "tests/catch.hpp"
#include "tests/model/deepseek_v3.hpp"

using namespace trainfare;

namespace {

/// Megatron-LM's layout letters: E embedding, t layer, m MTP module, L loss; stages between bars.
std::string layout(Plan const& plan, Architecture const& arch)
{
    std::string text;
    for (auto const& stage : stage_blocks(plan, arch)) {
        if (!text.empty()) text += '|';
        for (auto const block : stage) text += "EtmL"[static_cast<int>(block.kind)];
    }
    return text;
}

std::string repeated(std::string const& text, int times)
{
    std::string out;
    for (int i = 0; i < times; ++i) out += text;
    return out;
}

Plan pipeline(int pp)
{
    Plan plan;
    plan.pp = pp;
    plan.schedule = ScheduleKind::one_f_one_b;
    return plan;
}

} // namespace

TEST_CASE("DeepSeek-V3 on 16 stages: four layers each, the last one layer with MTP and head")
{
    CHECK(layout(deepseek_v3_plan(), deepseek_v3()) == "Etttt|" + repeated("tttt|", 14) + "tmL");
}

TEST_CASE("DeepSeek-V3 on 32 stages is the layout that Megatron-Bridge ships: Et*3|(tt|)*29m|L")
{
    auto plan = deepseek_v3_plan();
    std::string const shipped = "Ettt|" + repeated("tt|", 29) + "m|L";
    plan.schedule = ScheduleKind::dualpipe_v;
    CHECK(layout(plan, deepseek_v3()) == shipped);
    plan.schedule = ScheduleKind::interleaved, plan.pp = 8, plan.vpp = 4;
    CHECK(layout(plan, deepseek_v3()) == shipped);
}

TEST_CASE("blocks keep their order and number")
{
    auto const arch = deepseek_v3();
    int next = 0;
    for (auto const& stage : stage_blocks(deepseek_v3_plan(), arch))
        for (auto const block : stage)
            if (block.kind == Block::Kind::layer) CHECK(block.index == next++);
    CHECK(next == 61);
}

TEST_CASE("explicit stages are taken as they are")
{
    auto plan = pipeline(3);
    plan.stage_layers = {0, 5, 1};
    CHECK(layout(plan, dense_model({64, 6, 4, 4, 256, 100, false})) == "E|ttttt|tL");
}

TEST_CASE("a head that weighs nothing leaves equal stages, and an odd layer goes to a late stage")
{
    auto const arch = dense_model({1024, 10, 8, 8, 4096, 0, false});
    CHECK(layout(pipeline(5), arch) == "Ett|tt|tt|tt|ttL");
    CHECK(layout(pipeline(4), arch) == "Ett|tt|ttt|tttL");
    CHECK(layout(pipeline(1), arch) == "EttttttttttL");
}

TEST_CASE("a head worth two layers takes the place of two")
{
    // A layer has 12 h^2 weights and, at 1,024 tokens, h x 1024 in scores: 13 h^2. The head: 26 h^2.
    auto arch = dense_model({1024, 10, 8, 8, 4096, 26 * 1024, false});
    auto plan = pipeline(4);
    plan.seq_len = 1024;
    CHECK(layout(plan, arch) == "Ettt|ttt|ttt|tL");
}

TEST_CASE("as many stages as blocks gives every block its own")
{
    CHECK(layout(pipeline(4), dense_model({64, 2, 4, 4, 256, 100, false})) == "E|t|t|L");
    CHECK_THROWS_AS(layout(pipeline(5), dense_model({64, 2, 4, 4, 256, 100, false})), InputError);
}

TEST_CASE("the balanced split is never worse than any other, tried out in full")
{
    // Vary the vocabulary so that the head weighs from nothing to many layers; 8 layers on 3 stages have 28 splits.
    for (int const vocab : {1, 5000, 20000, 60000, 200000}) {
        auto const arch = dense_model({1024, 8, 8, 8, 4096, vocab, false});
        double const layer = 12.0 * 1024 * 1024 + 1024.0 * 4096, head = 1024.0 * vocab;
        auto const largest = [&](Plan const& plan) {
            double most = 0;
            for (auto const& stage : stage_blocks(plan, arch)) {
                double cost = 0;
                for (auto const b : stage)
                    cost += b.kind == Block::Kind::layer ? layer : b.kind == Block::Kind::head ? head : 0;
                most = std::max(most, cost);
            }
            return most;
        };
        auto const balanced = largest(pipeline(3));
        for (int first = 0; first <= 8; ++first)
            for (int second = 1; first + second <= 8; ++second) {
                auto plan = pipeline(3);
                plan.stage_layers = {first, second, 8 - first - second};
                CHECK(balanced <= largest(plan) * (1 + 1e-5));
            }
    }
}

TEST_CASE("stages that contradict the model are refused, not laid out")
{
    auto const arch = dense_model({64, 6, 4, 4, 256, 100, false});
    auto plan = pipeline(2);
    plan.stage_layers = {3, 4};
    CHECK_THROWS_AS(stage_blocks(plan, arch), InputError);
    plan.stage_layers = {-1, 7};
    CHECK_THROWS_AS(stage_blocks(plan, arch), InputError);
    plan.stage_layers = {};
    plan.mtp_layers = 1;
    CHECK_THROWS_AS(stage_blocks(plan, arch), InputError);
}
