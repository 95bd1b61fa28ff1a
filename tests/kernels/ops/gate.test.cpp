// SPDX-License-Identifier: Apache-2.0
//
// The router: which experts it must choose, what weights they get, the derivative, and what broken numbers may not do.
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

using Score = Gate::Score;
using Ints = std::vector<std::int32_t>;

Gate make_gate(Score score, int experts, int top_k, int groups = 1, int top_groups = 1)
{
    Gate gate;
    gate.score = score, gate.experts = experts, gate.top_k = top_k;
    gate.groups = groups, gate.top_groups = top_groups, gate.scale = 2.5F;
    return gate;
}

struct Routed {
    Ints chosen, counts;
    Values weights;
};

Routed route(Backend& on, Gate const& gate, Values const& logits, Values const& bias = {}, Ints const& forced = {})
{
    auto const tokens = static_cast<std::int64_t>(logits.size()) / gate.experts;
    Tensor const chosen = poisoned(on, Element::i32, tokens, gate.top_k),
                 counts = poisoned(on, Element::i32, 1, gate.experts);
    Tensor const weights = poisoned(on, Element::f32, tokens, gate.top_k);
    on.gate(gate, tensor(on, Element::f32, tokens, gate.experts, logits),
            bias.empty() ? Tensor{} : tensor(on, Element::f32, 1, gate.experts, bias),
            forced.empty() ? Tensor{} : tensor(on, tokens, gate.top_k, forced), chosen, weights, counts);
    return {on.download_ints(chosen), on.download_ints(counts), on.download(weights)};
}

Values slopes(Backend& on, Gate const& gate, Values const& logits, Ints const& chosen, Values const& d_weights)
{
    auto const tokens = static_cast<std::int64_t>(logits.size()) / gate.experts;
    Tensor const d_logits = poisoned(on, Element::bf16, tokens, gate.experts);
    on.gate_backward(gate, tensor(on, Element::f32, tokens, gate.experts, logits),
                     tensor(on, tokens, gate.top_k, chosen), tensor(on, Element::f32, tokens, gate.top_k, d_weights),
                     d_logits);
    return on.download(d_logits);
}

/// k different experts a token, in few enough groups, and counts that say so.
void check_choice(Gate const& gate, Routed const& out)
{
    auto const k = static_cast<std::size_t>(gate.top_k);
    Ints counts(static_cast<std::size_t>(gate.experts), 0);
    for (std::size_t t = 0; t < out.chosen.size(); t += k) {
        std::set<int> experts, groups;
        for (std::size_t j = t; j < t + k; ++j) {
            REQUIRE((out.chosen[j] >= 0 && out.chosen[j] < gate.experts));
            experts.insert(out.chosen[j]);
            groups.insert(out.chosen[j] / (gate.experts / gate.groups));
            ++counts[static_cast<std::size_t>(out.chosen[j])];
        }
        CHECK(experts.size() == k);
        CHECK(groups.size() <= static_cast<std::size_t>(gate.top_groups));
    }
    CHECK(out.counts == counts);
}

std::vector<Gate> all_gates()
{
    std::vector<Gate> out;
    for (auto score : {Score::sigmoid, Score::softmax})
        for (bool normalise : {true, false})
            for (auto [experts, k, groups, top] :
                 {std::array{256, 8, 8, 4}, std::array{512, 16, 32, 5}, std::array{7, 3, 1, 1},
                  std::array{40, 4, 20, 7}, std::array{32, 6, 32, 6}, std::array{1, 1, 1, 1},
                  std::array{96, 5, 3, 3}}) {
                out.push_back(make_gate(score, experts, k, groups, top));
                out.back().normalise = normalise;
            }
    return out;
}

} // namespace

TEST_CASE("a token goes to exactly k experts in at most top_groups groups, and counts say how many came", "[sanitize]")
{
    for (auto const& gate : all_gates()) {
        CAPTURE(gate.experts, gate.top_k, gate.groups, gate.normalise);
        auto const logits = numbers(13L * gate.experts, 1), bias = numbers(gate.experts, 2, 0.1);
        auto const expected = route(*reference(), gate, logits, bias);
        check_choice(gate, expected);
        on_every_backend([&](Backend& on) {
            auto const out = route(on, gate, logits, bias);
            check_choice(gate, out);
            CHECK(out.chosen == expected.chosen);
            CHECK(distance(out.weights, expected.weights) < 1e-5);
        });
    }
}

TEST_CASE("groups are ranked by their two best biased scores, and the bias chooses without weighing")
{
    // Two groups of three. Alone, expert 0 is the best; its group's two best (0.9 + 0.1) lose to the other's (0.8 +
    // 0.7).
    auto const logit = [](double score) { return rounded_to_bf16(std::log(score / (1 - score))); };
    Values const logits{logit(0.9), logit(0.1), logit(0.05), logit(0.8), logit(0.7), logit(0.2)};
    auto const gate = make_gate(Score::sigmoid, 6, 2, 2, 1);
    auto const score = [&](std::size_t e) { return 1 / (1 + std::exp(-logits[e])); };
    on_every_backend([&](Backend& on) {
        auto const out = route(on, gate, logits);
        CHECK(out.chosen == Ints{3, 4});
        CHECK(out.weights[0] == Approx(2.5 * score(3) / (score(3) + score(4))));
        auto const biased =
            route(on, gate, logits, {0, 0, 0, 0, -1, 0}); // now 0.8 + 0.2 and 0.9 + 0.1: equal but for rounding
        CHECK(std::set<int>(biased.chosen.begin(), biased.chosen.end()).count(4) == 0);
        auto const pushed = route(on, gate, logits, {0, 0, 1, 0, 0, 0});
        CHECK(pushed.chosen == Ints{2, 0});
        CHECK(pushed.weights[1] == Approx(2.5 * score(0) / (score(0) + score(2)))); // the bias is not in the weights
    });
}

TEST_CASE("of equal scores the lower index is chosen")
{
    for (auto score : {Score::sigmoid, Score::softmax})
        on_every_backend([&](Backend& on) {
            CHECK(route(on, make_gate(score, 100, 5), Values(100, 0.25)).chosen == Ints{0, 1, 2, 3, 4});
            auto const grouped = route(on, make_gate(score, 64, 4, 8, 2), Values(64, 0.25)); // groups 0 and 1
            CHECK(grouped.chosen == Ints{0, 1, 2, 3});
            Values some(64, 0);
            some[63] = some[40] = some[5] = 1;
            CHECK(route(on, make_gate(score, 64, 4), some).chosen == Ints{5, 40, 63, 0});
        });
}

TEST_CASE("normalised weights of a token sum to the scale; others are scores times the scale")
{
    for (auto const& gate : all_gates())
        on_every_backend([&](Backend& on) {
            auto const logits = numbers(3L * gate.experts, 4);
            auto const out = route(on, gate, logits);
            auto const k = static_cast<std::size_t>(gate.top_k), experts = static_cast<std::size_t>(gate.experts);
            for (std::size_t t = 0; t < 3; ++t) {
                double sum = 0, all = 0;
                for (std::size_t e = 0; e < experts; ++e) all += std::exp(logits[t * experts + e]);
                for (std::size_t j = t * k; j < (t + 1) * k; ++j) {
                    double const x = logits[t * experts + static_cast<std::size_t>(out.chosen[j])];
                    double const score = gate.score == Score::sigmoid ? 1 / (1 + std::exp(-x)) : std::exp(x) / all;
                    sum += gate.normalise ? out.weights[j] : out.weights[j] - 2.5 * score;
                }
                CHECK(sum == Approx(gate.normalise ? 2.5 : 0).margin(1e-5));
            }
        });
}

TEST_CASE("forced experts get the weights that their scores deserve")
{
    auto const gate = make_gate(Score::sigmoid, 256, 8, 8, 4);
    auto const logits = numbers(5 * 256, 5);
    Ints forced;
    for (int i = 0; i < 5 * 8; ++i) forced.push_back((i * 37 + i / 8) % 256); // any groups: nothing is chosen
    auto const expected = route(*reference(), gate, logits, {}, forced);
    CHECK(expected.chosen == forced);
    on_every_backend([&](Backend& on) {
        auto const out = route(on, gate, logits, {}, forced);
        CHECK(out.chosen == forced);
        CHECK(out.counts == expected.counts);
        CHECK(distance(out.weights, expected.weights) < 1e-5);
        auto const own = route(on, gate, logits);
        CHECK(route(on, gate, logits, {}, own.chosen).weights == own.weights);
    });
}

TEST_CASE("the gate's gradient is the slope of its weights")
{
    for (auto const& gate : all_gates()) {
        if (gate.experts > 100) continue; // slopes cost two forwards an element
        CAPTURE(gate.experts, gate.normalise, gate.score == Score::softmax);
        std::int64_t const tokens = 3;
        auto const logits = numbers(tokens * gate.experts, 6), d_weights = numbers(tokens * gate.top_k, 7);
        auto const ref = reference();
        auto const chosen = route(*ref, gate, logits).chosen;
        auto const expected =
            gradient([&](Values const& x) { return dot(route(*ref, gate, x, {}, chosen).weights, d_weights); }, logits);
        auto const exact = slopes(*ref, gate, logits, chosen, d_weights);
        if (gate.experts == 1 &&
            (gate.normalise || gate.score == Score::softmax)) { // the weight is the scale, whatever the logit
            CHECK(distance(exact, Values(exact.size(), 0)) < 1e-9);
            continue;
        }
        CHECK(distance(exact, expected) < 1e-6);
        on_every_backend(
            [&](Backend& on) { CHECK(distance(slopes(on, gate, logits, chosen, d_weights), exact) < 1e-2); });
    }
}

TEST_CASE("the gradient of DeepSeek-V3's gate is alike on every back-end", "[sanitize]")
{
    for (auto score : {Score::sigmoid, Score::softmax}) {
        auto const gate = make_gate(score, 256, 8, 8, 4);
        auto const logits = numbers(9 * 256, 8), d_weights = numbers(9 * 8, 9);
        auto const chosen = route(*reference(), gate, logits).chosen;
        auto const expected = slopes(*reference(), gate, logits, chosen, d_weights);
        on_every_backend(
            [&](Backend& on) { CHECK(distance(slopes(on, gate, logits, chosen, d_weights), expected) < 1e-2); });
    }
}

TEST_CASE("broken or extreme logits choose k different experts all the same")
{
    double const nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
    for (auto score : {Score::sigmoid, Score::softmax})
        for (auto const& gate : {make_gate(score, 64, 4, 8, 2), make_gate(score, 20, 6)})
            for (double bad : {nan, inf, -inf, 1e30, -1e30}) {
                auto const experts = static_cast<std::size_t>(gate.experts);
                Values logits(3 * experts, bad), bias(experts, 0.5);
                for (std::size_t i = experts; i < 2 * experts; ++i) logits[i] = 0.125;
                logits[experts + 3] = bad;
                bias[7] = bad;
                on_every_backend([&](Backend& on) {
                    check_choice(gate, route(on, gate, logits));
                    check_choice(gate, route(on, gate, logits, bias));
                });
            }
}

TEST_CASE("scores that all underflow weigh nothing instead of making NaN")
{
    on_every_backend([](Backend& on) {
        auto const gate = make_gate(Score::sigmoid, 8, 2);
        CHECK(route(on, gate, Values(8, -1000)).weights == Values{0, 0});
        CHECK(slopes(on, gate, Values(8, -1000), {0, 1}, {1, -1}) == Values(8, 0));
    });
}

TEST_CASE("the bias moves against the load, by the sign of the difference alone", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        Tensor const bias = tensor(on, Element::f32, 1, 4, {1, 1, 1, 1});
        on.balance(bias, tensor(on, 1, 4, {10, 0, 5, 5}), 0.25F); // mean 5
        CHECK(on.download(bias) == Values{0.75, 1.25, 1, 1});
        Tensor const many = tensor(on, Element::f32, 1, 300, Values(300, 0));
        Ints loads(300, 1);
        loads[299] = 2; // mean 1 + 1/300: all others are below it
        on.balance(many, tensor(on, 1, 300, loads), 1);
        Values expected(300, 1);
        expected[299] = -1;
        CHECK(on.download(many) == expected);
    });
}

TEST_CASE("a gate without tokens counts nothing")
{
    on_every_backend([](Backend& on) {
        auto const gate = make_gate(Score::sigmoid, 8, 2);
        CHECK(route(on, gate, {}).counts == Ints(8, 0));
        CHECK(slopes(on, gate, {}, {}, {}).empty());
    });
}

TEST_CASE("a gate refuses shapes that cannot be")
{
    on_every_backend([](Backend& on) {
        for (auto const& gate :
             {make_gate(Score::sigmoid, 513, 2), make_gate(Score::sigmoid, 64, 17), make_gate(Score::sigmoid, 4, 5),
              make_gate(Score::sigmoid, 64, 4, 7, 2), make_gate(Score::sigmoid, 64, 4, 64, 8),
              make_gate(Score::sigmoid, 64, 9, 8, 1), make_gate(Score::sigmoid, 64, 4, 8, 9)})
            CHECK_THROWS_AS(route(on, gate, Values(static_cast<std::size_t>(gate.experts), 0)),
                            trainfare::InternalError);
    });
}
