// SPDX-License-Identifier: Apache-2.0
//
// Parameter counts of layer parts, by hand.
#include "model/parts.hpp"

#include "tests/catch.hpp"

using namespace trainfare;

TEST_CASE("grouped attention of Llama-3.1-405B has 570.4M weights a layer", "[parts]")
{
    auto const a = softmax_attention({16384, 128, 8, 128});
    CHECK(a.kind == AttentionKind::gqa);
    CHECK(a.parameters == 16384.0 * (2 * 128 + 2 * 8) * 128);
    CHECK(a.matrix_parameters == a.parameters);
    CHECK(softmax_attention({512, 8, 8, 64}).kind == AttentionKind::mha);
    CHECK(softmax_attention({512, 8, 1, 64}).kind == AttentionKind::mqa);
}

TEST_CASE("biases are parameters but not matrices", "[parts]")
{
    auto const a = softmax_attention({512, 8, 2, 64}, {.qkv = true, .output = true});
    CHECK(a.parameters - a.matrix_parameters == (8 + 2 * 2) * 64 + 512);
    auto const f = dense_ffn(512, 2048, false, true);
    CHECK(f.matrix_parameters == 2 * 512 * 2048);
    CHECK(f.parameters - f.matrix_parameters == 2048 + 512);
}

TEST_CASE("latent attention of DeepSeek-V3 has 187.1M matrix weights a layer", "[parts]")
{
    auto const a = latent_attention(7168, 128, 128, {1536, 512, 128, 64});
    CHECK(a.kind == AttentionKind::mla);
    CHECK(a.qk_dim == 192);
    CHECK(a.matrix_parameters ==
          7168.0 * 1536 + 1536.0 * 128 * 192 + 7168.0 * 576 + 512.0 * 128 * 256 + 128.0 * 128 * 7168);
    CHECK(a.matrix_parameters == Approx(187.1e6).epsilon(1e-3));
    CHECK(a.parameters - a.matrix_parameters == 1536 + 512);
}

TEST_CASE("latent attention without a query rank projects q directly", "[parts]")
{
    auto const a = latent_attention(2048, 16, 128, {std::nullopt, 512, 128, 64});
    CHECK(a.matrix_parameters == 2048.0 * 16 * 192 + 2048.0 * 576 + 512.0 * 16 * 256 + 16.0 * 128 * 2048);
    CHECK(a.parameters - a.matrix_parameters == 512);
}

TEST_CASE("attention without its own keys and values loses exactly those projections", "[parts]")
{
    auto const whole = softmax_attention({6400, 80, 8, 80}, {.qkv = true});
    auto const less = without_kv(whole, 6400, {.qkv = true});
    CHECK_FALSE(less.owns_kv);
    CHECK(whole.matrix_parameters - less.matrix_parameters == 2.0 * 6400 * 8 * 80);
    CHECK(whole.parameters - less.parameters == 2.0 * 6400 * 8 * 80 + 2.0 * 8 * 80);
}

TEST_CASE("a MoE layer of DeepSeek-V3 holds 256 experts and uses 8 and the shared one", "[parts]")
{
    double const expert = 3.0 * 7168 * 2048, router = 7168.0 * 256;
    auto const f =
        moe_ffn(7168, {.count = 256, .top_k = 8, .width = 2048, .shared_width = 2048}, {.router_bias = true});
    CHECK(f.expert_parameters == 256 * expert);
    CHECK(f.parameters == 257 * expert + router + 256);
    CHECK(f.active_parameters == 9 * expert + router + 256);
    CHECK(f.matrix_parameters == 9 * expert + router);
    CHECK(f.experts->router_parameters == router + 256);
}

TEST_CASE("a residual MLP beside the experts is always active", "[parts]")
{
    auto const plain = moe_ffn(7168, {.count = 128, .top_k = 2, .width = 4864});
    auto const arctic = moe_ffn(7168, {.count = 128, .top_k = 2, .width = 4864}, {.residual_width = 7168});
    CHECK(arctic.residual_width == 7168);
    CHECK(arctic.active_parameters - plain.active_parameters == 3.0 * 7168 * 7168);
}

TEST_CASE("MTP modules are built like the last layer and have three more norms", "[parts]")
{
    Architecture model;
    model.hidden = 64;
    model.layers = {{softmax_attention({64, 4, 4, 16}), dense_ffn(64, 256), 128},
                    {softmax_attention({64, 4, 4, 16}), moe_ffn(64, {.count = 8, .top_k = 2, .width = 32}), 128}};
    auto const modules = mtp_modules(model, 2);
    REQUIRE(modules.size() == 2);
    CHECK(modules[1].is_moe());
    CHECK(modules[1].norm_parameters == 128 + 3 * 64);
    CHECK(mtp_modules(model, 0).empty());
}
