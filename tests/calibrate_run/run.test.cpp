// SPDX-License-Identifier: Apache-2.0
//
// Whole runs on the host back-end: written, interrupted, torn, resumed, read back, and used.
#include <algorithm>
#include <numeric>

#include "calibrate/cost.hpp"
#include "calibrate/run/closure.hpp"
#include "calibrate/run/runner.hpp"
#include "calibrate/run/show.hpp"
#include "model/ops.hpp"
#include "tests/calibrate_run/tiny.hpp"
#include "tests/catch.hpp"

namespace trainfare::measure {

namespace {

RunStart start_of(std::vector<Point> const& points)
{
    return {"cpu", plan_hash(points), "a host", "2026-01-01", {{"device_name", "host"}}};
}

/// Runs until @p most points were measured.
Ended run_some(std::string const& out, Request const& request, std::vector<Point> const& points, int most)
{
    auto const backend = kernels::make_host_backend(false);
    auto const telemetry = make_telemetry("");
    Journal journal{out, start_of(points)};
    RunOptions options;
    options.out = out, options.quiet = true, options.meter = {0, 0, 1, 1}, options.step_repeats = 1;
    int asked = 0;
    options.interrupted = [&] { return asked++ >= most; };
    return run_points({*backend, host_accelerator(), 32, {0, 1e9, 1}, *telemetry}, request, points, journal, options);
}

std::vector<std::string> keys_of(std::string const& folder)
{
    std::vector<std::string> out;
    for (char const* file : {"/ops.csv", "/conditions.csv"}) {
        auto const table = read_csv(folder + file);
        for (std::size_t i = 0; i < table.rows(); ++i) out.push_back(table.need_text(i, "point"));
    }
    std::sort(out.begin(), out.end());
    return out;
}

constexpr int all = 1 << 20;

} // namespace

TEST_CASE("a run that is interrupted, and whose last row is torn, goes on and ends with each point once")
{
    Folder const folder{"resume"};
    auto const request = tiny_request();
    auto const points = make_points(request);
    CHECK(run_some(folder.path(), request, points, 40) == Ended::interrupted);
    auto const text = folder.text("ops.csv");
    auto const before = keys_of(folder.path()).size();
    folder.write("ops.csv", text.substr(0, text.size() - 7)); // killed while it wrote
    CHECK(run_some(folder.path(), request, points, 3) == Ended::interrupted);
    CHECK(keys_of(folder.path()).size() == before - 1 + 3);
    CHECK(run_some(folder.path(), request, points, all) == Ended::finished);

    std::vector<std::string> wanted{"closure step_passes bf16 of 32 tokens", "closure step_update bf16 of 32 tokens"};
    for (auto const& p : points) wanted.push_back(p.key());
    std::sort(wanted.begin(), wanted.end());
    CHECK(keys_of(folder.path()) == wanted);
    auto const runs = read_csv(folder.file("runs.csv"));
    CHECK(runs.rows() == 3);

    SECTION("every operation that a host can run passes its check")
    {
        for (auto const& row : read_rows(folder.path())) {
            INFO(row.point.key() << ": " << row.note);
            CHECK((row.status == "ok" || row.status == "unsupported"));
            bool const needs_gpu =
                row.point.comm_sms > 0 || row.point.method.starts_with("pcie") || row.point.method == "step";
            if (row.status == "unsupported")
                CHECK(needs_gpu);
            else
                CHECK(row.timing.median > 0);
        }
    }
    SECTION("another plan must not be mixed into the folder")
    {
        auto other = request;
        other.ep = 2;
        CHECK_THROWS_WITH(Journal(folder.path(), start_of(make_points(other))), Catch::Contains("another plan"));
        auto same = start_of(points);
        same.accelerator = "H100-SXM";
        CHECK_THROWS_WITH(Journal(folder.path(), same), Catch::Contains("rows of \"cpu\""));
    }
    SECTION("rows load as tables, and the model's own operations cost exactly what was measured")
    {
        Folder const tables_folder{"tables"};
        tables_folder.write("sources.csv", "source_id,provenance,title\nhardware,published,A part\n");
        tables_folder.write(
            "hardware.csv",
            "accelerator,dense_bf16_tflops,dense_fp8_tflops,hbm_gb,hbm_tb_per_s,sm_count\ncpu,100,100,80,100,32\n");
        tables_folder.write("ops.csv", "source_id,accelerator,op,dtype,tflops,gbps,status\n");
        tables_folder.write("coll.csv", "source_id,op,bw_gbps,bw_kind\n");
        tables_folder.write("rates.csv", "source_id,accelerator,precision,quantity,value,unit,spread\n");
        auto const tables = load_tables(tables_folder.path(), {folder.path()});
        CostModel const model{tables, tables.accelerator("cpu")};
        auto const rows = read_rows(folder.path());
        int compared = 0;
        for (auto const& p : points) {
            if (p.op.kind != OpKind::gemm || p.op.pass == Pass::dgrad)
                continue; // forward rows of that shape would join in
            for (auto const& row : rows)
                if (row.point.plain() && row.status == "ok" && row.point.key() == p.key()) {
                    auto const cost = model.cost(p.op, {});
                    CHECK(cost.quality == Quality::exact);
                    CHECK(cost.time.value() == Approx(row.seconds()).epsilon(0.001).margin(3e-6)); // a launch gap more
                    ++compared;
                }
        }
        CHECK(compared > 20);
    }
    SECTION("the closure names what it compares, and show says what there is")
    {
        auto const rows = read_rows(folder.path());
        auto const report =
            closure(rows, request, Precision::bf16, folder.path());
        CHECK(report.missing.empty());
        CHECK(report.measured_s > 0);
        CHECK(report.predicted_s() > 0);
        std::ostringstream out;
        show(out, rows, load_tables(default_tables_folder()));
        CHECK(out.str().find("expert_gemm wgrad fp8_block") != std::string::npos);
        CHECK(out.str().find("drift           5 points") != std::string::npos);
        CHECK_THROWS_WITH(
            closure(rows, request, Precision::fp8_block, folder.path()),
            Catch::Contains("no real step in fp8_block"));
    }
}

TEST_CASE("a result that is wrong becomes a row that is never used")
{
    Point p;
    p.group = Group::dense, p.method = "gemm";
    p.op.m = p.op.n = p.op.k = 64, p.op.flops = Flops{2.0 * 64 * 64 * 64}, p.op.bytes = Bytes{3.0 * 64 * 64 * 2};
    Row row;
    row.point = p, row.status = "failed_check", row.rel_err = 0.5, row.timing.median = 1e-6, row.impl = "host";
    Folder const folder{"failed"};
    {
        Journal journal{folder.path(), start_of({p})};
        journal.append(row);
    }
    Tables tables;
    add_measured(tables, folder.path());
    CHECK(tables.ops.empty());
    auto const back = read_rows(folder.path());
    REQUIRE(back.size() == 1);
    CHECK(back.front().status == "failed_check");
    CHECK(back.front().rel_err == 0.5);
}

TEST_CASE("a folder that is not ours is left alone")
{
    Folder const folder{"foreign"};
    folder.write("ops.csv", "a,b\n1,2\n");
    CHECK_THROWS_AS(Journal(folder.path(), start_of({})), InputError);
    CHECK(folder.text("ops.csv") == "a,b\n1,2\n");
    CHECK_THROWS_AS(Journal("/proc/nowhere", start_of({})), InputError);
}

TEST_CASE("quantiles are interpolated")
{
    CHECK(quantile({1, 2, 3, 4}, 0.5) == 2.5);
    CHECK(quantile({7}, 0.9) == 7);
}

} // namespace trainfare::measure
