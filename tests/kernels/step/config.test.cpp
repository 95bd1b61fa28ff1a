// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "kernels/step/config.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

/// The only complaint, or all of them when there are not exactly one.
std::string only_reason(StepConfig const& c, int ranks = 1)
{
    std::string all;
    auto const reasons = check(c, ranks);
    for (auto const& r : reasons) all += (all.empty() ? "" : "\n") + r;
    return reasons.size() == 1 ? all : "[" + std::to_string(reasons.size()) + "] " + all;
}

Architecture deepseek_v3()
{
    Experts experts;
    experts.count = 256, experts.top_k = 8, experts.width = experts.shared_width = 2048;
    experts.groups = 8, experts.top_groups = 4;
    Architecture m;
    m.hidden = 7168, m.vocab = 129280, m.other_parameters = 7168;
    auto const attention = latent_attention(7168, 128, 128, {1536, 512, 128, 64});
    MoeOptions options;
    options.router_bias = true;
    m.layers = {{attention, dense_ffn(7168, 18432), 2 * 7168.0},
                {attention, moe_ffn(7168, experts, options), 2 * 7168.0}};
    m.mtp = mtp_modules(m, 1);
    return m;
}

} // namespace

TEST_CASE("the tiny models and DeepSeek-V3's layers can run, in fp8 and on 64 ranks too", "[step]")
{
    CHECK(check(tiny_config(), 1).empty());
    CHECK(check(tiny_config(tiny_gqa_model()), 1).empty());
    auto c = tiny_config(deepseek_v3());
    c.seq_len = 4096, c.precision = Precision::fp8_block;
    CHECK(check(c, 1).empty());
    c.ep = 32;
    CHECK(check(c, 64).empty());
    c.ep = 1, c.emulated_ep = 64;
    CHECK(check(c, 1).empty());
}

TEST_CASE("the parameters of the step are those that the model counts", "[step]")
{
    for (auto const& model : {tiny_model(), tiny_gqa_model()}) {
        auto const n = count_parameters(model);
        CHECK(SoloRun{tiny_config(model)}.trainer.parameters() == n.total + n.mtp);
    }
}

TEST_CASE("what the step cannot run is refused with a reason", "[step]")
{
    using Catch::Matchers::Contains;
    auto const base = tiny_config(tiny_gqa_model());
    auto with = [&](auto change) {
        auto c = base;
        change(c);
        return only_reason(c);
    };
    CHECK_THAT(with([](auto& c) { c.model.layers[0].attention.window = 128; }),
               Contains("layer 0") && Contains("window"));
    CHECK_THAT(with([](auto& c) {
                   c.model.layers[1].attention = lightning_attention({64, 4, 4, 16});
               }),
               Contains("lightning"));
    CHECK_THAT(with([](auto& c) {
                   c.model.layers[1].attention = gated_delta_net(64, {2, 4, 16, 16, 4});
               }),
               Contains("delta"));
    CHECK_THAT(with([](auto& c) { c.model.layers[1].attention.sparse_top_k = 4; }), Contains("indexer"));
    CHECK_THAT(with([](auto& c) {
                   c.model.layers[1].attention = softmax_attention({64, 4, 2, 16}, {true, false});
               }),
               Contains("biases"));
    CHECK_THAT(with([](auto& c) { c.model.layers[0].ffn = dense_ffn(64, 128, false); }), Contains("SwiGLU"));
    CHECK_THAT(with([](auto& c) { c.model.layers.clear(); }), Contains("no layers"));
    CHECK_THAT(with([](auto& c) { c.model.max_positions = 1024; }), Contains("rotary"));
    CHECK_THAT(with([](auto& c) { c.model.vocab = 63; }), Contains("vocab is 63, no multiple of 8"));
    CHECK_THAT(with([](auto& c) { c.ep = 2; }), Contains("ep = 2 does not divide 1 ranks"));
    CHECK_THAT(with([](auto& c) { c.emulated_ep = 3; }), Contains("8 experts do not divide over emulated_ep = 3"));
    CHECK_THAT(with([](auto& c) { c.precision = Precision::mxfp8; }), Contains("mxfp8"));
    CHECK_THAT(with([](auto& c) { c.moments = Element::e4m3; }), Contains("moments"));
    CHECK_THAT(with([](auto& c) { c.seq_len = 0; }), Contains("seq_len is 0"));
    CHECK_THAT(with([](auto& c) { c.micro_batch = 1 << 24; }), Contains("too large"));
    CHECK_THAT(with([](auto& c) { c.adam.lr = std::numeric_limits<float>::quiet_NaN(); }), Contains("learning rate"));
    CHECK_THAT(with([](auto& c) { c.adam.beta2 = 1; }), Contains("beta2"));
    CHECK_THAT(with([](auto& c) { c.model.layers[1].ffn.experts->groups = 8; }), Contains("cannot be chosen"));
    CHECK_THAT(with([](auto& c) { c.norm_eps = 0; }), Contains("norm_eps"));
    auto both = base;
    both.ep = both.emulated_ep = 2;
    CHECK_THAT(only_reason(both, 2), Contains("choose one"));
}

TEST_CASE("fp8 needs widths of whole blocks and says which is not", "[step]")
{
    auto c = tiny_config();
    c.precision = Precision::fp8_block;
    auto const reasons = check(c, 1);
    REQUIRE(!reasons.empty());
    CHECK(reasons[0] ==
          "hidden is 64, no multiple of 128 (fp8_block scales 128 columns together); round it, or use precision bf16");
    auto blocks = blocks_config();
    blocks.precision = Precision::fp8_block;
    CHECK(check(blocks, 1).empty());
    blocks.seq_len = 16;
    CHECK_THAT(only_reason(blocks), Catch::Matchers::Contains("32 tokens, no multiple of 128"));
}

TEST_CASE("a trainer lists all reasons in its error", "[step]")
{
    auto c = tiny_config();
    c.seq_len = 0, c.clip = -1;
    CHECK_THROWS_WITH(SoloRun{c}, Catch::Matchers::Contains("seq_len") && Catch::Matchers::Contains("clip"));
    CHECK_THROWS_AS(SoloRun{c}, InputError);
}
