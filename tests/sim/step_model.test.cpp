// SPDX-License-Identifier: Apache-2.0
//
// Prices before anything runs: every block, the exchanges alone, and what moves between data-parallel ranks.
#include "model/ops.hpp"
#include "sim/traffic.hpp"
#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

double forward_seconds(PricedBlock const& block)
{
    double sum = 0;
    for (auto const& segment : block.forward) sum += seconds(segment.compute);
    return sum;
}

} // namespace

TEST_CASE("every stage has the blocks of its chunks, in order, and nothing is lost")
{
    for (auto const& s : schedules()) {
        DYNAMIC_SECTION(words(s))
        {
            auto const c = moe_case(s.kind, 4, 16, 16, s.micro_batches, s.overlap);
            auto const step = price(c);
            REQUIRE(step.stages.size() == 4);
            std::size_t blocks = 0;
            for (auto const& stage : step.stages) {
                REQUIRE(static_cast<int>(stage.chunk_begin.size()) == step.schedule.chunks + 1);
                CHECK(stage.chunk_begin.back() == static_cast<int>(stage.blocks.size()));
                for (std::size_t i = 0; i + 1 < stage.chunk_begin.size(); ++i)
                    CHECK(stage.chunk_begin[i] < stage.chunk_begin[i + 1]);
                blocks += stage.blocks.size();
                for (auto const& block : stage.blocks) CHECK(forward_seconds(block.priced) > 0);
            }
            std::size_t const homes = s.kind == ScheduleKind::dualpipe ? 2 : 1;
            CHECK(blocks == homes * (c.arch.layers.size() + 2)); // embedding and head
        }
    }
}

TEST_CASE("gradients of all stages are those of the parameters, each expert on one rank of its group")
{
    auto const c = moe_case(ScheduleKind::one_f_one_b, 4, 16, 16, 6, false);
    double dense = 0, expert = 0;
    for (auto const& stage : price(c).stages)
        for (auto const& block : stage.blocks) dense += block.dense_bytes, expert += block.expert_bytes;
    double routed = 0;
    for (auto const& layer : c.arch.layers) routed += layer.ffn.expert_parameters;
    CHECK(expert == Approx(4 * routed / 16));
    CHECK(dense == Approx(4 * (count_parameters(c.arch).total - routed)).epsilon(1e-3));
}

TEST_CASE("ZeRO-1 gathers bf16 weights, half the bytes of fp32 gradients; without it gradients come back whole")
{
    auto c = dense_case(32, 2);
    CHECK(price(c).gather_share == 0.5);
    c.plan.gradient_dtype = DType::bf16;
    CHECK(price(c).gather_share == 1);
    c.plan.gradient_dtype = DType::fp32;
    c.plan.zero = 0;
    CHECK(price(c).gather_share == 1);
}

TEST_CASE("an exchange alone takes what its busiest port takes, and a pipeline send what its NIC takes")
{
    auto const c = moe_case(ScheduleKind::dualpipe, 4, 64, 64, 8);
    auto const step = price(c);
    auto const spread = expert_spread(c.plan, c.cluster, step.routing);
    double const nic = spread.domain_copies * 7 / 8 / c.cluster.nic.value();
    double const nvlink = spread.gpu_copies / c.cluster.scale_up.value();
    CHECK(step.exchange_seconds_per_byte == Approx(std::max(nic, nvlink)));
    CHECK(step.exchange_latency == Approx((c.cluster.nic_latency + c.cluster.scale_up_latency).value()));
    CHECK(step.send_payload == 2.0 * 4096 * 7168);
    CHECK(step.send_seconds == Approx(step.send_payload / c.cluster.nic.value() + c.cluster.nic_latency.value()));
}

TEST_CASE("a pipeline inside one NVLink domain sends over NVLink, one of which a hop leaves it does not")
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 2, 4, 4, 6, false);
    CHECK(price(c).send_seconds ==
          Approx(price(c).send_payload / c.cluster.scale_up.value() + c.cluster.scale_up_latency.value()));
    c = moe_case(ScheduleKind::one_f_one_b, 4, 4, 4, 6, false);
    CHECK(price(c).send_seconds ==
          Approx(price(c).send_payload / c.cluster.nic.value() + c.cluster.nic_latency.value()));
}

TEST_CASE("expert gradients inside one NVLink domain do not cross a NIC")
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 2, 8, 4, 6, false);
    auto const inside = price(c).stages[1].reduce_seconds;
    c.cluster.nic *= 0.1;
    CHECK(price(c).stages[1].reduce_seconds == inside);
    c.cluster.scale_up *= 0.1;
    CHECK(price(c).stages[1].reduce_seconds > 5 * inside);
}

TEST_CASE("uneven loads slow the experts' products to the most loaded rank, nothing else")
{
    auto c = moe_case(ScheduleKind::dualpipe, 4, 16, 16, 8);
    auto const even = price(c);
    CHECK(even.expert_slowdown == 1);
    c.options.load_cv = 0.5;
    auto const uneven = price(c);
    auto const loads = rank_loads(uneven.routing, 16, 0.5);
    CHECK(uneven.expert_slowdown == *std::max_element(loads.begin(), loads.end()));
    for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t b = 0; b < even.stages[r].blocks.size(); ++b) {
            auto const& before = even.stages[r].blocks[b].priced;
            auto const& after = uneven.stages[r].blocks[b].priced;
            if (before.forward.front().exchanges)
                CHECK(forward_seconds(after) > forward_seconds(before));
            else
                CHECK(forward_seconds(after) == forward_seconds(before));
        }
}

TEST_CASE("audits may ask for fewer micro-batches than the plan has")
{
    auto c = moe_case(ScheduleKind::dualpipe, 4, 16, 16, 32);
    CHECK(price(c).schedule.micro_batches == 32);
    c.options.micro_batches = 8;
    CHECK(price(c).schedule.micro_batches == 8);
}

TEST_CASE("equal layers cost the same, dense and expert layers do not")
{
    auto const step = price(moe_case(ScheduleKind::one_f_one_b, 2, 16, 16, 4, false)); // 1 dense, 7 expert layers
    auto const& first = step.stages[0].blocks;
    REQUIRE(first.size() >= 4); // embedding, dense, expert, expert
    CHECK(forward_seconds(first[2].priced) == forward_seconds(first[3].priced));
    CHECK(forward_seconds(first[1].priced) != forward_seconds(first[2].priced));
    CHECK(first[1].expert_bytes == 0);
    CHECK(first[2].expert_bytes > 0);
}
