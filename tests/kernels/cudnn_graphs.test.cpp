// SPDX-License-Identifier: Apache-2.0
//
// The attention graphs against cuDNN's own heuristics and support checks for a Hopper that need not be there. cuDNN
// wants some libcuda.so.1 on the loader's path for this; the toolkit's stub will do. What the kernels compute is tested
// on a GPU.
#include <array>
#include <cmath>

#include "kernels/cuda/attention.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/hopper_device.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::cuda;

namespace {

AttentionTarget const hopper{.handle = nullptr, .device_json = test::h100_device};

struct Widths {
    int batch, seq, heads, kv_heads, qk, v;
};

// DeepSeek-V3's latent attention; grouped queries; small ones; a sequence that is no multiple of a tile; one tile and
// less.
constexpr Widths shapes[] = {{1, 4096, 128, 128, 192, 128}, {1, 4096, 32, 8, 128, 128}, {2, 1024, 16, 16, 64, 64},
                             {2, 512, 8, 1, 128, 128},      {4, 200, 4, 2, 64, 64},     {1, 8192, 16, 16, 192, 128},
                             {2, 128, 4, 4, 192, 128},      {1, 16, 2, 2, 64, 64}};

/// @p beside: columns of other matrices that share the rows of q, k and v.
AttentionProblem problem_of(Widths const& w, bool backward, bool deterministic = true, int beside = 0)
{
    AttentionProblem p;
    p.shape = {.batch = w.batch, .seq = w.seq, .heads = w.heads, .kv_heads = w.kv_heads, .qk_dim = w.qk, .v_dim = w.v};
    p.shape.scale = 1 / std::sqrt(static_cast<float>(w.qk));
    p.shape.deterministic = deterministic;
    p.backward = backward;
    p.q = w.heads * w.qk + beside, p.k = w.kv_heads * w.qk + beside, p.v = w.kv_heads * w.v + beside;
    p.o = w.heads * w.v;
    if (backward) p.d_q = p.q, p.d_k = p.k, p.d_v = p.v, p.d_o = p.o;
    return p;
}

/// Both passes of every shape, the backward one in both orders of addition.
template <class Test>
void for_each_problem(Test test)
{
    for (Widths const& w : shapes)
        for (int const beside : {0, 64})
            for (auto const& p : {problem_of(w, false, true, beside), problem_of(w, true, true, beside),
                                  problem_of(w, true, false, beside)}) {
                INFO(describe(p) << ", " << beside << " columns beside");
                test(p);
            }
}

} // namespace

TEST_CASE("cuDNN has an engine on Hopper for every attention that we ask for")
{
    for_each_problem(
        [](AttentionProblem const& p) { CHECK(plan_attention_raw(p, hopper)->engine().starts_with("eng")); });
}

TEST_CASE("attention without a mask has an engine too")
{
    auto p = problem_of(shapes[1], true);
    p.shape.causal = false;
    CHECK_FALSE(plan_attention_raw(p, hopper)->engine().empty());
}

TEST_CASE("a deterministic backward pass needs two bytes for each pair of tokens of each head")
{
    auto const square = std::size_t{2} * 128 * 4096 * 4096; // 4 GiB
    auto const ordered = plan_attention_raw(problem_of(shapes[0], true), hopper)->workspace_bytes();
    auto const unordered = plan_attention_raw(problem_of(shapes[0], true, false), hopper)->workspace_bytes();
    CHECK(ordered >= square);
    CHECK(ordered < square + square / 8);
    CHECK(unordered >= std::size_t{4} * 128 * 4096 * 192); // dQ in fp32
    CHECK(unordered < square / 4);
    CHECK(plan_attention_raw(problem_of(shapes[0], false), hopper)->workspace_bytes() < square / 64);
}

TEST_CASE("a deterministic backward pass that would need more than 4 GiB is done in equal parts")
{
    auto const parts = [](Widths const& w, bool deterministic = true) {
        auto const whole = problem_of(w, true, deterministic).shape, part = backward_at_once(whole);
        return std::array{part.batch, part.heads, part.kv_heads};
    };
    CHECK(parts({1, 4096, 128, 128, 192, 128}) == std::array{1, 128, 128}); // 4 GiB
    CHECK(parts({2, 4096, 128, 128, 192, 128}) == std::array{1, 128, 128});
    CHECK(parts({1, 16384, 128, 128, 192, 128}) == std::array{1, 8, 8}); // 512 MiB a head
    CHECK(parts({1, 16384, 96, 96, 192, 128}) == std::array{1, 8, 8});
    CHECK(parts({1, 16384, 10, 10, 64, 64}) == std::array{1, 5, 5}); // 8 would fit, but leave 2
    CHECK(parts({1, 16384, 64, 8, 128, 128}) == std::array{1, 8, 1});
    CHECK(parts({1, 65536, 64, 8, 128, 128}) == std::array{1, 8, 1}); // what shares keys stays together
    CHECK(parts({4, 16384, 128, 128, 192, 128}, false) == std::array{4, 128, 128});
}

TEST_CASE("what cuDNN cannot run is refused, saying what is wrong with it")
{
    auto const refusal = [](AttentionProblem const& p) -> std::string {
        try {
            static_cast<void>(plan_attention_raw(p, hopper));
        } catch (Unsupported const& e) {
            return e.what();
        }
        return "";
    };
    CHECK(refusal(problem_of({1, 128, 4, 4, 100, 64}, false)).find("100 columns") != std::string::npos);
    CHECK(refusal(problem_of({1, 128, 4, 4, 512, 512}, true)).find("512 columns") != std::string::npos);
    CHECK(refusal(problem_of({1, 128, 6, 4, 64, 64}, true)).find("6 heads cannot share 4") != std::string::npos);
    CHECK(refusal(problem_of({1, 1, 4, 4, 64, 64}, true)).find("1 sequences of 1 tokens") != std::string::npos);
    CHECK(refusal(problem_of({1, 128, 4, 4, 64, 64}, true, true, 4)).find("260 elements apart") != std::string::npos);
}

TEST_CASE("a plan for a device that is only described does not run")
{
    auto const plan = plan_attention_raw(problem_of(shapes[1], false), hopper);
    CHECK_THROWS_AS(plan->run(nullptr, {}, nullptr), InternalError);
}

TEST_CASE("attention plans are told apart by shape, scale, direction, order and strides")
{
    auto const p = problem_of(shapes[1], true);
    auto scaled = p;
    scaled.shape.scale = 0.5F;
    CHECK(p.key() == problem_of(shapes[1], true).key());
    CHECK(p.key() != scaled.key());
    CHECK(p.key() != problem_of(shapes[0], true).key());
    CHECK(p.key() != problem_of(shapes[1], false).key());
    CHECK(p.key() != problem_of(shapes[1], true, false).key());
    CHECK(p.key() != problem_of(shapes[1], true, true, 64).key());
}

#ifdef TRAINFARE_CUDNN_FRONTEND
TEST_CASE("our graphs and cudnn_frontend's get the same engine with the same settings")
{
    for_each_problem([](AttentionProblem const& p) {
        CHECK(plan_attention_raw(p, hopper)->engine() == plan_attention_frontend(p, hopper)->engine());
    });
}
#endif
