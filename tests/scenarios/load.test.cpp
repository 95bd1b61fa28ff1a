// SPDX-License-Identifier: Apache-2.0
//
// Reading scenarios: what a file says arrives, and what it says wrongly is refused with its place and a way out.
#include "scenarios/load.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include <unistd.h>

#include "calibrate/csv.hpp"
#include "model/units.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

namespace fs = std::filesystem;

std::string const examples = TRAINFARE_SOURCE_DIR "/scenarios/examples/";

/// A folder of its own, removed at the end.
class Folder {
public:
    Folder() : path_{fs::temp_directory_path() / ("trainfare-load-" + std::to_string(::getpid()))}
    {
        fs::create_directories(path_);
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(Folder const&) = delete;
    Folder& operator=(Folder const&) = delete;
    [[nodiscard]] std::string write(std::string const& name, std::string const& text) const
    {
        std::ofstream{path_ / name, std::ios::binary} << text;
        return (path_ / name).string();
    }

private:
    fs::path path_;
};

/// A small sound scenario; @p more is appended, @p plan goes into its plan.
std::string sound(std::string const& plan = "", std::string const& more = "")
{
    return "version = 1\n[model]\nconfig = \"models/mixtral-8x7b.json\"\n[cluster]\ngpu = \"H100-SXM\"\ngpus = 64\n"
           "[prices]\nrental = \"2 USD/GPU-hour\"\n[plan]\nglobal_batch = 256\nseq_len = 4096\nep = 8\nzero = 1\n" +
           plan + "\n[[run.phase]]\nname = \"all\"\ntokens = \"1T\"\n" + more;
}

std::string refused(std::string const& path, std::vector<std::string> const& overrides = {})
{
    try {
        load_scenario(path, overrides);
    } catch (InputError const& error) {
        return error.what();
    }
    return "(accepted)";
}

std::string refused_text(std::string const& text, std::vector<std::string> const& overrides = {})
{
    Folder const folder;
    return refused(folder.write("s.toml", text), overrides);
}

bool has(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

std::string from_of(Scenario const& s, std::string const& key)
{
    for (auto const& line : s.resolved)
        if (line.key == key) return line.from;
    return "(no such key)";
}

} // namespace

TEST_CASE("every shipped example can be read")
{
    int count = 0;
    for (auto const& entry : fs::directory_iterator{examples}) {
        if (entry.path().extension() != ".toml") continue;
        INFO(entry.path().string());
        CHECK(refused(entry.path().string()) == "(accepted)");
        ++count;
    }
    CHECK(count >= 6);
}

TEST_CASE("the DeepSeek-V3 example is the published plan")
{
    auto const s = load_scenario(examples + "deepseek-v3-h800.toml");
    CHECK(s.name == "DeepSeek-V3 on 2,048 H800");
    CHECK(s.plan.pp == 16);
    CHECK(s.plan.ep == 64);
    CHECK(s.plan.dp == 128);
    CHECK(s.plan.micro_batches() == 120);
    CHECK(s.plan.schedule == ScheduleKind::dualpipe);
    CHECK(s.plan.recompute.moe_act);
    CHECK_FALSE(s.plan.recompute.moe);
    CHECK(s.plan.moment_dtype == DType::bf16);
    CHECK(s.card_active_parameters == 37e9);
    REQUIRE(s.run.phases.size() == 3);
    CHECK(s.run.phases[0].tokens == 14.8e12);
    CHECK(s.run.phases[0].ramp_from == 3072);
    CHECK(s.run.phases[1].published_gpu_hours == 119e3);
    CHECK(s.price.value / units::usd_per_gpu_hour == Approx(2));
    CHECK(s.cluster.scale_up / units::GBps == Approx(160)); // payload, published
    CHECK(s.cluster.nic < 50 * units::GBps);                // below the line rate
    CHECK_FALSE(s.cluster.provenance.empty());
}

TEST_CASE("the H100 example differs from the H800 one only by accelerator and price")
{
    auto const a = load_scenario(examples + "deepseek-v3-h800.toml"),
               b = load_scenario(examples + "deepseek-v3-h100.toml");
    std::set<std::string> differ;
    REQUIRE(a.resolved.size() == b.resolved.size());
    for (std::size_t i = 0; i < a.resolved.size(); ++i) {
        REQUIRE(a.resolved[i].key == b.resolved[i].key);
        if (a.resolved[i].value != b.resolved[i].value) differ.insert(a.resolved[i].key);
    }
    CHECK(differ == std::set<std::string>{"name", "cluster.gpu", "cluster.nvlink", "prices.rental", "prices.low",
                                          "prices.high", "prices.provenance"});
}

TEST_CASE("the default scenario names every key that is read, and can be read")
{
    Folder const folder;
    auto const text = default_scenario_toml();
    auto const s = load_scenario(folder.write("default.toml", text));
    for (auto const& line : s.resolved) {
        INFO(line.key);
        CHECK(line.from.find("default.toml:") != std::string::npos); // nothing was left to a default
    }
    CHECK(s.name == "default");
}

TEST_CASE("H100 prices are the median and quartiles of the shipped table")
{
    auto const table = read_csv(TRAINFARE_SOURCE_DIR "/scenarios/prices/prices.csv");
    std::vector<double> all;
    for (std::size_t i = 0; i < table.rows(); ++i) {
        auto const term = table.text(i, "term").value_or(""), date = table.text(i, "date").value_or("");
        bool const wanted = term == "on_demand" || term.starts_with("reserved");
        if (table.text(i, "accelerator") == "H100-SXM" && wanted && date >= "2024-01" && date <= "2025-12")
            if (auto const usd = table.number(i, "usd_per_gpu_hour")) all.push_back(*usd);
    }
    std::sort(all.begin(), all.end());
    REQUIRE(all.size() == 20);
    auto const quantile = [&](double q) {
        double const at = q * 19;
        auto const i = static_cast<std::size_t>(at);
        return all[i] + (at - std::floor(at)) * (all[std::min<std::size_t>(i + 1, 19)] - all[i]);
    };
    auto const price = load_scenario(examples + "deepseek-v3-h100.toml").price;
    CHECK(price.value / units::usd_per_gpu_hour == Approx(quantile(0.5)).margin(0.0051));
    CHECK(price.low / units::usd_per_gpu_hour == Approx(quantile(0.25)).margin(0.0051));
    CHECK(price.high / units::usd_per_gpu_hour == Approx(quantile(0.75)).margin(0.0051));
}

TEST_CASE("GLM-130B, written as sizes, has 128.7 billion parameters")
{
    auto const model = load_model(TRAINFARE_SOURCE_DIR "/scenarios/models/glm-130b.toml");
    CHECK(count_parameters(model).total == Approx(128.7e9).epsilon(0.001));
    CHECK(model.layers.size() == 70);
    CHECK(model.tied_embeddings);
}

TEST_CASE("a model written as sizes counts like its config.json")
{
    auto const written = R"(version = 1
[model]
type = "toml"
name = "V3"
hidden = 7168
layers = 61
vocab = 129280
heads = 128
kv_rank = 512
q_rank = 1536
nope_dim = 128
rope_dim = 64
v_dim = 128
ffn = 18432
first_dense = 3
experts = 256
top_k = 8
expert_ffn = 2048
shared_ffn = 2048
expert_groups = 8
top_groups = 4
)";
    Folder const folder;
    auto const a = count_parameters(load_model(folder.write("v3.toml", written)));
    auto const b = count_parameters(load_model(TRAINFARE_SOURCE_DIR "/scenarios/models/deepseek-v3.json"));
    CHECK(a.total == Approx(b.total).epsilon(1e-6)); // the router's 256 correction biases a layer are not sizes
    CHECK(a.matrix == b.matrix);
}

TEST_CASE("overrides come last and bare words are text")
{
    auto const file = examples + "deepseek-v3-h800.toml";
    auto const s = load_scenario(file, {"plan.zero=2", "cluster.gpu=H100-SXM", "cluster.nic=200 Gb/s",
                                        "run.phase.0.tokens=1T", "plan.recompute_modules=[norm, moe_act]"});
    CHECK(s.plan.zero == 2);
    CHECK(s.cluster.gpu.key == "H100-SXM");
    CHECK(s.run.phases[0].tokens == Approx(1e12));
    CHECK_FALSE(s.plan.recompute.mla_up_proj);
    CHECK(from_of(s, "plan.zero") == "--set plan.zero");
    CHECK(from_of(s, "cluster.placement") == "default");
    CHECK(from_of(s, "plan.pp") == "examples/parts/deepseek-v3-training.toml:12");
    CHECK(has(refused(file, {"plan.pp=three"}), "--set plan.pp: plan.pp = \"three\" is text, not a whole number"));
    CHECK(has(refused(file, {"plan.qq=3"}), "--set plan.qq: unknown key 'plan.qq'"));
    CHECK(has(refused(file, {"plan.pp"}), "has no '='"));
    CHECK(has(refused(file, {"run.phase.9.tokens=1T"}), "is not one of the 3 entries"));
    CHECK(has(refused(file, {"name.x.y=1"}), "--set name.x.y"));
}

TEST_CASE("data parallelism is what the GPUs leave")
{
    Folder const folder;
    auto const s = load_scenario(folder.write("s.toml", sound("tp = 2\nsp = true")));
    CHECK(s.plan.dp == 32);
    CHECK(has(from_of(s, "plan.dp"), "derived"));
}

TEST_CASE("a misspelt key names the nearest one and its place")
{
    CHECK(has(refused_text(sound("micro_bach = 1")),
              "s.toml:14:1: unknown key 'plan.micro_bach'; did you mean 'micro_batch'?"));
    CHECK(has(refused_text("version = 1\n[modle]\n"), ":2:2: unknown key 'modle'; did you mean 'model'?"));
    CHECK(has(refused_text("version = 1\n[model]\nconfg = \"x\"\n"), "did you mean 'config'?"));
}

TEST_CASE("wrong types, missing units and ranges are refused with the place and an example")
{
    CHECK(has(refused_text(sound("pp = \"four\"")), ":14:1: plan.pp = \"four\" is text, not a whole number"));
    CHECK(has(refused_text(sound("pp = 99999999999")), "is not between 1 and"));
    CHECK(has(refused_text(sound("pp = 99999999999999999999")), "not valid TOML"));
    CHECK(has(refused_text(sound("", "provenance = 3\n")), "is a whole number, not text"));
    CHECK(has(refused_text(sound("schedule = \"dualpip\"")), "try \"dualpipe\""));
    CHECK(has(refused_text(sound("", "[assumptions]\nload_cv = nan\n")), "is not between"));
    auto bare = sound();
    bare.replace(bare.find("gpus = 64"), 9, "gpus = 64\nnic = 400");
    CHECK(
        has(refused_text(bare),
            "s.toml:7:1: cluster.nic = 400 is a whole number, not text (a bare number has no unit); try \"400 Gb/s\""));
    bare = sound();
    bare.replace(bare.find("gpus = 64"), 9, "gpus = 64\nnic = \"400 GB\"");
    CHECK(has(refused_text(bare), "cluster.nic"));
    CHECK(has(refused_text("version = 2\n"), "version = 2 is not between 1 and 1"));
    CHECK(has(refused_text(""), "version is missing"));
}

TEST_CASE("all broken rules of plan and cluster are told at once")
{
    auto const text = refused_text(sound("pp = 3\nvpp = 7\netp = 5"));
    CHECK(std::count(text.begin(), text.end(), '\n') >= 1);
    CHECK(has(text, "s.toml:16:1: plan.etp"));
}

TEST_CASE("includes are read beside the file, bounded and never in a circle")
{
    Folder const folder;
    (void)folder.write("a.toml", "include = \"b.toml\"\n");
    (void)folder.write("b.toml", "include = \"a.toml\"\n");
    CHECK(has(refused(folder.write("s.toml", "version = 1\ninclude = \"a.toml\"\n")), "includes itself"));
    CHECK(has(refused(folder.write("t.toml", "version = 1\ninclude = \"nowhere.toml\"\n")),
              ":2:1: cannot find \"nowhere.toml\""));
    for (int i = 0; i < 12; ++i)
        (void)folder.write("d" + std::to_string(i) + ".toml", "include = \"d" + std::to_string(i + 1) + ".toml\"\n");
    CHECK(has(refused(folder.write("u.toml", "version = 1\ninclude = \"d0.toml\"\n")), "nested more than 8 deep"));
    std::string many = "version = 1\ninclude = [";
    for (int i = 0; i < 100; ++i) many += "\"clusters/h800-2048.toml\",";
    CHECK(has(refused(folder.write("v.toml", many + "]\n")), "more than 64 files"));
}

TEST_CASE("hostile files are refused at once")
{
    CHECK(has(refused_text(std::string(5'000'000, 'a')), "larger than 4 MB"));
    CHECK(has(refused_text(std::string("version = 1\na = \"\0\"", 19)), ":2: has a NUL byte"));
    CHECK(has(refused_text("version = 1\na = " + std::string(100'000, '[')), "nested more than"));
    std::string dotted = "a";
    for (int i = 0; i < 100'000; ++i) dotted += ".a";
    CHECK(has(refused_text(dotted + " = 1"), "more than 16 parts"));
    CHECK(has(refused_text("version = 1\nname = \"\xff\xfe\"\n"), "not valid TOML"));
    CHECK(has(refused_text("version = 1\nversion = 1\n"), "not valid TOML"));
    CHECK(has(refused("/nonexistent/file.toml"), "cannot be opened"));
    CHECK(has(refused("/"), "/"));
    CHECK(has(refused("/dev/zero"), "not a regular file"));
}
