// SPDX-License-Identifier: Apache-2.0
//
// Factors of running side by side, by hand on round numbers and on the shipped tables.
#include <cmath>
#include <string>

#include "calibrate/cost.hpp"
#include "model/routing.hpp"
#include "tests/calibrate/synthetic_tables.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

std::string gemm(char const* gpu, char const* dtype, int m, int n, int comm_sms, double tflops)
{
    return std::string{"s,"} + gpu + ",gemm,," + dtype + "," + std::to_string(m) + "," + std::to_string(n) +
           ",256,,,,,,," + (comm_sms > 0 ? std::to_string(comm_sms) : "") + "," + std::to_string(tflops) + ",,ok\n";
}

Contention derive(SyntheticTables const& t, char const* gpu = "G-1")
{
    return derive_contention(t.tables, t.tables.accelerator(gpu));
}

/// A dispatch of 4,096 tokens of 7,168 numbers over 64 GPUs in 8 nodes, alone at 50 GB/s logical.
std::string const bench = "s,G-1,ep_dispatch,64,8,4096,7168,,50,logical,\n";

double alone_us()
{
    Experts const routing{256, 8, 0, 0, 8, 4, 0};
    return expected_reach(routing, 64, 8).domains * 4096 * 7168 * (1 + 4.0 / 128) / 50e9 * 1e6;
}

std::string trace(double us) { return "s,G-1,ep_dispatch,64,8,4096,7168," + std::to_string(us) + ",,,20\n"; }

} // namespace

TEST_CASE("without pairs both contention factors are 1")
{
    SyntheticTables const t{gemm("G-1", "bf16", 4096, 512, 0, 80) + gemm("G-1", "bf16", 4096, 1024, 20, 60), bench};
    auto const c = derive(t);
    CHECK((c.matrix == 1 && c.matrix_pairs == 0 && c.matrix_spread == 0));
    CHECK((c.exchange == 1 && c.exchange_pairs == 0 && c.exchange_spread == 0));
}

TEST_CASE("the matrix factor is the geometric mean over kernels of what the SMs' share leaves unexplained")
{
    // alone 100 and 50; beside 20 of 100 SMs 64 and 36: 64 / 80 = 0.8 and 36 / 40 = 0.9
    SyntheticTables const t{gemm("G-1", "bf16", 4096, 512, 0, 100) + gemm("G-1", "bf16", 4096, 512, 20, 64) +
                            gemm("G-1", "bf16", 4096, 1024, 0, 50) + gemm("G-1", "bf16", 4096, 1024, 20, 36)};
    auto const c = derive(t);
    CHECK(c.matrix == Approx(std::sqrt(0.8 * 0.9)));
    CHECK(c.matrix_pairs == 2);
    double const deviation = std::log(0.9 / 0.8) / std::sqrt(2.0); // of two values
    CHECK(c.matrix_spread == Approx(1.645 * deviation / std::sqrt(2.0)));
    CHECK(derive(t, "G-1X").matrix == c.matrix); // same die
    CHECK(derive(t, "G-1S").matrix == derive(t, "G-1").matrix); // another die borrows it ...
    CHECK(derive(t, "G-1S").matrix_spread > derive(t, "G-1").matrix_spread); // ... and is less sure
}

TEST_CASE("repeated timings of a kernel count as one kernel")
{
    SyntheticTables const t{gemm("G-1", "bf16", 4096, 512, 0, 80) + gemm("G-1", "bf16", 4096, 512, 0, 125) +
                            gemm("G-1", "bf16", 4096, 512, 20, 64)};
    auto const c = derive(t);
    CHECK(c.matrix_pairs == 1);
    CHECK(c.matrix == Approx(0.8)); // sqrt(80 x 125) = 100
}

TEST_CASE("small products and other precisions make no pair")
{
    SyntheticTables const small{gemm("G-1", "bf16", 128, 512, 0, 100) + gemm("G-1", "bf16", 4096, 512, 20, 40)};
    CHECK(derive(small).matrix_pairs == 0);
    SyntheticTables const mixed{gemm("G-1", "fp8_block", 4096, 512, 0, 160) + gemm("G-1", "bf16", 4096, 512, 20, 64)};
    CHECK(derive(mixed).matrix_pairs == 0);
}

TEST_CASE("running beside communication never speeds a product up")
{
    SyntheticTables const t{gemm("G-1", "bf16", 4096, 512, 0, 80) + gemm("G-1", "bf16", 4096, 512, 20, 70)};
    CHECK(derive(t).matrix == 1); // 70 / 64 would be 1.09
}

TEST_CASE("the exchange factor is time in a trace over the benchmark's time for the same bytes")
{
    auto const ops = gemm("G-1", "bf16", 4096, 512, 0, 80);
    SyntheticTables const t{ops, bench + trace(2 * alone_us()) + trace(1.5 * alone_us())};
    auto const c = derive(t);
    CHECK(c.exchange == Approx(std::sqrt(2 * 1.5)).epsilon(1e-4));
    CHECK(c.exchange_pairs == 2);
    CHECK(derive(t, "G-1X").exchange == c.exchange);
    CHECK(derive(t, "G-1S").exchange == derive(t, "G-1").exchange);
    CHECK(derive(t, "G-1S").exchange_spread > derive(t, "G-1").exchange_spread);
}

TEST_CASE("an exchange faster in the trace than alone counts as uncontended, one of other tokens not at all")
{
    auto const ops = gemm("G-1", "bf16", 4096, 512, 0, 80);
    SyntheticTables const fast{ops, bench + trace(0.9 * alone_us())};
    CHECK(derive(fast).exchange == 1);
    CHECK(derive(fast).exchange_pairs == 1);
    SyntheticTables const other{ops, bench + "s,G-1,ep_dispatch,64,8,8192,7168,5000,,,20\n"};
    CHECK(derive(other).exchange_pairs == 0);
}

TEST_CASE("DeepSeek's layer trace against DeepGEMM and DeepEP: products at 0.88, exchanges 1.7 times as long")
{
    auto const tables = load_tables(TRAINFARE_SOURCE_DIR "/calibrate/tables");
    auto const c = derive_contention(tables, tables.accelerator("H800-SXM"));
    CHECK(c.matrix == Approx(0.88).margin(0.01));
    CHECK(c.matrix_pairs == 6);
    CHECK(c.matrix_spread < 0.1);
    CHECK(c.exchange == Approx(1.7).margin(0.02));
    CHECK(c.exchange_pairs == 3);
    auto const h100 = derive_contention(tables, tables.accelerator("H100-SXM"));
    CHECK(h100.matrix == c.matrix);
    CHECK(derive_contention(tables, tables.accelerator("H20-96G")).matrix_spread > 0.1); // borrowed
}
