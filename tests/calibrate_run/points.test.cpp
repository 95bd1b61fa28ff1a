// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/points.hpp"

#include <algorithm>
#include <map>

#include "calibrate/run/points_internal.hpp"
#include "model/error.hpp"
#include "model/ops.hpp"
#include "tests/calibrate_run/tiny.hpp"
#include "tests/catch.hpp"

namespace trainfare::measure {

namespace {

Request deepseek_v3()
{
    Request r;
    r.model = read_hf_config(TRAINFARE_SOURCE_DIR "/scenarios/models/deepseek-v3.json");
    r.ep = 64;
    return r;
}

Point const& find(std::vector<Point> const& points, std::string const& what)
{
    auto const found = std::find_if(points.begin(), points.end(), [&](Point const& p) { return p.what() == what; });
    if (found == points.end()) FAIL("no point " << what);
    return *found;
}

} // namespace

TEST_CASE("the same request gives the same points in the same order, and no point twice")
{
    auto const a = make_points(deepseek_v3()), b = make_points(deepseek_v3());
    REQUIRE(a.size() == b.size());
    std::set<std::string> keys;
    for (std::size_t i = 0; i < a.size(); ++i) {
        CHECK(a[i].key() == b[i].key());
        CHECK(keys.insert(a[i].key()).second);
    }
    auto shuffled = deepseek_v3();
    shuffled.seed = 2;
    auto const c = make_points(shuffled);
    CHECK(c.front().key() != a.front().key());
    CHECK(plan_hash(b) == plan_hash(a));
    shuffled.ep = 32;
    CHECK(plan_hash(make_points(shuffled)) != plan_hash(a));
}

TEST_CASE(
    "every product and kernel of DeepSeek-V3's blocks at 4,096 tokens is a point with the model's own FLOPs and bytes")
{
    auto const r = deepseek_v3();
    auto const points = make_points(r);
    for (auto const precision : r.precisions) {
        auto const plan = r.plan(precision, 4096);
        std::set<std::string> measured;
        for (auto const& p : points)
            if (p.plain()) measured.insert(p.what());
        for (auto const& p : model_points(r.model, plan)) CHECK(measured.contains(p.what()));
        // and no operation is left out: each gives a point, but for communication and what attention's backward does by
        // the way
        for (int layer : {0, 60}) {
            auto const ops = block_ops(r.model, plan, {Block::Kind::layer, layer});
            BlockContext const context{&r.model, &plan, &r.model.layers[static_cast<std::size_t>(layer)]};
            for (auto const* list : {&ops.forward, &ops.backward, &ops.weight_ffn, &ops.weight_attention})
                for (std::size_t i = 0; i < list->size(); ++i) {
                    auto const& op = (*list)[i];
                    bool const none =
                        is_communication(op.kind) || op.name == std::string_view{"attention_sums_and_conversion"};
                    auto const p = point_of(*list, i, context);
                    REQUIRE(p.has_value() != none);
                    if (p) {
                        CHECK(p->op.flops.value() == op.flops.value());
                        CHECK(p->op.bytes.value() == op.bytes.value());
                        CHECK((p->op.m > 0 || p->op.heads > 0));
                    }
                }
        }
    }
}

TEST_CASE("rows and widths of kernels come back out of the model's bytes")
{
    auto const r = deepseek_v3();
    auto const points = model_points(r.model, r.plan(Precision::fp8_block, 4096));
    CHECK(find(points, "gemm gemm.forward fp8_block 4096x2112x7168").op.flops.value() == 2.0 * 4096 * 2112 * 7168);
    CHECK(find(points, "quantise cast.forward fp8_block 4096x1536x0").op.bytes.value() ==
          Approx(4096.0 * 1536 * (3 + 4.0 / 128)));
    find(points, "quantise_both cast.dgrad fp8_block 4096x7168x0");        // gradient of the output projection's result
    find(points, "transpose_quantised cast.dgrad fp8_block 32768x7168x0"); // routed gradients arrive quantised
    find(points, "swiglu_quantise activation.forward fp8_block 32768x2048x0");
    find(points, "swiglu_backward activation.dgrad bf16 4096x18432x0");
    find(points, "latent_norm norm.forward bf16 4096x2048x1536");
    find(points, "cross_entropy cross_entropy.forward bf16 4096x129280x0");
    find(points, "grouped_gemm expert_gemm.wgrad fp8_block 4096x7168x8192 in 4 groups");
}

TEST_CASE("one kernel adds the residual and norms it: the two operations share its time by their bytes")
{
    auto const r = deepseek_v3();
    auto const points = model_points(r.model, r.plan(Precision::bf16, 4096));
    auto const& norm = find(points, "add_rms_norm norm.forward bf16 4096x7168x0");
    auto const& residual = find(points, "add_rms_norm residual.forward bf16 4096x7168x0");
    CHECK(norm.share == Approx(0.4)); // 4 bytes of 10 an element
    CHECK(norm.share + residual.share == Approx(1));
}

TEST_CASE("with other rows a product has the FLOPs and bytes that the model gives it")
{
    auto const r = deepseek_v3();
    auto const at = [&](std::int64_t tokens, char const* what) {
        return find(model_points(r.model, r.plan(Precision::fp8_block, tokens)), what).op;
    };
    auto const moved = with_rows(at(4096, "gemm gemm.wgrad fp8_block 7168x16384x4096"), 8192);
    auto const wanted = at(8192, "gemm gemm.wgrad fp8_block 7168x16384x8192");
    CHECK(moved.flops.value() == wanted.flops.value());
    CHECK(moved.bytes.value() == wanted.bytes.value());
}

TEST_CASE("a group that was not asked for has no points, and all of them make a plan of under fifteen minutes")
{
    auto r = deepseek_v3();
    r.groups = {Group::attention};
    for (auto const& p : make_points(r)) CHECK(p.group == Group::attention);
    Accelerator gpu;
    gpu.bf16 = FlopRate{989e12}, gpu.fp8 = FlopRate{1979e12}, gpu.memory_bandwidth = Bandwidth{3.35e12};
    auto const time = [&](Request const& request, double measuring_s) {
        double sum = 0;
        for (auto const& p : make_points(request)) sum += seconds_guess(p, gpu, measuring_s, request.sizes.sustained_s);
        return sum;
    };
    CHECK(time(deepseek_v3(), 0.1) < 900);
    r = deepseek_v3();
    r.sizes = quick_sizes();
    r.precisions = {Precision::fp8_block};
    CHECK(time(r, 0.03) < 90);
    CHECK(make_points(r).size() < 150);
}

TEST_CASE("experts that the ranks cannot share are refused with the reason")
{
    auto r = deepseek_v3();
    r.ep = 48;
    CHECK_THROWS_AS(check(r), InputError);
    r = deepseek_v3();
    r.seq = 0;
    CHECK_THROWS_AS(check(r), InputError);
}

} // namespace trainfare::measure
