// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>

#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

std::vector<double> losses(SoloRun& run, StepConfig const& c, int steps, std::uint64_t first = 0)
{
    std::vector<double> out;
    for (int i = 0; i < steps; ++i)
        out.push_back(run.trainer.step(tokens_of(c, first + static_cast<std::uint64_t>(i))).loss);
    return out;
}

double mean_of_last(std::vector<double> const& v, std::size_t n)
{
    double sum = 0;
    for (std::size_t i = v.size() - n; i < v.size(); ++i) sum += v[i];
    return sum / static_cast<double>(n);
}

struct TemporaryFile {
    std::filesystem::path path;
    explicit TemporaryFile(std::string const& name) : path{std::filesystem::temp_directory_path() / name} { remove(); }
    ~TemporaryFile() { remove(); }
    TemporaryFile(TemporaryFile const&) = delete;
    TemporaryFile& operator=(TemporaryFile const&) = delete;
    void remove() const { std::filesystem::remove(path); }
};

} // namespace

TEST_CASE("the first loss is that of guessing, ln 64", "[step]")
{
    auto c = tiny_config();
    c.init_deviation = 0.006F;
    SoloRun run{c};
    auto const r = run.trainer.gradients(tokens_of(c));
    CHECK(r.loss == Approx(std::log(64)).epsilon(2e-2));
    REQUIRE(r.mtp_loss);
    CHECK(*r.mtp_loss == Approx(std::log(64)).epsilon(2e-2));
}

TEST_CASE("the loss falls below the unigram entropy towards the entropy rate", "[step][long]")
{
    auto c = tiny_config();
    c.seq_len = 32, c.micro_batch = 4;
    c.adam.lr = 1e-2F;
    SoloRun run{c};
    MarkovCorpus const corpus{64, 3, 7};
    auto const all = losses(run, c, 100);
    CAPTURE(all.front(), corpus.unigram_entropy(), corpus.entropy_rate(), mean_of_last(all, 10));
    CHECK(all.front() > corpus.unigram_entropy());
    CHECK(mean_of_last(all, 10) < corpus.unigram_entropy() - 1);
    CHECK(mean_of_last(all, 10) > corpus.entropy_rate() - 0.05);
}

TEST_CASE("a fixed batch is learnt by heart", "[step][long]")
{
    for (auto const& model : {tiny_model(), tiny_gqa_model()}) {
        auto c = tiny_config(model);
        c.adam.lr = 5e-3F;
        SoloRun run{c};
        auto const tokens = tokens_of(c);
        double loss = 0;
        for (int i = 0; i < 60; ++i) loss = run.trainer.step(tokens).loss;
        CHECK(loss < 0.05);
    }
}

TEST_CASE("training in fp8 follows training in bf16: losses of ten steps within 2%", "[step][long]")
{
    auto c = blocks_config();
    c.model.mtp.clear();
    c.adam.lr = 1e-3F;
    SoloRun bf16{c};
    c.precision = Precision::fp8_block;
    SoloRun fp8{c};
    auto const a = losses(bf16, c, 10), b = losses(fp8, c, 10);
    for (std::size_t i = 0; i < a.size(); ++i) {
        CAPTURE(i, a[i], b[i]);
        CHECK(b[i] == Approx(a[i]).epsilon(2e-2));
    }
    CHECK(b.back() < b.front() - 0.3);
}

TEST_CASE("the same seed gives the same losses and weights bit for bit, another seed others", "[step]")
{
    auto c = tiny_config();
    SoloRun a{c}, b{c};
    CHECK(losses(a, c, 3) == losses(b, c, 3));
    for (auto const& name : a.trainer.parameter_names()) REQUIRE(a.weight(name) == b.weight(name));
    c.seed = 2;
    SoloRun other{c};
    CHECK(losses(other, c, 1) != losses(a, c, 1));
}

TEST_CASE("splitting a batch into micro-batches changes gradients by rounding only", "[step]")
{
    auto c = tiny_config();
    c.micro_batch = 4;
    SoloRun whole{c};
    auto const tokens = tokens_of(c);
    auto const a = whole.trainer.gradients(tokens);
    c.micro_batch = 1, c.micro_batches = 4;
    SoloRun split{c};
    auto const b = split.trainer.gradients(tokens);
    CHECK(b.loss == Approx(a.loss).epsilon(1e-6));
    CHECK(*b.mtp_loss == Approx(*a.mtp_loss).epsilon(1e-6));
    for (auto const& name : whole.trainer.parameter_names()) {
        INFO(name);
        CHECK(relative_distance(split.gradient(name), whole.gradient(name)) < 1e-2); // bf16 sums in another order
    }
}

TEST_CASE("a recorded routing makes the same step again, and another back-end take the same choices", "[step]")
{
    auto c = tiny_config();
    c.micro_batches = 2;
    SoloRun live{c}, forced{c}, exact{c, true};
    auto const tokens = tokens_of(c);
    auto const a = live.trainer.step(tokens);
    auto const routing = live.trainer.last_routing();
    REQUIRE(routing.chosen.size() == 2);
    REQUIRE(routing.chosen[1].size() == 2);
    REQUIRE(routing.chosen[1][1].size() == 64);
    auto const b = forced.trainer.step(tokens, &routing);
    CHECK(a.loss == b.loss);
    CHECK(a.gradient_norm == b.gradient_norm);
    CHECK(forced.trainer.last_routing().chosen == routing.chosen);
    for (auto const& name : live.trainer.parameter_names()) REQUIRE(live.weight(name) == forced.weight(name));
    CHECK(live.trainer.step(tokens).loss == forced.trainer.step(tokens).loss); // the biases moved alike, too
    CHECK(exact.trainer.step(tokens, &routing).loss == Approx(a.loss).epsilon(5e-3));
    CHECK(exact.trainer.last_routing().chosen == routing.chosen);
}

TEST_CASE("a captured step replayed is the step, with new tokens each time", "[step]")
{
    auto c = tiny_config();
    c.micro_batches = 2;
    for (bool const overlap : {false, true}) {
        c.overlap = overlap;
        SoloRun direct{c}, replayed{c};
        auto const routing = make_routing(c, 0.3, 5);
        CHECK_THROWS_AS(replayed.trainer.capture(routing), InternalError);
        CHECK_THROWS_AS(replayed.trainer.replay(tokens_of(c)), InternalError);
        CHECK(direct.trainer.step(tokens_of(c, 0), &routing).loss ==
              replayed.trainer.step(tokens_of(c, 0), &routing).loss);
        replayed.trainer.capture(routing);
        for (std::uint64_t i = 1; i < 4; ++i) {
            auto const a = direct.trainer.step(tokens_of(c, i), &routing), b = replayed.trainer.replay(tokens_of(c, i));
            CHECK(a.loss == b.loss);
            CHECK(a.gradient_norm == b.gradient_norm);
        }
        auto const t = replayed.trainer.last_times();
        CHECK(t.passes > 0);
        CHECK(t.update > 0);
    }
}

TEST_CASE("a restored run goes on bit for bit", "[step]")
{
    TemporaryFile const file{"trainfare_step_restore.bin"};
    auto c = tiny_config();
    c.moments = Element::bf16;
    SoloRun first{c};
    losses(first, c, 3);
    first.trainer.save(file.path);
    CHECK(!std::filesystem::exists(file.path.string() + ".tmp"));
    SoloRun second{c};
    second.trainer.restore(file.path);
    CHECK(losses(first, c, 3, 3) == losses(second, c, 3, 3));
    for (auto const& name : first.trainer.parameter_names()) REQUIRE(first.weight(name) == second.weight(name));
}

TEST_CASE("a rank that plays four of an expert-parallel group holds a quarter of the experts and works on all rows",
          "[step]")
{
    auto c = tiny_config();
    SoloRun whole{c};
    c.emulated_ep = 4;
    SoloRun part{c};
    auto const names = part.trainer.parameter_names();
    auto const has = [&](char const* name) { return std::find(names.begin(), names.end(), name) != names.end(); };
    CHECK(has("layers.1.experts.1.up"));
    CHECK(!has("layers.1.experts.2.up"));
    double const expert = 3.0 * 64 * 32; // two MoE layers lose 6 of 8 experts each
    CHECK(part.trainer.parameters() == whole.trainer.parameters() - 2 * 6 * expert);
    CHECK(losses(part, c, 2).back() < losses(whole, c, 1).front());
    auto const routing = part.trainer.last_routing();
    auto const& chosen = routing.chosen[0][0];
    CHECK(*std::max_element(chosen.begin(), chosen.end()) > 1); // the gate still sees all eight
}

TEST_CASE("tokens that are no batch of this step are refused", "[step]")
{
    auto const c = tiny_config();
    SoloRun run{c};
    auto tokens = tokens_of(c);
    tokens[5] = 64;
    CHECK_THROWS_WITH(run.trainer.step(tokens), Catch::Matchers::Contains("token 64 at place 5"));
    tokens[5] = -1;
    CHECK_THROWS_AS(run.trainer.step(tokens), InputError);
    tokens.pop_back();
    CHECK_THROWS_WITH(run.trainer.step(tokens), Catch::Matchers::Contains("36 tokens, not 35"));
}

TEST_CASE("biases move against the load until experts are used evenly", "[step]")
{
    auto c = tiny_config();
    c.model.mtp.clear();
    c.micro_batch = 4, c.adam.lr = 0, c.balance_rate = 0.02F;
    auto worst_load = [&](SoloRun& run) {
        std::vector<int> n(8);
        auto const routing = run.trainer.last_routing();
        for (auto const e : routing.chosen[0][0]) ++n[static_cast<std::size_t>(e)];
        return *std::max_element(n.begin(), n.end());
    };
    SoloRun run{c};
    auto const tokens = tokens_of(c);
    run.trainer.step(tokens);
    auto const before = worst_load(run);
    for (int i = 0; i < 40; ++i) run.trainer.step(tokens);
    CAPTURE(before, worst_load(run));
    CHECK(worst_load(run) < before);
    CHECK(worst_load(run) <= 24); // 128 choices over 8 experts: 16 each
}
