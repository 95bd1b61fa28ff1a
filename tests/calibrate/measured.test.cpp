// SPDX-License-Identifier: Apache-2.0
//
// What measured rows change: they go before published ones, memory-bound operations are looked up by their bytes, and what a row says
// about shared SMs becomes a factor.
#include <cmath>
#include <fstream>

#include "calibrate/cost.hpp"
#include "tests/calibrate/ops_to_price.hpp"
#include "tests/calibrate/synthetic_tables.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

CostModel model_of(SyntheticTables const& t, char const* gpu = "G-1")
{
    return CostModel{t.tables, t.tables.accelerator(gpu)};
}

double microseconds(CostModel const& costs, Op const& op, Conditions conditions = {})
{
    return (costs.cost(op, conditions).time - costs.launch_gap()).value() * 1e6;
}

Op norm(double bytes) { return moving(OpKind::norm, bytes); }

std::string const norms = "one,G-1,norm,forward,bf16,,,,,,,,,,,,1000000,,1000,ok,\n"
                          "one,G-1,norm,forward,bf16,,,,,,,,,,,,4000000,,1600,ok,\n";

} // namespace

TEST_CASE("a measured product goes before a published one of the same shape, whoever published it")
{
    SyntheticTables t{"paper,G-1,gemm,,fp8_block,4096,512,256,,,,,,,,160,,ok\n"};
    auto const op = product({4096, 512, 256});
    CHECK(model_of(t).alone(op).rate == Approx(160e12));
    t.measure("one,G-1,gemm,forward,fp8_block,4096,512,256,,,,,,,,,,120,,ok,0.001\n");
    CHECK(model_of(t).alone(op).rate == Approx(120e12));
    SECTION("also on the sibling of the same die, at 5 % more spread, though it has a published row of its own")
    {
        SyntheticTables other{"paper,G-1X,gemm,,fp8_block,4096,512,256,,,,,,,,160,,ok\n"};
        other.measure("one,G-1,gemm,forward,fp8_block,4096,512,256,,,,,,,,,,120,,ok,0.001\n");
        CHECK(model_of(other, "G-1X").alone(op).rate == Approx(120e12));
        CHECK(model_of(other, "G-1X").cost(op, {}).spread > model_of(other).cost(op, {}).spread);
    }
}

TEST_CASE("the exact shape of a paper goes before measured neighbours")
{
    SyntheticTables t{"paper,G-1,gemm,,fp8_block,4096,512,256,,,,,,,,160,,ok\n"};
    t.measure("one,G-1,gemm,forward,fp8_block,4096,1024,256,,,,,,,,,,120,,ok,0.001\n");
    CHECK(model_of(t).alone(product({4096, 512, 256})).rate == Approx(160e12));
}

TEST_CASE("a memory-bound operation takes the time that was measured for its bytes")
{
    SyntheticTables t{""};
    t.measure(norms);
    auto const costs = model_of(t);
    CHECK(microseconds(costs, norm(1e6)) == Approx(1));      // 1 MB at 1,000 GB/s
    CHECK(microseconds(costs, norm(4e6)) == Approx(2.5));    // 4 MB at 1,600 GB/s
    double const between = 1000 * std::sqrt(1.6);            // log-log: the geometric mean at the geometric mean
    CHECK(microseconds(costs, norm(2e6)) == Approx(2e6 / between * 1e-3));
    CHECK(costs.cost(norm(2e6), {}).quality == Quality::interpolated);
    CHECK(costs.cost(norm(4e7), {}).quality == Quality::extrapolated);
    CHECK(costs.cost(norm(1e6), {}).quality == Quality::exact);
}

TEST_CASE("a measured operation pays one launch, a class rate one for each of its kernels")
{
    SyntheticTables t{""};
    auto const op = moving(OpKind::norm, 1e6, Pass::forward, 15);
    auto const before = model_of(t).cost(op, {}).time; // a quarter of 2 TB/s: 2 us, and 15 gaps of 1 us
    CHECK(before.value() == Approx(17e-6));
    t.measure(norms);
    CHECK(model_of(t).cost(op, {}).time.value() == Approx(2e-6));
}

TEST_CASE("recomputation reads the forward's row, the other direction does not")
{
    SyntheticTables t{""};
    t.measure(norms);
    auto const costs = model_of(t);
    CHECK(microseconds(costs, moving(OpKind::norm, 1e6, Pass::recompute)) == Approx(1));
    CHECK(costs.cost(moving(OpKind::norm, 1e6, Pass::dgrad), {}).quality == Quality::class_rate);
}

TEST_CASE("a kernel timed once, in bf16, serves every recipe; one timed for the recipe goes before it")
{
    SyntheticTables t{""};
    t.measure(norms);
    auto op = norm(1e6);
    op.precision = Precision::fp8_block;
    CHECK(microseconds(model_of(t), op) == Approx(1));
    t.measure(norms + "one,G-1,norm,forward,fp8_block,,,,,,,,,,,,1000000,,500,ok,\n");
    CHECK(microseconds(model_of(t), op) == Approx(2));
    CHECK(microseconds(model_of(t), norm(1e6)) == Approx(1));
}

TEST_CASE("a product is priced by rows of its own pass where there are any, else by a related one")
{
    SyntheticTables t{""};
    std::string const forward = "one,G-1,gemm,forward,bf16,1024,512,256,,,,,,,,,,50,,ok,\n"
                                "one,G-1,gemm,forward,bf16,4096,512,256,,,,,,,,,,90,,ok,\n";
    t.measure(forward);
    auto const dgrad = product({1024, 512, 256}, Precision::bf16, Pass::dgrad);
    CHECK(model_of(t).alone(dgrad).rate == Approx(50e12));
    t.measure(forward + "one,G-1,gemm,dgrad,bf16,1024,512,256,,,,,,,,,,40,,ok,\n");
    CHECK(model_of(t).alone(dgrad).rate == Approx(40e12));
    CHECK(model_of(t).alone(product({1024, 512, 256}, Precision::bf16)).rate == Approx(50e12));
}

TEST_CASE("a row that failed its check or is of uneven experts or of some SMs prices nothing")
{
    SyntheticTables t{""};
    t.measure("one,G-1,norm,forward,bf16,,,,,,,,,,,,1000000,,1000,failed_check,0.5\n"
              "one,G-1,expert_gemm,forward,bf16,1024,512,256,4,,,,,,,0.8,,50,,ok,\n"
              "one,G-1,gemm,forward,bf16,1024,512,256,,,,,,,50,,,50,,ok,\n");
    auto const costs = model_of(t);
    CHECK(costs.cost(norm(1e6), {}).quality == Quality::class_rate);
    Op experts = product({1024, 512, 256, 4}, Precision::bf16);
    SyntheticTables other{"", "s,G-1,all_reduce,8,1,,,,100,bus,\n", SyntheticTables::usual_rates + "s,*,*,expert_gemm,0.5,peak,0.2\n"};
    CHECK(model_of(other).cost(experts, {}).quality == Quality::class_rate);
    CHECK(costs.cost(product({1024, 512, 256}, Precision::bf16), {}).quality == Quality::class_rate); // half the SMs
}

TEST_CASE("a backward of attention that was measured whole holds its sums and conversions")
{
    SyntheticTables t{"", "s,G-1,all_reduce,8,1,,,,100,bus,\n",
                      SyntheticTables::usual_rates + "s,*,*,attention.conversion,0.5,hbm,0.2\n"};
    auto const conversion = moving(OpKind::attention, 1e6, Pass::dgrad, 2);
    CHECK(model_of(t).cost(conversion, {}).time.value() > 0);
    t.measure("one,G-1,attention,dgrad,bf16,,,,,4096,128,192,128,,,,,50,,ok,\n");
    CHECK(model_of(t).cost(conversion, {}).time.value() == 0);
}

TEST_CASE("confined to half of the SMs at 60 % of the rate, the exponent is log 0.6 / log 0.5, and the step uses it")
{
    SyntheticTables t{""};
    t.measure("one,G-1,gemm,forward,bf16,8192,512,256,,,,,,,,,,80,,ok,\n"
              "one,G-1,gemm,forward,bf16,8192,512,256,,,,,,,50,,,48,,ok,\n");
    auto const c = derive_contention(t.tables, t.tables.accelerator("G-1"));
    CHECK(c.sm_pairs == 1);
    CHECK(c.sm_exponent == Approx(std::log(0.6) / std::log(0.5)));
    auto const op = product({8192, 512, 256}, Precision::bf16);
    auto const costs = model_of(t);
    CHECK(microseconds(costs, op, {50}) == Approx(microseconds(costs, op) / 0.6));
}

TEST_CASE("measured pairs beside a copy give the factors, published pairs are then out")
{
    SyntheticTables t{"paper,G-1,gemm,,bf16,8192,512,256,,,,,,,,80,,ok\n"
                      "paper,G-1,gemm,,bf16,8192,512,256,,,,,,,20,32,,ok\n"}; // 32 of the 64 that 80 SMs should give
    CHECK(derive_contention(t.tables, t.tables.accelerator("G-1")).matrix == Approx(0.5));
    t.measure("one,G-1,gemm,forward,bf16,8192,512,256,,,,,,,,,,80,,ok,\n"
              "one,G-1,gemm,forward,bf16,8192,512,256,,,,,,20,,,,57.6,,ok,\n"
              "one,G-1,norm,forward,bf16,,,,,,,,,,,,1000000,,1000,ok,\n"
              "one,G-1,norm,forward,bf16,,,,,,,,,20,,,1000000,,700,ok,\n");
    auto const c = derive_contention(t.tables, t.tables.accelerator("G-1"));
    CHECK(c.matrix == Approx(0.9));
    CHECK(c.memory == Approx(0.7));
    CHECK(c.memory_pairs == 1);
    auto const costs = model_of(t);
    CHECK(microseconds(costs, norm(1e6), {20}) == Approx(1 / 0.7));
    CHECK(microseconds(costs, norm(1e6)) == Approx(1));
}

TEST_CASE("a folder of measurements without sources, or that is not there, is refused by name")
{
    SyntheticTables t{""};
    CHECK_THROWS_WITH(load_tables(t.folder(), {t.folder() + "/nowhere"}), Catch::Matchers::Contains("nowhere"));
    std::filesystem::create_directories(t.folder() + "/empty");
    CHECK_THROWS_WITH(load_tables(t.folder(), {t.folder() + "/empty"}), Catch::Matchers::Contains("sources.csv"));
}
