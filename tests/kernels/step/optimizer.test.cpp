// SPDX-License-Identifier: Apache-2.0
//
// One global batch, worked on by one rank or shared among four in different ways: the same losses, gradient norms and
// weights.
#include <mutex>

#include "tests/catch.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

struct Outcome {
    std::vector<double> losses; // mean over ranks, per step
    std::vector<double> norms;
    std::vector<double> router; // of the MoE layer, after the steps
    std::vector<double> expert; // number 5's up-projection
};

constexpr int steps = 3;

/// @p c.micro_batches are those of all ranks together; they take them in turn.
Outcome train(StepConfig c, int ranks, bool reference = true)
{
    auto const all = c.micro_batches;
    auto whole = c;
    c.micro_batches = all / ranks;
    Outcome out;
    out.losses.assign(steps, 0), out.norms.assign(steps, 0);
    std::vector<std::vector<double>> losses(static_cast<std::size_t>(ranks)); // added in the order of ranks
    std::mutex mutex;
    auto body = [&](Backend& backend, Communicator& world) {
        Trainer trainer{backend, world, c};
        for (int s = 0; s < steps; ++s) {
            auto const tokens = tokens_of(whole, static_cast<std::uint64_t>(s));
            auto const each = tokens.size() / static_cast<std::size_t>(ranks);
            auto const rank = static_cast<std::size_t>(world.rank());
            auto const r = trainer.step(std::span{tokens}.subspan(rank * each, each));
            std::lock_guard const lock{mutex};
            losses[rank].push_back(r.loss);
            out.norms[static_cast<std::size_t>(s)] = r.gradient_norm;
        }
        auto const names = trainer.parameter_names();
        std::string const expert = "layers.1.experts.5.up";
        std::lock_guard const lock{mutex};
        out.router = backend.download(trainer.weight("layers.1.router"));
        if (std::find(names.begin(), names.end(), expert) != names.end())
            out.expert = backend.download(trainer.weight(expert));
    };
    run_ranks(
        ranks, [&] { return make_host_backend(reference); }, body);
    for (auto const& mine : losses)
        for (std::size_t s = 0; s < steps; ++s) out.losses[s] += mine[s] / ranks;
    return out;
}

void compare(Outcome const& a, Outcome const& b, double bound)
{
    REQUIRE(!a.expert.empty());
    for (int s = 0; s < steps; ++s) {
        auto const i = static_cast<std::size_t>(s);
        CAPTURE(s, a.losses[i], b.losses[i], a.norms[i], b.norms[i]);
        CHECK(std::abs(a.losses[i] - b.losses[i]) <= bound * b.losses[i]);
        CHECK(std::abs(a.norms[i] - b.norms[i]) <= bound * b.norms[i]);
    }
    CHECK(relative_distance(a.router, b.router) <= bound);
    CHECK(relative_distance(a.expert, b.expert) <= bound);
}

StepConfig four_micro_batches()
{
    auto c = tiny_config();
    c.micro_batch = 1, c.micro_batches = 4;
    return c;
}

} // namespace

TEST_CASE("four ranks in any arrangement of experts and shards train like one", "[step]")
{
    auto c = four_micro_batches();
    auto const one = train(c, 1);
    for (int const ep : {1, 2, 4})
        for (bool const zero1 : {false, true}) {
            CAPTURE(ep, zero1);
            c.ep = ep, c.zero1 = zero1;
            compare(train(c, 4), one, 1e-9); // double: sums in another order
        }
}

TEST_CASE("with rounding, four ranks that share experts and shard states stay within 1% of one", "[step]")
{
    auto c = four_micro_batches();
    auto const one = train(c, 1, false);
    c.ep = 4, c.zero1 = true;
    compare(train(c, 4, false), one, 1e-2);
}

TEST_CASE("overlapping exchanges and reductions changes no bit", "[step]")
{
    auto c = four_micro_batches();
    c.micro_batches = 12; // three of each rank: a pair and one alone
    for (bool const zero1 : {false, true}) {
        c.ep = 2, c.zero1 = zero1;
        c.overlap = false;
        auto const plain = train(c, 4, false);
        c.overlap = true;
        compare(train(c, 4, false), plain, 0);
    }
}

TEST_CASE("fp8 rows arrive with their scales: four ranks that share experts stay near one", "[step][long]")
{
    auto c = blocks_config();
    c.precision = Precision::fp8_block, c.micro_batch = 2, c.micro_batches = 2;
    auto const one = train(c, 1, false);
    c.ep = 2;
    compare(train(c, 2, false), one, 2e-2);
}

TEST_CASE("clipping limits the step but not the reported norm", "[step]")
{
    auto c = tiny_config();
    c.adam.weight_decay = 0, c.adam.eps = 1; // eps this large makes the step proportional to the gradient
    auto const tokens = tokens_of(c);
    auto moved = [&](float clip, double& norm) {
        c.clip = clip;
        SoloRun run{c, true};
        auto const before = run.weight("layers.1.ffn_norm");
        norm = run.trainer.step(tokens).gradient_norm;
        auto change = run.weight("layers.1.ffn_norm");
        for (std::size_t i = 0; i < change.size(); ++i) change[i] -= before[i];
        return change;
    };
    double norm = 0, same = 0;
    auto free = moved(0, norm);
    auto const clipped = moved(1e-4F, same);
    CHECK(norm == same);
    REQUIRE(norm > 1e-3);
    // Adam's first step is g / (|g| + eps) up to eps: with |g| << 1, clipping by a factor shrinks it by that factor.
    for (auto& x : free) x *= 1e-4 / norm;
    CHECK(relative_distance(clipped, free) < 5e-2);
}
