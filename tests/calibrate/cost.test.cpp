// SPDX-License-Identifier: Apache-2.0
//
// Which row prices an operation, how sure that is said to be, and what it comes to: on tables with round numbers, then
// on the shipped ones.
#include "calibrate/cost.hpp"

#include <cmath>
#include <string>

#include "tests/calibrate/ops_to_price.hpp"
#include "tests/calibrate/synthetic_tables.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

/// TFLOP/s that a cost implies, launch gaps taken off.
double tflops(CostModel const& costs, Op const& op, Conditions conditions = {})
{
    auto const time = costs.cost(op, conditions).time - costs.launch_gap() * op.kernels;
    return (op.flops / time).value() / 1e12;
}

/// A curve of one shape: 80 TFLOP/s at 1,024 rows, 160 at 4,096.
std::string const curve = "s,G-1,gemm,,fp8_block,1024,512,256,,,,,,,,80,,ok\n"
                          "later,G-1,gemm,,fp8_block,4096,512,256,,,,,,,,160,,ok\n";

template <class Call>
std::string input_error(Call const& call)
{
    try {
        static_cast<void>(call());
    } catch (InputError const& error) {
        return error.what();
    }
    return "no error";
}

bool holds(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

CostModel model_of(Tables const& tables, char const* gpu, bool strict = false, WhatIf what_if = {})
{
    return CostModel{tables, tables.accelerator(gpu), strict, what_if};
}

Tables const& shipped()
{
    static Tables const tables = load_tables(TRAINFARE_SOURCE_DIR "/calibrate/tables");
    return tables;
}

} // namespace

TEST_CASE("a timed shape costs what was timed, and names its source")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    auto const op = product({4096, 512, 256});
    CHECK(tflops(costs, op) == Approx(160));
    auto const cost = costs.cost(op, {});
    CHECK(cost.quality == Quality::exact);
    CHECK(cost.spread == Approx(std::hypot(0.05, costs.contention().matrix_spread)));
    CHECK(t.tables.sources[static_cast<std::size_t>(cost.source)].id == "later");
    auto const first = costs.cost(product({1024, 512, 256}), {});
    CHECK(t.tables.sources[static_cast<std::size_t>(first.source)].id == "s"); // of the row read, not of the last one
    CHECK(first.derivation.empty());
}

TEST_CASE("explain names file and line of the row that was read")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(holds(costs.explain(product({1024, 512, 256}), {}).derivation, "ops.csv:2"));
    CHECK(holds(costs.explain(product({4096, 512, 256}), {}).derivation, "ops.csv:3"));
    CHECK(holds(costs.explain(product({1100, 512, 256}), {}).derivation, "ops.csv:2")); // nearer
    CHECK(holds(costs.explain(moving(OpKind::norm, 1e9), {}).derivation, "rates.csv:4"));
    CHECK(costs.explain(product({1024, 512, 256}), {}).time == costs.cost(product({1024, 512, 256}), {}).time);
}

TEST_CASE("between timed rows the rate is log-log linear along m")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(tflops(costs, product({2048, 512, 256})) == Approx(std::sqrt(80.0 * 160)));
    auto const cost = costs.cost(product({2048, 512, 256}), {});
    CHECK(cost.quality == Quality::interpolated);
    CHECK(cost.spread >= 0.12);
}

TEST_CASE("outside the timed rows the end of the curve serves, flagged")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(tflops(costs, product({64, 512, 256})) == Approx(80));
    CHECK(costs.cost(product({64, 512, 256}), {}).quality == Quality::extrapolated);
    CHECK(costs.cost(product({64, 512, 256}), {}).spread >= 0.25);
    CHECK(tflops(costs, product({65536, 512, 256})) == Approx(160));
    CHECK(costs.cost(product({65536, 512, 256}), {}).quality == Quality::extrapolated);
    CHECK(costs.cost(product({6000, 512, 256}), {}).quality == Quality::interpolated); // less than twice the last
}

TEST_CASE("another shape gets the nearest shapes' rate, never interpolated along n or k, and says so")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    auto const near = costs.cost(product({4096, 640, 256}), {});
    CHECK(tflops(costs, product({4096, 640, 256})) == Approx(160)); // only one shape is known
    CHECK(near.quality == Quality::interpolated);
    CHECK(near.spread >= 0.12);
    auto const far = costs.cost(product({4096, 512, 8192}), {});
    CHECK(far.quality == Quality::extrapolated);
    CHECK(far.spread >= 0.25);
}

TEST_CASE("rows of one shape and m are averaged geometrically, half their range is the spread")
{
    SyntheticTables const t{
        "s,G-1,gemm,,bf16,4096,512,256,,,,,,,,40,,ok\ns,G-1,gemm,,bf16,4096,512,256,,,,,,,,90,,ok\n"};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(tflops(costs, product({4096, 512, 256}, Precision::bf16)) == Approx(60));
    CHECK(costs.cost(product({4096, 512, 256}, Precision::bf16), {}).spread == Approx(50.0 / 130));
}

TEST_CASE("communication SMs take their share of matrix products and nothing of memory-bound operations")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    auto const op = product({4096, 512, 256});
    CHECK(tflops(costs, op, {25}) == Approx(160 * 0.75));
    CHECK(costs.cost(moving(OpKind::norm, 1e9), {25}).time == costs.cost(moving(OpKind::norm, 1e9), {}).time);
    auto const error = input_error([&] { return costs.cost(op, {100}); });
    CHECK(holds(error, "comm_sms = 100"));
    CHECK(holds(error, "G-1"));
}

TEST_CASE("a row timed beside communication says what the kernel does alone")
{
    SyntheticTables const t{"s,G-1,gemm,,fp8_block,4096,512,256,,,,,,,20,80,,ok\n"};
    auto const costs = model_of(t.tables, "G-1");
    auto const op = product({4096, 512, 256});
    CHECK(tflops(costs, op, {20}) == Approx(80));
    CHECK(tflops(costs, op) == Approx(100)); // 80 of 100 SMs
}

TEST_CASE("a part of the same die lends its rows at 5 % more spread, one with fewer SMs does not")
{
    SyntheticTables const t{curve};
    auto const op = product({4096, 512, 256});
    auto const own = model_of(t.tables, "G-1").cost(op, {});
    auto const lent = model_of(t.tables, "G-1X").cost(op, {});
    CHECK(lent.time == own.time);
    CHECK(lent.quality == Quality::exact);
    CHECK(lent.spread == Approx(std::hypot(own.spread, 0.05)));
    CHECK(holds(model_of(t.tables, "G-1X").explain(op, {}).derivation, "G-1, same die"));
    CHECK(model_of(t.tables, "G-1S").cost(op, {}).quality == Quality::class_rate);
    CHECK(tflops(model_of(t.tables, "G-1S"), op) == Approx(50)); // 0.5 of 100 TFLOP/s
}

TEST_CASE("a part's own row takes the place of a lent one of the same shape and rows")
{
    SyntheticTables const t{curve + "s,G-1X,gemm,,fp8_block,4096,512,256,,,,,,,,100,,ok\n"};
    auto const costs = model_of(t.tables, "G-1X");
    CHECK(tflops(costs, product({4096, 512, 256})) == Approx(100));
    CHECK(costs.cost(product({4096, 512, 256}), {}).spread ==
          model_of(t.tables, "G-1").cost(product({4096, 512, 256}), {}).spread);
    CHECK(tflops(costs, product({1024, 512, 256})) == Approx(80)); // still lent where it has none
}

TEST_CASE("a part's own attention row takes the place of a lent one of the same length and heads")
{
    SyntheticTables const t{"s,G-1,attention,forward,bf16,,,,,1,4096,16,192,128,,90,,ok\n"
                            "s,G-1X,attention,forward,bf16,,,,,1,4096,16,192,128,,40,,ok\n"};
    CHECK(tflops(model_of(t.tables, "G-1X"), attention(4096, 16, Pass::forward)) == Approx(40));
    CHECK(tflops(model_of(t.tables, "G-1"), attention(4096, 16, Pass::forward)) == Approx(90));
}

TEST_CASE("class rates fall back from the part to the same die to all parts")
{
    SyntheticTables const t{curve};
    auto const rate = [&](char const* gpu, Pass pass) {
        auto const costs = model_of(t.tables, gpu);
        auto const op = moving(OpKind::norm, 1e9, pass);
        return (op.bytes / (costs.cost(op, {}).time - costs.launch_gap())).value() / 2e12;
    };
    CHECK(rate("G-1", Pass::dgrad) == Approx(0.5));
    CHECK(rate("G-1", Pass::forward) == Approx(0.25));
    CHECK(rate("G-1X", Pass::dgrad) == Approx(0.5));  // same die
    CHECK(rate("G-1S", Pass::dgrad) == Approx(0.25)); // "*"
    CHECK(model_of(t.tables, "G-1X").cost(moving(OpKind::norm, 1, Pass::dgrad), {}).spread ==
          Approx(std::hypot(0.1, 0.05)));
}

TEST_CASE("a weight gradient is not priced by forward rows, an input gradient is")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(tflops(costs, product({4096, 512, 256}, Precision::fp8_block, Pass::dgrad)) == Approx(160));
    auto const weight = product({4096, 512, 256}, Precision::fp8_block, Pass::wgrad);
    CHECK(costs.cost(weight, {}).quality == Quality::class_rate);
    CHECK(tflops(costs, weight) == Approx(0.4 * 200));
}

TEST_CASE("attention is priced by its own direction's rows, recomputation as forward")
{
    SyntheticTables const t{"s,G-1,attention,forward,bf16,,,,,1,4096,16,192,128,,70,,ok\n"
                            "s,G-1,attention,forward,bf16,,,,,1,16384,16,192,128,,80,,ok\n"
                            "s,G-1,attention,dgrad,bf16,,,,,1,16384,16,192,128,,40,,ok\n"};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(tflops(costs, attention(4096, 16, Pass::forward)) == Approx(70));
    CHECK(tflops(costs, attention(4096, 16, Pass::recompute)) == Approx(70));
    CHECK(tflops(costs, attention(4096, 16, Pass::dgrad)) == Approx(40)); // farther in length, but backward
    CHECK(costs.cost(attention(4096, 16, Pass::forward), {}).quality == Quality::exact);
    CHECK(costs.cost(attention(5000, 16, Pass::forward), {}).quality == Quality::interpolated);
    CHECK(costs.cost(attention(1 << 20, 16, Pass::forward), {}).quality == Quality::extrapolated);
    auto other = attention(4096, 16, Pass::forward);
    other.qk_dim = 128; // another kernel
    CHECK(costs.cost(other, {}).quality == Quality::class_rate);
    CHECK(tflops(costs, other) == Approx(60));
}

TEST_CASE("a sliding window is not what the rows of the whole triangle timed")
{
    SyntheticTables const t{"s,G-1,attention,forward,bf16,,,,,1,4096,16,192,128,,70,,ok\n"};
    auto const costs = model_of(t.tables, "G-1");
    auto op = attention(4096, 16, Pass::forward);
    op.keys = 1024;
    CHECK(costs.cost(op, {}).quality == Quality::interpolated);
    op.keys = 126;
    CHECK(costs.cost(op, {}).quality == Quality::extrapolated);
}

TEST_CASE("a memory-bound operation takes its bytes over its share of HBM, and a gap for each launch")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    CHECK(costs.launch_gap().value() == 1e-6);
    auto const op = moving(OpKind::norm, 1e9, Pass::forward, 15);
    CHECK(costs.cost(op, {}).time.value() == Approx(1e9 / (0.25 * 2e12) + 15e-6));
}

TEST_CASE("a product too thin to fill its SMs waits for memory")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    auto op = product({4096, 512, 256});
    op.bytes = Bytes{1e9};
    CHECK(costs.cost(op, {}).time.value() == Approx(1e9 / 2e12 + 1e-6));
}

TEST_CASE("communication is not priced from this table")
{
    SyntheticTables const t{curve};
    Op op = moving(OpKind::dispatch, 0);
    op.payload = Bytes{1e9};
    CHECK(model_of(t.tables, "G-1").cost(op, {}).time.value() == 0);
}

TEST_CASE("an operation without a rate is an input error that names rates.csv")
{
    SyntheticTables const t{curve};
    auto const costs = model_of(t.tables, "G-1");
    auto const error = input_error([&] { return costs.cost(moving(OpKind::cast, 1e9), {}); });
    CHECK(holds(error, t.tables.folder + "/rates.csv"));
    CHECK(holds(error, "cast.forward"));
    CHECK(holds(error, "G-1"));
}

TEST_CASE("a rate in the wrong unit, or of a peak that is not published, is an input error")
{
    SyntheticTables const t{curve, "s,G-1,all_reduce,8,1,,,,100,bus,\n",
                            "s,*,*,gemm,0.5,peak,0.2\ns,*,*,norm,0.5,peak,0.2\n"};
    auto const error = input_error([&] { return model_of(t.tables, "G-1").cost(moving(OpKind::norm, 1e9), {}); });
    CHECK(holds(error, "/rates.csv:3"));
    CHECK(holds(error, "hbm"));
    auto const peakless = input_error([&] { return model_of(t.tables, "G-2").cost(product({8, 8, 8}), {}); });
    CHECK(holds(peakless, "hardware.csv"));
    CHECK(holds(peakless, "G-2"));
}

TEST_CASE("under --strict a product without a measured row is refused by name")
{
    SyntheticTables const t{curve};
    auto const strict = model_of(t.tables, "G-1", true);
    CHECK_NOTHROW(strict.cost(product({4096, 512, 256}), {}));
    try {
        static_cast<void>(strict.cost(product({4096, 512, 256}, Precision::bf16), {}));
        FAIL("no error");
    } catch (MissingCalibration const& missing) {
        CHECK(holds(missing.what(), "a_product"));
        CHECK(holds(missing.what(), "m=4096 n=512 k=256"));
        CHECK(holds(missing.what(), "--strict"));
    }
}

TEST_CASE("what-if factors act on what they name and on nothing else")
{
    SyntheticTables const t{curve};
    auto const plain = model_of(t.tables, "G-1");
    auto const gemm = product({4096, 512, 256});
    auto const norm = moving(OpKind::norm, 1e9);
    auto const net = [](CostModel const& costs, Op const& op) {
        return (costs.cost(op, {}).time - costs.launch_gap()).value();
    };

    WhatIf faster;
    faster.flops = 2;
    auto const flops = model_of(t.tables, "G-1", false, faster);
    CHECK(net(flops, gemm) == Approx(net(plain, gemm) / 2));
    CHECK(net(flops, norm) == net(plain, norm));

    WhatIf wider;
    wider.hbm = 2;
    auto const hbm = model_of(t.tables, "G-1", false, wider);
    CHECK(net(hbm, gemm) == net(plain, gemm));
    CHECK(net(hbm, norm) == Approx(net(plain, norm) / 2));

    WhatIf slower;
    slower.by_class[static_cast<std::size_t>(OpClass::dense_gemm)] = 1.5;
    auto const dense = model_of(t.tables, "G-1", false, slower);
    CHECK(net(dense, gemm) == Approx(net(plain, gemm) * 1.5));
    CHECK(net(dense, norm) == net(plain, norm));

    WhatIf launches;
    launches.by_class[static_cast<std::size_t>(OpClass::launch)] = 3;
    auto const gaps = model_of(t.tables, "G-1", false, launches);
    CHECK(gaps.cost(norm, {}).time.value() == Approx(plain.cost(norm, {}).time.value() + 2e-6));
}

// ---- shipped tables

TEST_CASE("DeepGEMM's 4096 x 2112 x 7168 runs at its published 1,127 TFLOP/s alone, times the step's and the SMs' "
          "share in a step")
{
    auto const costs = model_of(shipped(), "H800-SXM");
    auto const op = product({4096, 2112, 7168});
    double const step = costs.contention().matrix;
    CHECK(costs.cost(op, {}).quality == Quality::exact);
    CHECK(tflops(costs, op) == Approx(1127 * step));
    CHECK(tflops(costs, op, {20}) == Approx(1127 * step * 112 / 132));
    CHECK(tflops(costs, op, {20}) == Approx(893).epsilon(0.07)); // the layer trace
}

TEST_CASE("expert products run at DeepGEMM's grouped rates, and so do their input gradients")
{
    auto const costs = model_of(shipped(), "H800-SXM");
    double const step = costs.contention().matrix;
    CHECK(tflops(costs, product({8192, 4096, 7168, 4})) == Approx(1346 * step));
    CHECK(tflops(costs, product({8192, 7168, 2048, 4})) == Approx(1214 * step));
    CHECK(costs.cost(product({8192, 7168, 4096, 4}, Precision::fp8_block, Pass::dgrad), {}).quality ==
          Quality::interpolated);
}

TEST_CASE("an H100 borrows the rows of the H800, an H20 with 78 SMs does not")
{
    auto const op = product({4096, 2112, 7168});
    auto const h800 = model_of(shipped(), "H800-SXM").cost(op, {}), h100 = model_of(shipped(), "H100-SXM").cost(op, {});
    CHECK(h100.time == h800.time);
    CHECK(h100.spread == Approx(std::hypot(h800.spread, 0.05)).epsilon(0.01));
    CHECK(h100.spread > h800.spread);
    CHECK(model_of(shipped(), "H20-96G").cost(op, {}).quality == Quality::class_rate);
}

TEST_CASE("attention of the reference model backward is slower than forward on every Hopper part")
{
    for (auto const* gpu : {"H800-SXM", "H100-SXM", "H200-SXM", "H20-96G"}) {
        INFO(gpu);
        auto const costs = model_of(shipped(), gpu);
        CHECK(tflops(costs, attention(4096, 128, Pass::dgrad)) < tflops(costs, attention(4096, 128, Pass::forward)));
    }
    // timed in the trace beside communication: 1.20-1.28 ms forward for 687 GFLOP
    auto const beside = tflops(model_of(shipped(), "H800-SXM"), attention(4096, 128, Pass::forward), {20});
    CHECK(beside == Approx(556).epsilon(0.01));
}
