// SPDX-License-Identifier: Apache-2.0
//
// The whole step on the GPU's kernels, beside the CPU: twenty steps of training. In test_kernels_emulated the small kernels are the
// real ones, run on the CPU, and products and attention are the CPU's.
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

struct Trace {
    std::vector<StepResult> steps;
    std::vector<Routing> routing;
};

/// @param forced  experts of each step; absent: the gate chooses
Trace train(Backend& on, StepConfig const& c, int steps, std::vector<Routing> const* forced = nullptr)
{
    auto const world = make_solo_communicator(on);
    Trainer trainer{on, *world, c};
    Trace out;
    for (int i = 0; i < steps; ++i) {
        auto const step = static_cast<std::uint64_t>(i);
        out.steps.push_back(trainer.step(tokens_of(c, step), forced ? &(*forced)[step] : nullptr));
        out.routing.push_back(trainer.last_routing());
    }
    return out;
}

/// Runs part slowly: a rounding that differs grows from step to step, as it would between two GPUs. So the bound of ten steps is
/// @p bound, and that of all of them five times as wide.
void compare(StepConfig const& c, int steps, double bound)
{
    auto const cuda = test::cuda_or_warning();
    if (!cuda) return;
    auto const cpu = make_host_backend(false);
    auto const expected = train(*cpu, c, steps);
    test::on_gpu(*cuda, [&](Backend& on) {
        auto const got = train(on, c, steps, &expected.routing); // equal choices: a near tie must not look like an error
        for (std::size_t i = 0; i < got.steps.size(); ++i) {
            CAPTURE(i);
            CHECK(got.steps[i].loss == Approx(expected.steps[i].loss).epsilon(i < 10 ? bound : 5 * bound));
            if (i < 10)
                CHECK(got.steps[i].gradient_norm == Approx(expected.steps[i].gradient_norm).epsilon(10 * bound));
        }
        CHECK(got.steps.back().loss < got.steps.front().loss);
    });
}

} // namespace

TEST_CASE("twenty steps on the GPU follow twenty steps on the CPU", "[step]")
{
    compare(blocks_config(), 20, 1e-2);
}

TEST_CASE("so they do with grouped-query attention, micro-batches and overlap", "[step]")
{
    auto c = tiny_config(tiny_gqa_model());
    c.score = Gate::Score::softmax;
    c.micro_batches = 3, c.overlap = true;
    compare(c, 5, 1e-2);
}

TEST_CASE("so they do in fp8 with block scales", "[step]")
{
    auto c = blocks_config();
    c.precision = Precision::fp8_block;
    compare(c, 5, 2e-2);
}

TEST_CASE("a captured step on the GPU gives the same bits as the step itself", "[step][sanitize][library]")
{
    auto const cuda = test::cuda_or_warning();
    if (!cuda) return;
    for (auto const precision : {Precision::bf16, Precision::fp8_block}) {
        auto c = blocks_config();
        c.precision = precision, c.micro_batches = 2, c.overlap = true;
        test::on_gpu(*cuda, [&](Backend& on) {
            auto const routing = make_routing(c, 0.5, 1);
            auto const world = make_solo_communicator(on);
            Trainer step{on, *world, c}, graph{on, *world, c};
            CHECK(step.step(tokens_of(c, 0), &routing).loss == graph.step(tokens_of(c, 0), &routing).loss);
            graph.capture(routing);
            for (std::uint64_t i = 1; i < 4; ++i)
                CHECK(step.step(tokens_of(c, i), &routing).loss == graph.replay(tokens_of(c, i)).loss);
        });
    }
}
