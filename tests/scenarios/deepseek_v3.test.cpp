// SPDX-License-Identifier: Apache-2.0
//
// The reference case against what DeepSeek published of it. None of these figures is fitted anywhere.
#include "scenarios/load.hpp"
#include "scenarios/run.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

Result const& reference()
{
    static Result const result = run(load_scenario(TRAINFARE_SOURCE_DIR "/scenarios/examples/deepseek-v3-h800.toml"));
    return result;
}

bool within(double value, double published, double share) { return std::abs(value / published - 1) <= share; }

} // namespace

TEST_CASE("DeepSeek-V3 on 2,048 H800s takes the published 19.926 s a step to within 10 %")
{
    CHECK(within(reference().projection.step_time_s.value, 19.926, 0.10)); // arXiv:2505.09343 Table 4
}

TEST_CASE("its pre-training takes the published 2.664 M GPU-hours to within 10 %")
{
    auto const& phases = reference().projection.phases;
    REQUIRE(!phases.empty());
    CHECK(within(phases.front().gpu_hours.value, 2.664e6, 0.10)); // arXiv:2412.19437 Table 1
}

TEST_CASE("the published step lies inside the projected 90 % interval")
{
    auto const& step = reference().projection.step_time_s;
    CHECK(step.low < 19.926);
    CHECK(step.high > 19.926);
}

TEST_CASE("the overlapped pair of four expert layers takes the published 129.0 ms to within 15 %")
{
    REQUIRE(reference().pair.has_value());
    CHECK(within(reference().pair->seconds, 0.1290, 0.15)); // DeepSeek profile-data, train.json
}

TEST_CASE("the published plan fits into 80 GB")
{
    CHECK(reference().fits);
    CHECK(reference().memory.stages.size() == 16);
}

TEST_CASE("the causes of the step add up to the step")
{
    double sum = 0;
    for (double const t : reference().causes.mean) sum += t;
    CHECK(sum == Approx(reference().projection.step_time_s.value).epsilon(1e-9));
}

TEST_CASE("closed form and simulation agree within 3 % on the reference case, where little contends")
{
    CHECK(within(reference().closed_form_step.value(), reference().projection.step_time_s.value, 0.03));
}

TEST_CASE("the same scenario gives the same numbers twice")
{
    auto const again = run(load_scenario(TRAINFARE_SOURCE_DIR "/scenarios/examples/deepseek-v3-h800.toml"));
    CHECK(again.projection.step_time_s.value == reference().projection.step_time_s.value);
    CHECK(again.projection.cost_usd.high == reference().projection.cost_usd.high);
}
