// SPDX-License-Identifier: Apache-2.0
//
// Sums over layers: FLOPs per token against the figures that vendors print.
#include "model/architecture.hpp"

#include "model/hf_config.hpp"
#include "model/parts.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

Architecture shipped(std::string const& name)
{
    return read_hf_config(std::string{TRAINFARE_SOURCE_DIR} + "/scenarios/models/" + name + ".json");
}

double causal_gflop(std::string const& name, int seq_len)
{
    return flops_per_token(shipped(name), seq_len).causal / 1e9;
}

/// Squared-ReLU decoder with untied tables, as Nemotron (arXiv:2402.16819).
Architecture nemotron(int layers, HeadLayout const& heads)
{
    Architecture model;
    model.hidden = heads.hidden;
    model.vocab = 256000;
    model.layers.assign(static_cast<std::size_t>(layers),
                        {softmax_attention(heads), dense_ffn(heads.hidden, 4 * heads.hidden, false), 0});
    return model;
}

} // namespace

TEST_CASE("DeepSeek-V3 at 4,096 tokens costs what four publishers print, each in its convention", "[architecture]")
{
    auto const flops = flops_per_token(shipped("deepseek-v3"), 4096, 37e9);
    // what the formula gives
    CHECK(flops.causal / 1e9 == Approx(250.4).epsilon(0.0005));
    CHECK(flops.causal_mtp / 1e9 == Approx(260.6).epsilon(0.0005));
    CHECK(flops.noncausal / 1e9 == Approx(281.2).epsilon(0.0005));
    CHECK(flops.six_n / 1e9 == Approx(222).epsilon(1e-9));
    // what is printed
    CHECK(flops.causal / 1e9 == Approx(249.7).epsilon(0.005));
    CHECK(flops.causal_mtp / 1e9 == Approx(260).epsilon(0.005));
    CHECK(flops.noncausal / 1e9 == Approx(280).epsilon(0.005));
}

TEST_CASE("without a model card 6N uses the counted active parameters", "[architecture]")
{
    auto const model = shipped("deepseek-v3");
    CHECK(flops_per_token(model, 4096).six_n == 6 * count_parameters(model).active);
}

TEST_CASE("DeepSeek-V3 has 671.0B parameters, 37.6B active, 36.6B in matrices and an MTP module of 11.6B",
          "[architecture]")
{
    auto const c = count_parameters(shipped("deepseek-v3"));
    CHECK(c.total / 1e9 == Approx(671.026).epsilon(1e-6));
    CHECK(c.active / 1e9 == Approx(37.552).epsilon(2e-5));
    CHECK(c.matrix / 1e9 == Approx(36.625).epsilon(2e-5));
    CHECK(c.mtp / 1e9 == Approx(11.610).epsilon(5e-5));
    CHECK(c.embedding == 129280.0 * 7168);
    CHECK(c.head == c.embedding);
}

TEST_CASE("causal FLOPs per token match what vendors print within 1 %", "[architecture]")
{
    CHECK(causal_gflop("llama-3.1-405b", 8192) == Approx(2524).epsilon(0.01));
    CHECK(causal_gflop("llama-3.1-70b", 8192) == Approx(449.2).epsilon(0.01)); // same sizes as Llama-3-70B
    CHECK(causal_gflop("llama-3.1-8b", 8192) == Approx(51.5).epsilon(0.01));
    CHECK(causal_gflop("qwen3-235b-a22b", 4096) == Approx(148).epsilon(0.01));
    CHECK(causal_gflop("qwen3-30b-a3b", 4096) == Approx(23.0).epsilon(0.01));
    CHECK(causal_gflop("gpt-oss-120b", 4096) == Approx(32.6).epsilon(0.01));
}

TEST_CASE("non-causal FLOPs per token match what the Megatron and NeMo tables imply within 1 %", "[architecture]")
{
    CHECK(flops_per_token(shipped("megatron-gpt-175b"), 2048).noncausal / 1e9 == Approx(1076.5).epsilon(0.01));
    CHECK(flops_per_token(nemotron(96, {18432, 96, 8, 192}), 4096).noncausal / 1e9 == Approx(2105).epsilon(0.01));
    CHECK(flops_per_token(nemotron(40, {6144, 48, 48, 128}), 4096).noncausal / 1e9 == Approx(130.2).epsilon(0.01));
}

TEST_CASE("a causal query sees half of the sequence on average", "[architecture]")
{
    CHECK(mean_keys(Attention{}, 4096, true) == 2048);
    CHECK(mean_keys(Attention{}, 4096, false) == 4096);
}

TEST_CASE("a sliding window of 128 in 4,096 tokens shows 126 keys on average", "[architecture]")
{
    Attention a;
    a.window = 128;
    CHECK(mean_keys(a, 4096, true) == 126);
    CHECK(mean_keys(a, 4096, false) == 128);
    a.window = 100'000; // wider than the sequence: no effect
    CHECK(mean_keys(a, 4096, true) == 2048);
}

TEST_CASE("a chunk shows half of itself, also where the last one is cut", "[architecture]")
{
    Attention a;
    a.window = 8192;
    a.chunked = true;
    CHECK(mean_keys(a, 4096, true) == 2048);
    CHECK(mean_keys(a, 16384, true) == 4096);
    CHECK(mean_keys(a, 12288, true) == Approx((8192.0 * 8192 + 4096.0 * 4096) / 2 / 12288));
}

TEST_CASE("sparse attention reads its top keys while the indexer reads all", "[architecture]")
{
    auto const dense = shipped("deepseek-v3"), sparse = shipped("deepseek-v3.2");
    CHECK(mean_keys(sparse.layers[0].attention, 131072, true) == Approx(2048 * (1 - 1.0 / 128)));
    auto const growth = [](Architecture const& m) { // per token of sequence, once it is long
        return flops_per_token(m, 262144).noncausal - flops_per_token(m, 131072).noncausal;
    };
    CHECK(growth(dense) == Approx(6.0 * 61 * 128 * 320 * 131072));
    CHECK(growth(sparse) == Approx(6.0 * 61 * 64 * 128 * 131072));
}

TEST_CASE("linear attention costs the same at every sequence length", "[architecture]")
{
    auto const model = shipped("minimax-text-01");
    auto const growth = flops_per_token(model, 8192).noncausal - flops_per_token(model, 4096).noncausal;
    CHECK(growth == Approx(6.0 * 10 * 64 * 256 * 4096)); // only 10 of 80 layers are softmax attention
}

TEST_CASE("a tied table is stored once and still multiplied with", "[architecture]")
{
    Architecture model;
    model.hidden = 8;
    model.vocab = 100;
    model.tied_embeddings = true;
    auto const c = count_parameters(model);
    CHECK(c.total == 800);
    CHECK(c.head == 0);
    CHECK(c.matrix == 800);
    CHECK(flops_per_token(model, 16).causal == 6 * 800);
}

TEST_CASE("attention kinds have the names that papers use", "[architecture]")
{
    CHECK(name(AttentionKind::mla) == "mla");
    CHECK(name(AttentionKind::lightning) == "lightning");
    CHECK(name(AttentionKind::delta_net) == "delta_net");
}
