// SPDX-License-Identifier: Apache-2.0
//
// Reports of a result made by hand: every number can be checked by looking.
#include "scenarios/report.hpp"

#include <algorithm>
#include <sstream>

#include <nlohmann/json.hpp>

#include "scenarios/text_table.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

using Json = nlohmann::json;

Result sample()
{
    Result r;
    r.scenario.name = "sample, \"quoted\"";
    r.scenario.plan.global_batch = 64;
    r.scenario.cluster.gpu.key = "H800-SXM";
    r.scenario.cluster.gpus = 16;
    r.scenario.price.value = r.scenario.price.low = r.scenario.price.high = 2 * units::usd_per_gpu_hour;
    r.scenario.resolved = {{"name", "\"sample, \\\"quoted\\\"\"", "s.toml:2"}, {"plan.pp", "2", "s.toml:9"}};
    StageMemory stage;
    stage.weights = 10 * units::GB;
    stage.activations = 20 * units::GB;
    r.memory.stages = {stage, stage, stage};
    r.memory.stages[1].rank = 1;
    r.memory.stages[2].rank = 2;
    r.memory.stages[2].buffers = 5 * units::GB;
    r.memory.capacity = 40 * units::GB;
    r.fits = true;
    r.projection.step_time_s = {10, 9, 11};
    r.projection.days = {50, 45, 55};
    r.projection.gpu_hours = {1e6, 0.9e6, 1.1e6};
    r.projection.cost_usd = {2e6, 1.8e6, 2.2e6};
    r.projection.phases = {
        {"pre-training", 1e12, 1000, {1e6, 0.9e6, 1.1e6}, {50, 45, 55}, {2e6, 1.8e6, 2.2e6}, "simulated"}};
    r.causes.mean[static_cast<std::size_t>(Cause::compute)] = 8;
    r.causes.mean[static_cast<std::size_t>(Cause::bubble)] = 2;
    r.causes.slots = {1, 2, 3, 0.5, 3, 0.5};
    r.causes.exchange_busy = 4;
    r.causes.exchange_hidden = 3;
    r.slopes = {{"NVLink", 0.1, 0, "no effect: every exchange is hidden"}, {"FLOP/s", 0.1, -0.07, ""}};
    r.limited_by = "compute";
    r.flops = {1e9, 1.1e9, 1.2e9, 0.9e9};
    r.mfu_causal = 0.4;
    r.warnings = {"a warning"};
    return r;
}

std::string report(Result const& r)
{
    std::ostringstream out;
    print_report(out, r);
    return out.str();
}

bool has(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> lines(std::string const& text)
{
    std::vector<std::string> out;
    std::istringstream in{text};
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
}

} // namespace

TEST_CASE("the report begins with the answer: fits, days, GPU-hours, dollars with interval, limit")
{
    auto const all = lines(report(sample()));
    CHECK(all[0] == "sample, \"quoted\"");
    CHECK(all[1] ==
          "Fits, 5 GB free on the fullest GPU: 50.0 days, 1 M GPU-hours, $2 M [$1.8 M to $2.2 M]. Limited by compute.");
}

TEST_CASE("a plan that does not fit is said in capitals, with what is missing and where")
{
    auto r = sample();
    r.memory.capacity = 30 * units::GB;
    r.fits = false;
    CHECK(has(report(r), "DOES NOT FIT: pipeline rank 2 needs 35 GB and has 30 GB (5 GB missing)"));
}

TEST_CASE("shares of the step add up to 100 % and causes that take no time are left out")
{
    auto const text = report(sample());
    CHECK(has(text, "80.0 %"));
    CHECK(has(text, "20.0 %"));
    CHECK(has(text, "10.000  100.0 %"));
    CHECK_FALSE(has(text, "straggler"));
    CHECK(has(text, "busy 4.000 s, 75.0 % of that hidden"));
}

TEST_CASE("equal neighbours share a row of the memory table and the fullest is marked")
{
    auto const text = report(sample());
    CHECK(has(text, "0-1"));
    auto const all = lines(text);
    auto const fullest = std::find_if(all.begin(), all.end(), [](auto const& l) { return has(l, "<- fullest"); });
    REQUIRE(fullest != all.end());
    CHECK(has(*fullest, "35.00"));
}

TEST_CASE("a report has at most 110 columns and 100 lines, and no spaces at line ends")
{
    auto r = sample();
    r.scenario.name = std::string(300, 'n');
    r.scenario.price.provenance = std::string(300, 'p');
    r.slopes[0].words = std::string(300, 'w');
    for (int i = 0; i < 40; ++i)
        r.sources.push_back({"id", "published", std::string(200, 't'), "2025", "gemm", "exact", 0.01});
    for (int i = 0; i < 40; ++i) r.spreads.push_back({"rate", 0.1, 0.01, "source"});
    auto const all = lines(report(r));
    CHECK(all.size() <= 100);
    for (auto const& line : all) {
        INFO(line);
        CHECK(display_width(line) <= report_width);
        CHECK((line.empty() || line.back() != ' '));
    }
}

TEST_CASE("the price says what it leaves out")
{
    auto const text = report(sample());
    for (auto const& item : not_in_the_price()) CHECK(has(text, item.substr(0, 25)));
    CHECK(not_in_the_price().size() >= 6);
}

TEST_CASE("unknown power is a dash and not a zero")
{
    CHECK(has(report(sample()), "energy"));
    CHECK(has(report(sample()), "hardware.csv gives no power for H800-SXM"));
    CHECK_FALSE(Json::parse(to_json(sample())).contains("energy_kwh"));
}

TEST_CASE("JSON states schema, version, level and gives every projected quantity as value, low, high")
{
    auto const j = Json::parse(to_json(sample()));
    CHECK(j["schema"] == "trainfare/result");
    CHECK(j["version"] == 1);
    CHECK(j["level"] == 0.9);
    for (auto const* key : {"step_time_s", "gpu_hours", "days", "cost_usd"}) {
        CHECK(j[key].size() == 3);
        CHECK(j[key]["low"] <= j[key]["value"]);
        CHECK(j[key]["value"] <= j[key]["high"]);
    }
    CHECK(j["fits"] == true);
    CHECK(j["memory_bytes"].size() == 3);
    CHECK(j["memory_bytes"][2]["total"] == 35e9);
    CHECK(j["causes"]["compute"] == 8);
    CHECK(j["slots_s"]["bubble"] == 2);
    CHECK(j["warnings"][0] == "a warning");
    CHECK(j["scenario"]["keys"][1]["from"] == "s.toml:9");
    CHECK(j["phases"][0]["steps"] == 1000);
}

TEST_CASE("numbers in JSON read back as the same double")
{
    auto r = sample();
    r.projection.step_time_s.value = 0.1 + 0.2;
    CHECK(Json::parse(to_json(r))["step_time_s"]["value"].get<double>() == 0.1 + 0.2);
}

TEST_CASE("broken UTF-8 in a name does not break JSON")
{
    auto r = sample();
    r.scenario.name = "\xff\xfe";
    CHECK_NOTHROW(Json::parse(to_json(r)));
}

TEST_CASE("CSV has one row a result, inputs before results, and quotes what needs it")
{
    std::ostringstream out;
    auto other = sample();
    other.scenario.resolved.push_back({"plan.vpp", "4", "s.toml:3"});
    write_csv(out, {sample(), other});
    auto const all = lines(out.str());
    REQUIRE(all.size() == 3);
    CHECK(all[0].rfind("name,plan.pp,plan.vpp,fidelity,fits,step_time_s,step_time_low_s,step_time_high_s", 0) == 0);
    CHECK(has(all[1], ",2,,folded,1,10,9,11,50,45,55,1e+06,"));
    CHECK(has(all[2], ",2,4,folded,"));
}

TEST_CASE("a comparison shows the difference, its causes and the inputs that differ")
{
    auto a = sample(), b = sample();
    b.scenario.name = "other";
    b.projection.step_time_s = {9, 8, 10};
    b.projection.cost_usd = {3e6, 2.7e6, 3.3e6};
    b.causes.mean[static_cast<std::size_t>(Cause::bubble)] = 1;
    b.scenario.resolved[1].value = "8";
    std::ostringstream out;
    print_comparison(out, {a, b});
    auto const text = out.str();
    CHECK(has(text, "-10.0 %"));
    CHECK(has(text, "+50.0 %"));
    CHECK(has(text, "-1.000"));
    CHECK(has(text, "plan.pp"));
    CHECK(has(text, "other: the step is 1.00 s shorter: bubble -1.000 s. Cost x 1.50 = GPU-hours x 1.00"));
    CHECK(has(text, "no effect: every exchange is hidden"));
}

TEST_CASE("many scenarios are compared in blocks that stay within the width")
{
    std::vector<Result> all(7, sample());
    std::ostringstream out;
    print_comparison(out, all);
    for (auto const& line : lines(out.str())) CHECK(display_width(line) <= report_width);
    CHECK(has(out.str(), "No input differs."));
}

TEST_CASE("a trace is JSON whose slices never overlap on one track")
{
    auto r = sample();
    auto timeline = std::make_shared<Timeline>();
    auto& it = timeline->iteration;
    it.problem.programs.resize(1);
    it.problem.groups.resize(1);
    ClassSeconds parts{};
    parts[0] = 1;
    it.segments = {parts};
    std::vector<TaskLabel> labels(4);
    labels[1].activity = Activity::dispatch;
    labels[2].activity = labels[3].activity = Activity::pipeline_send;
    labels[0].slot = 0;
    it.labels = {labels};
    for (std::size_t i = 0; i < labels.size(); ++i) {
        Task task;
        task.kind = i == 0 ? TaskKind::compute : TaskKind::communicate;
        it.problem.programs[0].add(task, {});
    }
    timeline->folded.problem = &it.problem;
    timeline->folded.representative = {0};
    timeline->folded.multiplicity = {1};
    timeline->run.classes = {{{0, 0.5, 1, 1.5}, {1, 1, 2, 3}}};
    r.timeline = timeline;

    std::ostringstream out;
    write_trace(out, r);
    auto const trace = Json::parse(out.str());
    std::vector<Json> slices;
    for (auto const& e : trace["traceEvents"])
        if (e["ph"] == "X") slices.push_back(e);
    REQUIRE(slices.size() == 4);
    CHECK(slices[0]["dur"] == 1e6);
    CHECK(slices[0]["args"]["expert_gemm_us"] == 1e6);
    CHECK(slices[0]["args"]["micro_batch"] == 0);
    for (auto const& a : slices)
        for (auto const& b : slices)
            if (a != b && a["tid"] == b["tid"])
                CHECK((a["ts"].get<double>() + a["dur"].get<double>() <= b["ts"].get<double>() ||
                       b["ts"].get<double>() + b["dur"].get<double>() <= a["ts"].get<double>()));
}

TEST_CASE("without a timeline the trace is an empty, valid one")
{
    std::ostringstream out;
    write_trace(out, sample());
    CHECK(Json::parse(out.str())["traceEvents"].empty());
}

TEST_CASE("long text is cut by characters and not by bytes")
{
    CHECK(cut("\u00b5\u00b5\u00b5\u00b5\u00b5", 5) == "\u00b5\u00b5\u00b5\u00b5\u00b5");
    CHECK(cut("\u00b5\u00b5\u00b5\u00b5\u00b5", 4) == "\u00b5...");
}

TEST_CASE("names that differ at their end stay apart when they are cut")
{
    CHECK(cut_front("DeepSeek-V3 on 2,048 H800", 13) == "...2,048 H800");
    CHECK(cut_front("\u00b5\u00b5\u00b5\u00b5\u00b5", 4) == "...\u00b5");
}
