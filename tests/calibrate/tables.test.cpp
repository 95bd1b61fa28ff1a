// SPDX-License-Identifier: Apache-2.0
//
// The shipped calibration tables, and broken ones.
#include "calibrate/tables.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "calibrate/csv.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

namespace fs = std::filesystem;

std::string const shipped = TRAINFARE_SOURCE_DIR "/calibrate/tables";

Tables const& tables()
{
    static Tables const loaded = load_tables(shipped);
    return loaded;
}

/// Small valid tables in a folder of their own, any of which a test may replace.
class Folder {
public:
    Folder() : path_{fs::temp_directory_path() / ("trainfare-tables-" + std::to_string(::getpid()))}
    {
        fs::create_directories(path_);
        write("sources.csv", "source_id,provenance,title\ns,measured,A run\n");
        write("hardware.csv", "accelerator,dense_bf16_tflops,hbm_gb,hbm_tb_per_s\nG-1,100,80,2\n");
        write("ops.csv", ops + "s,G-1,gemm,bf16,70,,ok\n");
        write("coll.csv", coll + "s,all_reduce,100,bus\n");
        write("rates.csv", rates + "s,*,*,gemm,0.7,peak,0.1\n");
    }
    ~Folder() { fs::remove_all(path_); }
    Folder(Folder const&) = delete;
    Folder& operator=(Folder const&) = delete;

    void write(char const* file, std::string const& text) const
    {
        std::ofstream{path_ / file, std::ios::binary} << text;
    }
    [[nodiscard]] std::string path() const { return path_.string(); }
    [[nodiscard]] std::string message() const
    {
        try {
            static_cast<void>(load_tables(path()));
        } catch (InputError const& error) {
            return error.what();
        }
        return "no error";
    }

    inline static std::string const ops = "source_id,accelerator,op,dtype,tflops,gbps,status\n";
    inline static std::string const coll = "source_id,op,bw_gbps,bw_kind\n";
    inline static std::string const rates = "source_id,accelerator,precision,quantity,value,unit,spread\n";

private:
    fs::path path_;
};

bool holds(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("the shipped tables load, and every row has a source that exists")
{
    auto const& t = tables();
    CHECK(t.ops.size() > 1000);
    CHECK(t.collectives.size() > 150);
    CHECK(t.rates.size() > 50);
    CHECK(t.accelerators.size() > 30);
    auto const known = [&](int source) { return source >= 0 && source < static_cast<int>(t.sources.size()); };
    for (auto const& row : t.ops) CHECK(known(row.source));
    for (auto const& row : t.collectives) CHECK(known(row.source));
    for (auto const& row : t.rates) CHECK(known(row.source));
}

TEST_CASE("an H800 is an H100 with 160 of 200 GB/s NVLink")
{
    auto const& h800 = tables().accelerator("H800-SXM");
    CHECK(h800.variant_of == "H100-SXM");
    CHECK(h800.scale_up->value() == Approx(200e9));
    CHECK(h800.scale_up_measured->value() == Approx(160e9));
    CHECK(h800.nic->value() == Approx(50e9));
    CHECK(h800.bf16->value() == Approx(989e12));
    CHECK(h800.fp8->value() == Approx(1979e12));
    CHECK(h800.memory.value() == Approx(80e9));
    CHECK(h800.memory_bandwidth.value() == Approx(3.35e12));
    CHECK(h800.sms == 132);
    CHECK_FALSE(h800.fp4);
    CHECK_FALSE(tables().accelerator("L40S").scale_up);
    CHECK(tables().accelerator("GB200-NVL72").scale_up_gpus == 72);
}

TEST_CASE("no shipped matrix product runs above the peak of its accelerator")
{
    for (auto const& row : tables().ops) {
        auto const& gpu = tables().accelerator(row.accelerator);
        auto const peak = gemm_dtype(row.precision) == DType::fp8 ? gpu.fp8 : gpu.bf16;
        if (!peak || !is_matrix(row.kind)) continue;
        INFO(row.place.text());
        CHECK(row.rate.value() <= peak->value());
    }
}

TEST_CASE("shipped rates agree with their times where both are published")
{
    int checked = 0;
    for (auto const& row : tables().ops) {
        if (!row.time || row.kind == OpKind::head) continue;
        double flops = 2.0 * double(row.m) * double(row.n) * double(row.k) * row.groups;
        if (row.kind == OpKind::attention) {
            if (row.batch == 0 || row.heads == 0) continue;
            double const width =
                row.pass == Pass::dgrad ? 2.0 * (3 * row.qk_dim + 2 * row.v_dim) : 2.0 * (row.qk_dim + row.v_dim);
            flops = double(row.batch) * double(row.seq) * double(row.seq) * row.heads * width * (row.causal ? 0.5 : 1);
        }
        INFO(row.place.text());
        CHECK(flops / row.time->value() ==
              Approx(row.rate.value()).epsilon(0.07)); // times are printed with two digits in places
        ++checked;
    }
    CHECK(checked > 40);
}

TEST_CASE("rows timed beside 20 communicating SMs are the DeepSeek-V3 trace, 28 of them")
{
    int rows = 0;
    for (auto const& row : tables().ops)
        if (row.comm_sms > 0) {
            CHECK(row.comm_sms == 20);
            CHECK(tables().sources[static_cast<std::size_t>(row.source)].id == "deepseek-trace");
            ++rows;
        }
    CHECK(rows == 28);
}

TEST_CASE("of two DeepGEMM releases only the later one is used: 1,520 TFLOP/s for 4096 x 7168 x 16384")
{
    int found = 0;
    for (auto const& row : tables().ops)
        if (row.accelerator == "H800-SXM" && row.m == 4096 && row.n == 7168 && row.k == 16384 && row.comm_sms == 0) {
            CHECK(row.rate.value() == Approx(1520e12));
            CHECK(tables().sources[static_cast<std::size_t>(row.source)].id == "deepgemm-2025-04");
            ++found;
        }
    CHECK(found == 1);
}

TEST_CASE("a grouped product keeps its rows per group: 24,576 routed rows over 160 experts are 154")
{
    bool forward = false, gradient = false;
    for (auto const& row : tables().ops) {
        if (row.kind != OpKind::expert_gemm || row.groups != 160) continue;
        if (row.pass == Pass::forward && row.n == 3072) forward = row.m == 154 && row.k == 5120;
        if (row.pass == Pass::wgrad && row.n == 5120) gradient = row.m == 3072 && row.k == 154;
    }
    CHECK(forward);
    CHECK(gradient);
}

TEST_CASE("the most specific rate wins")
{
    Folder folder;
    folder.write(
        "rates.csv",
        Folder::rates +
            "s,*,*,gemm,0.1,peak,0\ns,*,bf16,gemm,0.2,peak,0\ns,G-1,*,gemm,0.3,peak,0\ns,G-1,fp16,gemm,0.4,peak,0\n");
    auto const t = load_tables(folder.path());
    CHECK(t.rate("G-1", Precision::fp16, "gemm")->value == 0.4);
    CHECK(t.rate("G-1", Precision::bf16, "gemm")->value == 0.3);
    CHECK(t.rate("other", Precision::bf16, "gemm")->value == 0.2);
    CHECK(t.rate("other", Precision::fp32, "gemm")->value == 0.1);
    CHECK(t.rate("G-1", Precision::bf16, "norm") == nullptr);
}

TEST_CASE("the shipped rates know every matrix class on every accelerator and recipe")
{
    for (auto const& [key, gpu] : tables().accelerators)
        for (auto const recipe :
             {Precision::bf16, Precision::fp8_tensor, Precision::fp8_block, Precision::mxfp8, Precision::nvfp4})
            for (auto const* quantity :
                 {"gemm", "gemm.wgrad", "expert_gemm", "expert_gemm.wgrad", "attention.dgrad", "head", "router"}) {
                INFO(key << " " << quantity);
                auto const* rate = tables().rate(key, recipe, quantity);
                REQUIRE(rate != nullptr);
                CHECK(rate->value > 0);
                CHECK(rate->value < 1);
                CHECK(rate->spread > 0);
            }
}

TEST_CASE("an unknown accelerator is answered with the nearest keys")
{
    for (auto const* wanted : {"h800", "H800-SMX", "H80-SXM", "h800-sxm"}) {
        INFO(wanted);
        try {
            static_cast<void>(tables().accelerator(wanted));
            FAIL("an error was expected");
        } catch (InputError const& error) {
            CHECK(holds(error.what(), "H800-SXM"));
        }
    }
    CHECK_THROWS_AS(tables().accelerator(std::string(100'000, 'x')), InputError);
    CHECK_THROWS_AS(tables().accelerator(""), InputError);
}

TEST_CASE("small tables of one's own load")
{
    Folder const folder;
    CHECK(folder.message() == "no error");
    auto const t = load_tables(folder.path());
    CHECK(t.ops.at(0).rate.value() == Approx(70e12));
    CHECK_FALSE(t.ops.at(0).pass);
    CHECK(t.accelerator("G-1").scale_up_gpus == 1);
}

TEST_CASE("a wrong word or number in a table is reported with its file and line")
{
    struct Case {
        char const* file;
        std::string text, expected;
    };
    for (auto const& [file, text, expected] : {
             Case{"ops.csv", Folder::ops + "s,G-1,gem,bf16,70,,ok\n", "ops.csv:2: column op: \"gem\" is unknown"},
             Case{"ops.csv", Folder::ops + "s,G-1,gemm,bf17,70,,ok\n", "column dtype"},
             Case{"ops.csv", Folder::ops + "s,G-2,gemm,bf16,70,,ok\n", "\"G-2\" is not in hardware.csv"},
             Case{"ops.csv", Folder::ops + "x,G-1,gemm,bf16,70,,ok\n", "source_id \"x\" is not in sources.csv"},
             Case{"ops.csv", Folder::ops + "s,G-1,gemm,bf16,,3,ok\n", "column tflops is empty"},
             Case{"ops.csv", Folder::ops + "s,G-1,norm,bf16,3,,ok\n", "column gbps is empty"},
             Case{"ops.csv", Folder::ops + "s,G-1,gemm,bf16,-1,,ok\n", "column tflops"},
             Case{"ops.csv", Folder::ops + "s,G-1,gemm,bf16,1e300,,ok\n", "column tflops"},
             Case{"ops.csv", Folder::ops + "s,G-1,gemm,bf16,70,,fine\n", "column status"},
             Case{"ops.csv", "source_id,op\n", "column \"accelerator\" is missing"},
             Case{"coll.csv", Folder::coll + "s,all_reduce,100,\n", "no bw_kind"},
             Case{"coll.csv", Folder::coll + "s,all_reduce,100,bits\n", "column bw_kind"},
             Case{"coll.csv", Folder::coll + "s,shout,100,bus\n", "column op"},
             Case{"coll.csv", Folder::coll + "s,all_reduce,,\n", "neither bw_gbps nor time_us"},
             Case{"rates.csv", Folder::rates + "s,*,*,gemm,1.7,peak,0.1\n", "cannot exceed 1"},
             Case{"rates.csv", Folder::rates + "s,*,*,gemm,0.7,percent,0.1\n", "column unit"},
             Case{"rates.csv", Folder::rates + "s,*,*,gemm,0.7,peak,1.5\n", "spread"},
             Case{"rates.csv", Folder::rates + "s,*,*,gemm,0.7,peak,0.1\ns,*,*,gemm,0.6,peak,0.1\n",
                  "rates.csv:3: repeats"},
             Case{"sources.csv", "source_id,provenance,title\ns,measured,A\ns,measured,B\n", "appears twice"},
             Case{"sources.csv", "source_id,provenance,title\ns,guessed,A\n", "column provenance"},
             Case{"hardware.csv", "accelerator,dense_bf16_tflops,hbm_gb,hbm_tb_per_s\nG-1,0,80,2\n", "not between"},
             Case{"hardware.csv", "accelerator,dense_bf16_tflops,hbm_gb,hbm_tb_per_s\nG-1,1,80,2\nG-1,1,80,2\n",
                  "appears twice"},
         }) {
        Folder const folder;
        folder.write(file, text);
        INFO(text);
        auto const message = folder.message();
        INFO(message);
        CHECK(holds(message, expected));
        CHECK(holds(message, file));
    }
}

TEST_CASE("a row that was not measured properly is left out, whatever else it holds")
{
    Folder const folder;
    folder.write("ops.csv", Folder::ops + "s,nowhere,anything,,,,oom\ns,G-1,gemm,bf16,70,,ok\n");
    CHECK(load_tables(folder.path()).ops.size() == 1);
}

TEST_CASE("a missing folder or table is an error")
{
    CHECK_THROWS_AS(load_tables("/nonexistent"), InputError);
    Folder const folder;
    fs::remove(fs::path{folder.path()} / "rates.csv");
    CHECK(holds(folder.message(), "rates.csv: no such file"));
}

TEST_CASE("the folder of tables is the chosen one, else the shipped one")
{
    ::setenv("TRAINFARE_TABLES", "/elsewhere", 1);
    CHECK(default_tables_folder() == "/elsewhere");
    ::unsetenv("TRAINFARE_TABLES");
    CHECK(fs::exists(fs::path{default_tables_folder()} / "ops.csv"));
}
