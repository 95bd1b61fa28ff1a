// SPDX-License-Identifier: Apache-2.0
//
// The model's gradients against central differences of its loss, in double, and the back-end that rounds against the
// one that does not. Experts are forced throughout: a choice that flips with a small change has no derivative.
#include <cstring>
#include <map>

#include <fmt/format.h>

#include "tests/catch.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

/// What is differentiated: the loss with all its parts.
double objective(StepConfig const& c, StepResult const& r) { return r.loss + c.mtp_weight * r.mtp_loss.value_or(0); }

/// Largest deviation of any parameter's gradient from central differences, at its entries of largest and of
/// median size and one more, relative to its largest.
double worst_gradient(StepConfig const& c, std::string& where)
{
    SoloRun run{c, true};
    auto const tokens = tokens_of(c);
    auto const routing = make_routing(c, 0.4, 9);
    run.trainer.gradients(tokens, &routing);
    std::map<std::string, std::vector<double>> gradients;
    for (auto const& name : run.trainer.parameter_names()) gradients[name] = run.gradient(name);

    double worst = 0;
    for (auto const& [name, gradient] : gradients) {
        auto const weight = run.trainer.weight(name);
        auto const before = run.weight(name);
        std::vector<std::size_t> order(gradient.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::sort(order.begin(), order.end(),
                  [&](auto a, auto b) { return std::abs(gradient[a]) > std::abs(gradient[b]); });
        double const scale = std::abs(gradient[order[0]]);
        for (auto const entry : {order[0], order[order.size() / 2], std::size_t{1}}) {
            auto at = [&](double shift) {
                auto moved = before;
                moved[entry] += shift;
                run.backend->upload_bytes(weight, std::as_bytes(std::span{moved}));
                return objective(c, run.trainer.gradients(tokens, &routing));
            };
            double const e = 1e-4;
            double const slope = (at(e) - at(-e)) / (2 * e);
            run.backend->upload_bytes(weight, std::as_bytes(std::span{before}));
            double const error = std::abs(slope - gradient[entry]) / std::max(scale, 1e-12);
            if (error > worst)
                worst = error, where = fmt::format("{}[{}]: {} instead of {}", name, entry, gradient[entry], slope);
        }
    }
    return worst;
}

StepConfig small_for_slopes(Architecture model)
{
    auto c = tiny_config(model);
    c.seq_len = 8, c.micro_batch = 1;
    c.init_deviation = 0.2F;
    return c;
}

} // namespace

TEST_CASE("every gradient of a model with latent attention, experts and MTP is the slope of the loss", "[step][long]")
{
    auto c = small_for_slopes(tiny_model());
    std::string where;
    double const worst = worst_gradient(c, where);
    INFO(where);
    CHECK(worst < 1e-6);
}

TEST_CASE("so it is without q_rank, with two MTP modules, tied embeddings and rows that travel", "[step][long]")
{
    auto model = tiny_model();
    model.layers = {model.layers[1]};
    model.layers[0].attention = latent_attention(64, 4, 16, {{}, 32, 16, 8});
    model.mtp = mtp_modules(model, 2);
    model.tied_embeddings = true;
    auto c = small_for_slopes(model);
    c.emulated_ep = 2;
    std::string where;
    double const worst = worst_gradient(c, where);
    INFO(where);
    CHECK(worst < 1e-6);
}

TEST_CASE("so it is with grouped-query attention and softmax scores", "[step][long]")
{
    auto c = small_for_slopes(tiny_gqa_model());
    c.score = Gate::Score::softmax, c.gate_scale = 1;
    std::string where;
    double worst = worst_gradient(c, where);
    INFO(where);
    CHECK(worst < 1e-6);
    c.normalise_gate = false;
    worst = worst_gradient(c, where);
    INFO(where);
    CHECK(worst < 1e-6);
}

TEST_CASE("rounding to bf16 moves the loss by less than 0.5% and each gradient by less than 5%", "[step]")
{
    for (auto const& model : {tiny_model(), tiny_gqa_model()}) {
        auto const c = tiny_config(model);
        auto const tokens = tokens_of(c);
        auto const routing = make_routing(c, 0.4, 9);
        SoloRun exact{c, true}, rounded{c};
        auto const a = exact.trainer.gradients(tokens, &routing), b = rounded.trainer.gradients(tokens, &routing);
        CHECK(b.loss == Approx(a.loss).epsilon(5e-3));
        CHECK(b.gradient_norm == Approx(a.gradient_norm).epsilon(2e-2));
        for (auto const& name : exact.trainer.parameter_names()) {
            INFO(name);
            CHECK(relative_distance(rounded.gradient(name), exact.gradient(name)) < 5e-2);
        }
    }
}

namespace {

/// Distance of each gradient in fp8_block from that in bf16, the largest; checks that padding has no gradient.
double fp8_distance(bool reference, int emulated_ep, StepResult& bf16_result, StepResult& fp8_result,
                    std::string& where)
{
    auto c = blocks_config();
    c.emulated_ep = emulated_ep;
    auto const tokens = tokens_of(c);
    auto const routing = make_routing(c, 0.4, 9);
    SoloRun bf16{c, reference};
    c.precision = Precision::fp8_block;
    SoloRun fp8{c, reference};
    bf16_result = bf16.trainer.gradients(tokens, &routing), fp8_result = fp8.trainer.gradients(tokens, &routing);
    double worst = 0;
    for (auto const& name : bf16.trainer.parameter_names()) {
        auto exact = bf16.gradient(name);
        auto const rounded = fp8.gradient(name);
        for (std::size_t i = exact.size(); i < rounded.size(); ++i)
            REQUIRE(rounded[i] == 0); // fused projections are padded
        exact.resize(rounded.size());
        double const distance = relative_distance(rounded, exact);
        if (distance > worst) worst = distance, where = name;
    }
    return worst;
}

} // namespace

TEST_CASE("in double, where nothing is rounded, fp8 in blocks is the same step", "[step][long]")
{
    for (int const emulated_ep : {1, 4}) {
        StepResult bf16, fp8;
        std::string where;
        double const worst = fp8_distance(true, emulated_ep, bf16, fp8, where);
        CAPTURE(where, emulated_ep);
        CHECK(worst < 1e-10);
        CHECK(fp8.loss == Approx(bf16.loss).epsilon(1e-12));
    }
}

TEST_CASE("rounded to fp8 in blocks, the loss stays within 1% and each gradient within 40% of bf16", "[step]")
{
    StepResult bf16, fp8;
    std::string where;
    double const worst = fp8_distance(false, 1, bf16, fp8, where);
    CAPTURE(where);
    CHECK(worst <
          0.4); // 13 times what bf16 loses, everywhere: e4m3 has 3 bits where bf16 has 7; the router sees differences
    CHECK(fp8.loss == Approx(bf16.loss).epsilon(1e-2));
    CHECK(fp8.gradient_norm == Approx(bf16.gradient_norm).epsilon(5e-2));
}

TEST_CASE("first weights depend on the name alone: a padded or sharded model starts like any other", "[step]")
{
    auto c = blocks_config();
    SoloRun bf16{c};
    c.precision = Precision::fp8_block;
    SoloRun fp8{c};
    auto const a = bf16.weight("layers.1.attention.q_a_kv_a");
    auto b = fp8.weight("layers.1.attention.q_a_kv_a");
    REQUIRE(b.size() > a.size()); // 288 -> 384 rows
    b.resize(a.size());
    CHECK(a == b);
    CHECK(bf16.weight("layers.1.experts.3.up") == fp8.weight("layers.1.experts.3.up"));
    CHECK(bf16.weight("layers.1.experts.3.up") != fp8.weight("layers.1.experts.4.up"));
    CHECK(bf16.weight("layers.1.ffn_norm") == std::vector<double>(128, 1.0));
}
