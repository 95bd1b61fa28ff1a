// SPDX-License-Identifier: Apache-2.0
//
// DeepSeek-V3's published arithmetic (arXiv:2412.19437 Table 1, arXiv:2505.09343 Table 4) and the ramp's integral.
#include "sim/project.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

Cluster cluster()
{
    Cluster c;
    c.gpu.key = "H800-SXM";
    c.gpu.tdp = Watts{700};
    c.gpus = 2048;
    return c;
}

PriceRange price(double value, double low, double high)
{
    return {value * units::usd_per_gpu_hour, low * units::usd_per_gpu_hour, high * units::usd_per_gpu_hour, "test"};
}

Phase tokens(double n)
{
    Phase p;
    p.name = "pre-training";
    p.tokens = n;
    return p;
}

Phase published(std::string const& name, double hours, std::string const& on = "H800-SXM")
{
    Phase p;
    p.name = name;
    p.published_gpu_hours = hours;
    p.published_on = on;
    return p;
}

double same(int) { return 1; }

Projection v3(std::vector<Phase> const& phases, PriceRange const& prices = price(2, 2, 2),
              std::function<double(int)> const& step_at_batch = same, std::optional<double> scale = {})
{
    return project({19.926, 19.926, 19.926}, 15360, 4096, {phases}, prices, cluster(), step_at_batch, scale);
}

std::string error_of(Phase const& phase)
{
    try {
        v3({phase});
    } catch (InputError const& error) {
        return error.what();
    }
    return "accepted";
}

bool contains(std::string const& text, std::string const& part)
{
    UNSCOPED_INFO(text);
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("steps of 19.926 s train 272.8 billion tokens a day on 2,048 GPUs")
{
    auto const result = v3({tokens(272.8e9)});
    CHECK(result.days.value == Approx(1).epsilon(1e-4));
    CHECK(result.tokens_per_gpu_second.value * 2048 * 86400 == Approx(272.8e9).epsilon(1e-4));
}

TEST_CASE("a trillion tokens cost 180.2 thousand GPU-hours, 14.8 trillion 2.667 million")
{
    CHECK(v3({tokens(1e12)}).gpu_hours.value == Approx(180.2e3).epsilon(5e-4));
    auto const all = v3({tokens(14.8e12)});
    CHECK(all.gpu_hours.value == Approx(2.667e6).epsilon(5e-4));
    CHECK(all.phases[0].steps == Approx(14.8e12 / 15360 / 4096));
    CHECK(all.phases[0].how == "simulated");
}

TEST_CASE("with context extension and post-training at 2 USD an hour DeepSeek-V3 costs 5.58 million USD")
{
    auto const result = v3({tokens(14.8e12), published("context extension", 119e3), published("post-training", 5e3)});
    CHECK(result.gpu_hours.value == Approx(2.791e6).epsilon(5e-4));
    CHECK(result.cost_usd.value == Approx(5.58e6).epsilon(5e-4));
    REQUIRE(result.phases.size() == 3);
    CHECK(result.phases[1].cost_usd.value == Approx(238e3));
    CHECK(result.phases[1].days.value == Approx(119e3 / 2048 / 24));
    CHECK(result.phases[1].how == "published on H800-SXM");
    CHECK(result.days.value == Approx(result.gpu_hours.value / 2048 / 24));
}

TEST_CASE("a batch ramp from 3,072 to 15,360 over 469 billion tokens takes 14,997 steps")
{
    auto phase = tokens(469e9);
    phase.ramp_from = 3072;
    phase.ramp_tokens = 469e9;

    SECTION("if a step takes as long at any batch, it costs twice the steps")
    {
        auto const result = v3({phase});
        CHECK(result.phases[0].steps == Approx(14997.05).epsilon(1e-6));
        CHECK(result.gpu_hours.value == Approx(14997.05 * 19.926 * 2048 / 3600).epsilon(2e-5)); // whole batches
    }
    SECTION("if a step's time is proportional to its batch, the ramp costs nothing")
    {
        auto const result = v3({phase}, price(2, 2, 2), [](int batch) { return batch / 15360.0; });
        CHECK(result.phases[0].steps == Approx(14997.05).epsilon(1e-6));
        CHECK(result.gpu_hours.value == Approx(v3({tokens(469e9)}).gpu_hours.value).epsilon(1e-7));
    }
    SECTION("in between, the fixed part counts by steps and the rest by tokens")
    {
        auto const result = v3({phase}, price(2, 2, 2), [](int batch) { return 0.1 + 0.9 * batch / 15360.0; });
        double const full_steps = 0.1 * 14997.0528 + 0.9 * 469e9 / 15360 / 4096;
        CHECK(result.gpu_hours.value == Approx(full_steps * 19.926 * 2048 / 3600).epsilon(2e-5));
    }
    SECTION("the rest of the phase runs at the plan's batch")
    {
        auto whole = phase;
        whole.tokens = 14.8e12;
        auto const rest = v3({tokens(14.8e12 - 469e9)});
        CHECK(v3({whole}).gpu_hours.value == Approx(v3({phase}).gpu_hours.value + rest.gpu_hours.value));
    }
    SECTION("a ramp that begins at the plan's batch is none")
    {
        phase.ramp_from = 15360;
        CHECK(v3({phase}).gpu_hours.value == v3({tokens(469e9)}).gpu_hours.value);
    }
    SECTION("a long ramp from a single sequence is integrated as well")
    {
        phase.ramp_from = 1;
        auto const result = v3({phase}, price(2, 2, 2), [](int batch) { return 0.1 + 0.9 * batch / 15360.0; });
        double const steps = 469e9 / 4096 / 15359 * std::log(15360.0);
        double const full_steps = 0.1 * steps + 0.9 * 469e9 / 15360 / 4096;
        CHECK(result.gpu_hours.value == Approx(full_steps * 19.926 * 2048 / 3600).epsilon(0.02));
    }
}

TEST_CASE("the batches asked for in a ramp are whole and between its ends")
{
    auto phase = tokens(1e12);
    phase.ramp_from = 16;
    phase.ramp_tokens = 1e11;
    std::vector<int> asked;
    v3({phase}, price(2, 2, 2), [&](int batch) {
        asked.push_back(batch);
        return 1.0;
    });
    CHECK(asked.size() == 33);
    CHECK(asked.front() == 16);
    CHECK(asked.back() == 15360);
}

TEST_CASE("hours published on another accelerator scale with the step time, and say so")
{
    auto const phase = published("post-training", 5000, "H100-SXM");
    auto const scaled = v3({phase}, price(2, 2, 2), same, 1.03);
    CHECK(scaled.gpu_hours.value == Approx(5150));
    CHECK(scaled.phases[0].how == "published on H100-SXM, scaled by the step-time ratio 1.03");
    CHECK(v3({phase}).phases[0].how == "published on H100-SXM, not scaled");
    // On the same accelerator they are a fact, whatever the ratio.
    CHECK(v3({published("post-training", 5000)}, price(2, 2, 2), same, 1.03).gpu_hours.value == 5000);
}

TEST_CASE("the cost's interval is the root sum of squares of the step time's and the price's")
{
    // Step time -3 % +6 %, price -4 % +8 %: cost -5 % +10 %.
    auto const result =
        project({10, 9.7, 10.6}, 15360, 4096, {{tokens(1e12)}}, price(2, 1.92, 2.16), cluster(), same, {});
    CHECK(result.cost_usd.low == Approx(0.95 * result.cost_usd.value));
    CHECK(result.cost_usd.high == Approx(1.10 * result.cost_usd.value));
    CHECK(result.gpu_hours.low == Approx(0.97 * result.gpu_hours.value));
    CHECK(result.days.high == Approx(1.06 * result.days.value));
    CHECK(result.tokens_per_gpu_second.low == Approx(result.tokens_per_gpu_second.value / 1.06));
    CHECK(result.tokens_per_gpu_second.high == Approx(result.tokens_per_gpu_second.value / 0.97));
}

TEST_CASE("published hours on the same accelerator add no uncertainty")
{
    auto const result =
        project({10, 9, 12}, 15360, 4096, {{published("post-training", 5000)}}, price(2, 2, 2), cluster(), same, {});
    CHECK(result.gpu_hours.low == 5000);
    CHECK(result.gpu_hours.high == 5000);
    CHECK(result.cost_usd.high == Approx(10000));
}

TEST_CASE("energy is every GPU at its design power, with node and building on top")
{
    // 1,000 GPU-hours x 0.7 kW x 1.5 x 1.3 = 1,365 kWh
    auto const result = v3({published("post-training", 1000)});
    REQUIRE(result.energy_kwh);
    CHECK(result.energy_kwh->value == Approx(1365));

    auto unknown = cluster();
    unknown.gpu.tdp.reset();
    CHECK(!project({1, 1, 1}, 8, 8, {{tokens(1e6)}}, price(2, 2, 2), unknown, same, {}).energy_kwh);
}

TEST_CASE("intervals scale and add end by end, and keep their ends in order")
{
    auto const twice = Interval{2, 1, 4} * 2;
    CHECK((twice.value == 4 && twice.low == 2 && twice.high == 8));
    auto const negated = Interval{2, 1, 4} * -1;
    CHECK((negated.value == -2 && negated.low == -4 && negated.high == -1));
    auto const sum = Interval{2, 1, 4} + Interval{10, 9, 12};
    CHECK((sum.value == 12 && sum.low == 10 && sum.high == 16));
}

TEST_CASE("a phase that cannot be is refused with its name, the reason and what to try")
{
    CHECK(error_of(tokens(0)) ==
          "run.phase \"pre-training\": tokens = 0 (must be a positive number); try tokens = \"14.8T\"");
    CHECK(contains(error_of(tokens(-1)), "tokens = -1"));
    CHECK(contains(error_of(tokens(std::numeric_limits<double>::quiet_NaN())), "tokens = nan"));
    CHECK(contains(error_of(tokens(1e300)), "more text than there is"));
    CHECK(contains(error_of(published("post-training", 0)), "published_gpu_hours = 0"));
    CHECK(contains(error_of(Phase{}), "neither tokens nor published_gpu_hours"));

    auto both = tokens(1e12);
    both.published_gpu_hours = 1;
    CHECK(contains(error_of(both), "both tokens and published_gpu_hours"));

    auto ramp = tokens(1e12);
    ramp.ramp_from = 3072;
    CHECK(contains(error_of(ramp), "one of ramp_from and ramp_tokens"));
    ramp.ramp_tokens = 2e12;
    CHECK(contains(error_of(ramp), "ramp_tokens = 2e+12 (the ramp is a part"));
    ramp.ramp_tokens = 1e11;
    ramp.ramp_from = 0;
    CHECK(contains(error_of(ramp), "ramp_from = 0"));
    ramp.ramp_from = 15361;
    CHECK(contains(error_of(ramp), "plan.global_batch = 15360"));
    ramp.tokens.reset();
    ramp.published_gpu_hours = 1;
    CHECK(contains(error_of(ramp), "has a batch ramp but no tokens"));
}

TEST_CASE("a price range that does not hold the price is refused")
{
    CHECK_THROWS_AS(v3({tokens(1e12)}, price(2, 3, 4)), InputError);
    CHECK_THROWS_AS(v3({tokens(1e12)}, price(2, -1, 4)), InputError);
    CHECK_THROWS_AS(v3({tokens(1e12)}, price(2, std::nan(""), 4)), InputError);
}

TEST_CASE("no GPUs and empty batches are refused")
{
    auto none = cluster();
    none.gpus = 0;
    CHECK_THROWS_AS(project({1, 1, 1}, 8, 8, {{tokens(1e6)}}, price(2, 2, 2), none, same, {}), InputError);
    CHECK_THROWS_AS(project({1, 1, 1}, 0, 8, {{tokens(1e6)}}, price(2, 2, 2), cluster(), same, {}), InputError);
}

TEST_CASE("a step without a time is our own error")
{
    CHECK_THROWS_AS(project({0, 0, 0}, 8, 8, {{tokens(1e6)}}, price(2, 2, 2), cluster(), same, {}), InternalError);
    CHECK_THROWS_AS(project({1, 2, 3}, 8, 8, {{tokens(1e6)}}, price(2, 2, 2), cluster(), same, {}), InternalError);
}
