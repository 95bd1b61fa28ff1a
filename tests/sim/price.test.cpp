// SPDX-License-Identifier: Apache-2.0
//
// Priced operations of expert layers against DeepSeek's published layer trace (profile-data, train.json), and segments
// by hand.
#include "sim/price.hpp"

#include <cmath>

#include "calibrate/collectives.hpp"
#include "model/hf_config.hpp"
#include "tests/catch.hpp"
#include "tests/model/deepseek_v3.hpp"

using namespace trainfare;

namespace {

Tables const& tables()
{
    static Tables const shipped = load_tables(TRAINFARE_SOURCE_DIR "/calibrate/tables");
    return shipped;
}

CostModel const& h800()
{
    static CostModel const costs{tables(), tables().accelerator("H800-SXM")};
    return costs;
}

BlockOps expert_layer(Plan const& plan)
{
    static Architecture const arch = read_hf_config(TRAINFARE_SOURCE_DIR "/scenarios/models/deepseek-v3.json");
    return block_ops(arch, plan, {Block::Kind::layer, 10});
}

ClassSeconds total(PricedBlock const& block)
{
    ClassSeconds sum{};
    for (auto const* list : {&block.forward, &block.backward})
        for (auto const& segment : *list) sum += segment.compute;
    for (auto const& part : block.weight) sum += part;
    return sum;
}

/// Four expert layers, forward and backward, on the 112 SMs that the trace computes on: seconds by class.
ClassSeconds const& four_layers()
{
    static ClassSeconds const sum = [] {
        auto const layer = total(price_block(expert_layer(deepseek_v3_plan()), h800(), {20}, {}));
        ClassSeconds four{};
        for (int i = 0; i < 4; ++i) four += layer;
        return four;
    }();
    return sum;
}

double ms(OpClass c) { return four_layers()[static_cast<std::size_t>(c)] * 1e3; }

} // namespace

// What is tested here, and what is only consistent: products are priced from DeepGEMM's benchmarks alone on the chip,
// times 112 / 132 SMs, times a factor that the same trace's products set on average (six kernels): expert_gemm,
// dense_gemm and wgrad are independent of the trace but for that one number. Attention's two kernels, cast, norm,
// permute, rope, activation and the gate are priced by rows and rates read off this trace: there the test holds bytes,
// counts and classes to the published sums, not rates.
TEST_CASE("four expert layers take what the published layer trace took, class by class")
{
    struct Published {
        OpClass of;
        double ms, tolerance;
    };
    for (auto const& p : {Published{OpClass::expert_gemm, 22.9, 0.15},
                          {OpClass::dense_gemm, 18.8, 0.15},
                          {OpClass::attention_backward, 17.0, 0.15},
                          {OpClass::attention_forward, 4.9, 0.15},
                          {OpClass::norm, 3.4, 0.15},
                          {OpClass::cast, 15.6, 0.15},
                          {OpClass::elementwise, 5.0, 0.15},
                          {OpClass::rope, 1.5, 0.15},
                          {OpClass::router, 0.5 * 2 / 3, 0.15}, // the trace counts its weight gradient too
                          {OpClass::permute, 5.1, 0.25}}) {
        INFO(name(p.of));
        CHECK(ms(p.of) == Approx(p.ms).epsilon(p.tolerance));
    }
    // The trace spreads weight gradients over two streams, 21.4 ms on the main one and 11.4 ms of kernels beside: the
    // work of one stream lies between the main stream's and their sum.
    CHECK(ms(OpClass::wgrad) > 21.4);
    CHECK(ms(OpClass::wgrad) < 21.4 + 11.4);
}

TEST_CASE("all compute of four expert layers takes the published 124.3 ms to within 10 %")
{
    CHECK(seconds(four_layers()) * 1e3 == Approx(124.3).epsilon(0.10));
}

TEST_CASE("an expert layer is cut at dispatch and combine, in both directions")
{
    auto const block = price_block(expert_layer(deepseek_v3_plan()), h800(), {20}, {});
    for (auto const* list : {&block.forward, &block.backward}) {
        REQUIRE(list->size() >= 2);
        CHECK(list->at(0).is_dispatch);
        CHECK(list->at(0).payload == 4096.0 * 7168 * (1 + 4.0 / 128));
        CHECK(list->at(1).exchanges);
        CHECK_FALSE(list->at(1).is_dispatch);
        CHECK(list->at(1).payload == 4096.0 * 7168 * 2);
    }
    CHECK(block.forward.size() == 2);  // nothing follows the combine
    CHECK(block.backward.size() == 3); // gate, norm and attention do
    REQUIRE(block.weight.size() == 3);
    CHECK(seconds(block.weight[0]) == 0);
    CHECK(seconds(block.weight[1]) > 0); // experts' weight gradients, once their input gradients are done
    CHECK(seconds(block.weight[2]) > 0); // attention's
}

TEST_CASE("a loaded expert rank stretches its routed rows and nothing else")
{
    LocalTraffic loaded;
    loaded.expert_load = 1.5;
    auto const ops = expert_layer(deepseek_v3_plan());
    auto const even = total(price_block(ops, h800(), {}, {})), uneven = total(price_block(ops, h800(), {}, loaded));
    for (auto const c : {OpClass::expert_gemm, OpClass::permute})
        CHECK(uneven[static_cast<std::size_t>(c)] == Approx(1.5 * even[static_cast<std::size_t>(c)]));
    for (auto const c : {OpClass::dense_gemm, OpClass::attention_forward, OpClass::norm, OpClass::router})
        CHECK(uneven[static_cast<std::size_t>(c)] == even[static_cast<std::size_t>(c)]);
}

TEST_CASE("a tensor-parallel gather takes its ring's time; where it overlaps, what its products cannot hide")
{
    Op op;
    op.kind = OpKind::tp_collective;
    op.payload = Bytes{8e9};
    LocalTraffic local;
    local.tp = 8;
    local.scale_up = 100 * units::GBps;
    local.latency = 2 * units::us;
    auto const ring =
        collective_time(CollectiveOp::all_gather, Algorithm::ring, 8, op.payload, local.scale_up, local.latency);
    CHECK(price_op(op, h800(), {}, local) == ring.value());
    CHECK(ring.value() > 8e9 * 7 / 8 / 100e9);

    auto const shown = [&](std::int64_t rows) { // of the gather, beside a product of so many rows
        Op product;
        product.precision = Precision::bf16;
        product.m = rows, product.n = product.k = 8192;
        product.flops = Flops{2.0 * static_cast<double>(rows) * 8192 * 8192};
        auto const block = price_block({{product, op}, {}, {}, {}}, h800(), {}, local);
        double const hides = price_op(product, h800(), {}, local) * 7 / 8; // all but one of eight chunks
        return std::pair{block.forward.front().compute[static_cast<std::size_t>(OpClass::tensor_parallel)], hides};
    };
    CHECK(shown(8192).first == Approx(ring.value()));
    local.overlap_tp = true;
    auto const [most, little] = shown(8192); // a short product hides little
    CHECK(most == Approx(ring.value() - little));
    CHECK(shown(8'192'000).first == Approx(ring.value() / 8)); // a long one all but the first chunk
}

TEST_CASE("a ring of keys and values hides under attention until its links are too slow")
{
    auto plan = deepseek_v3_plan();
    plan.cp = 4;
    auto const ops = expert_layer(plan);
    LocalTraffic local;
    local.cp = 4;
    auto const exposed = [&](double gbps) {
        local.cp_bandwidth = gbps * units::GBps;
        return total(price_block(ops, h800(), {}, local))[static_cast<std::size_t>(OpClass::tensor_parallel)];
    };
    double const bytes = 3 * 2.0 * 1024 * 128 * (192 + 128); // forward; backward moves twice as many
    CHECK(exposed(1e6) == 0);
    CHECK(exposed(1) == Approx(3 * bytes / 1e9).epsilon(0.02));
    CHECK(exposed(10) < exposed(1));
}
