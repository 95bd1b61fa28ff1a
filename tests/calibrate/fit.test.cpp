// SPDX-License-Identifier: Apache-2.0
//
// Leaving out what is known: errors that can be computed by hand, and the shipped fit.csv.
#include "calibrate/fit.hpp"

#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/calibrate/ops_to_price.hpp"
#include "tests/calibrate/synthetic_tables.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

TEST_CASE("leaving out the middle of three sizes shows how far the line between the others is off")
{
    // On the line from 40 at 1,024 to 160 at 16,384 lies 80 at 4,096; 100 was timed: 20 % too low.
    SyntheticTables const t{"s,G-1,gemm,forward,bf16,1024,512,256,,,,,,,,40,,ok\n"
                            "s,G-1,gemm,forward,bf16,4096,512,256,,,,,,,,100,,ok\n"
                            "s,G-1,gemm,forward,bf16,16384,512,256,,,,,,,,160,,ok\n"};
    auto const report = fit(t.tables, "G-1");
    REQUIRE(report.lines.size() == 1);
    REQUIRE(report.lines[0].one_size);
    CHECK(report.lines[0].one_size->kernels == 1); // leaving out an end would be extrapolation
    CHECK(report.lines[0].one_size->mean == Approx(0.2));
    CHECK_FALSE(report.lines[0].one_shape);
}

TEST_CASE("leaving out a shape predicts it from its neighbours; repeats of a kernel go out together")
{
    SyntheticTables const t{"s,G-1,gemm,forward,bf16,4096,512,256,,,,,,,,80,,ok\n"
                            "s,G-1,gemm,forward,bf16,4096,512,256,,,,,,,,80,,ok\n"
                            "s,G-1,gemm,forward,bf16,4096,1024,256,,,,,,,,100,,ok\n"};
    auto const report = fit(t.tables, "G-1");
    REQUIRE(report.lines.size() == 1);
    REQUIRE(report.lines[0].one_shape);
    CHECK(report.lines[0].one_shape->kernels == 2);
    CHECK(report.lines[0].one_shape->mean == Approx((0.25 + 0.2) / 2)); // 100 for 80, and 80 for 100
    CHECK_FALSE(report.lines[0].one_size);
}

TEST_CASE("inference sizes, uneven experts and confined kernels are not judged")
{
    SyntheticTables t{"s,G-1,gemm,forward,bf16,64,512,256,,,,,,,,10,,ok\n"
                      "s,G-1,gemm,forward,bf16,128,512,256,,,,,,,,20,,ok\n"};
    t.measure("one,G-1,gemm,forward,bf16,4096,512,256,,,,,,,50,,,48,,ok,\n"
              "one,G-1,expert_gemm,forward,bf16,4096,512,256,4,,,,,,,0.8,,48,,ok,\n");
    CHECK(fit(t.tables, "G-1").lines.empty());
}

TEST_CASE("a percentile of fewer than eight kernels stays empty in fit.csv, and look-ups then use the usual spread")
{
    SyntheticTables const t{"s,G-1,gemm,forward,bf16,4096,512,256,,,,,,,,80,,ok\n"
                            "s,G-1,gemm,forward,bf16,4096,1024,256,,,,,,,,100,,ok\n"};
    auto const text = to_csv(fit(t.tables));
    CHECK(text == "accelerator,op,pass,dtype,rows,size_kernels,size_mean,size_p90,shape_kernels,shape_mean,shape_p90\n"
                  "G-1,gemm,forward,bf16,2,,,,2,0.225,\n");
}

TEST_CASE("the spread of a cost from other shapes is the error that leaving shapes out showed")
{
    SyntheticTables t{"s,G-1,gemm,forward,bf16,4096,512,256,,,,,,,,80,,ok\n"};
    auto const op = product({4096, 1024, 256}, Precision::bf16);
    Tables tables = t.tables;
    CHECK(CostModel(tables, tables.accelerator("G-1")).cost(op, {}).spread == Approx(0.12));
    tables.fits.push_back({"G-1", OpKind::gemm, Pass::forward, Precision::bf16, {}, 0.3});
    CHECK(CostModel(tables, tables.accelerator("G-1")).cost(op, {}).spread == Approx(0.3));
    auto const exact = product({4096, 512, 256}, Precision::bf16);
    CHECK(CostModel(tables, tables.accelerator("G-1")).cost(exact, {}).spread == Approx(0.05));
}

TEST_CASE("the shipped fit.csv is what the shipped tables give")
{
    std::string const folder = TRAINFARE_SOURCE_DIR "/calibrate/tables";
    std::ifstream file{folder + "/fit.csv", std::ios::binary};
    std::ostringstream shipped;
    shipped << file.rdbuf();
    CHECK(shipped.str() == to_csv(fit(load_tables(folder))));
}
