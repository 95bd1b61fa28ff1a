// SPDX-License-Identifier: Apache-2.0
//
// Logs of nccl-tests and DeepEP, whole and broken. Fixtures are made up in the format of the tools.
#include "calibrate/import.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "calibrate/csv.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

std::string data(char const* file) { return std::string{TRAINFARE_SOURCE_DIR "/tests/calibrate/data/"} + file; }

/// A file with the given text, gone at the end of the test.
class Scratch {
public:
    explicit Scratch(std::string const& text)
        : path_{(std::filesystem::temp_directory_path() / ("trainfare-import-" + std::to_string(::getpid()))).string()}
    {
        std::ofstream{path_, std::ios::binary} << text;
    }
    ~Scratch() { std::filesystem::remove(path_); }
    Scratch(Scratch const&) = delete;
    Scratch& operator=(Scratch const&) = delete;
    [[nodiscard]] std::string const& path() const { return path_; }

private:
    std::string path_;
};

std::string everything(Imported const& imported)
{
    auto text = to_csv(imported, "run");
    for (auto const& note : imported.notes) text += note + "\n";
    return text;
}

std::string message(std::string const& path, int ranks = 8, int nodes = 1)
{
    try {
        static_cast<void>(import_nccl_tests(path, "H100-SXM", ranks, nodes));
    } catch (InputError const& error) {
        return error.what();
    }
    return "no error";
}

bool holds(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("the text table of nccl-tests becomes one row a size, without the rows that failed their check")
{
    auto const imported =
        import_nccl_tests(data("nccl_all_reduce.txt"), "H100-SXM", 4, 4); // the file knows better: 8 on 1
    REQUIRE(imported.rows.size() == 5);
    auto const& last = imported.rows.back();
    CHECK(last.operation == "all_reduce");
    CHECK(last.accelerator == "H100-SXM");
    CHECK(last.dtype == "fp32");
    CHECK(last.bw_kind == "bus");
    CHECK(last.ranks == 8);
    CHECK(last.nodes == 1);
    CHECK(last.message == Bytes{1073741824});
    CHECK(last.time->value() == Approx(5170.1e-6).epsilon(1e-3));
    CHECK(last.bandwidth->value() == Approx(363.4e9).epsilon(1e-3));
    CHECK(holds(everything(imported), "#wrong is 3"));
}

TEST_CASE("the JSON of nccl-tests gives its ranks, nodes and times, in-place where out-of-place is missing")
{
    auto const imported = import_nccl_tests(data("nccl_alltoall.json"), "H800-SXM", 1, 1);
    REQUIRE(imported.rows.size() == 3);
    for (auto const& row : imported.rows) {
        CHECK(row.operation == "all_to_all");
        CHECK(row.ranks == 16);
        CHECK(row.nodes == 2);
        CHECK(row.dtype == "bf16");
        CHECK(row.bandwidth->value() * row.time->value() == Approx(row.message->value() * 15 / 16));
    }
    CHECK(imported.rows.front().message == Bytes{8 << 20});
}

TEST_CASE("host names, the environment, paths and process ids never leave an import")
{
    for (auto const* file : {"nccl_alltoall.json", "nccl_all_reduce.txt"}) {
        auto const text = everything(import_nccl_tests(data(file), "H800-SXM", 8, 1));
        for (auto const* secret : {"secret", "hunter2", "jane", "4711", "4003", "0000:", "AWS"})
            CHECK_FALSE(holds(text, secret));
    }
}

TEST_CASE("what is imported reads back as a table")
{
    Scratch const file{to_csv(import_nccl_tests(data("nccl_all_reduce.txt"), "H100-SXM", 8, 1), "run-1")};
    auto const table = read_csv(file.path(), {"source_id", "op", "bytes", "time_us", "bw_gbps", "bw_kind"});
    CHECK(table.rows() == 5);
    CHECK(table.text(0, "source_id") == "run-1");
    CHECK(table.integer(0, "bytes") == 1048576);
    CHECK(table.number(0, "time_us") == Approx(27.03));
    CHECK_FALSE(table.text(0, "sms"));
}

TEST_CASE("a log cut off in a row keeps the rows before it and says which one is lost")
{
    auto const imported = import_nccl_tests(data("nccl_truncated.txt"), "H100-SXM", 8, 1);
    CHECK(imported.rows.size() == 2);
    CHECK(holds(everything(imported), "too few columns"));
}

TEST_CASE("a cut off JSON is refused with its line")
{
    auto const text = message(data("nccl_truncated.json"));
    CHECK(holds(text, "nccl_truncated.json:"));
}

TEST_CASE("numbers that cannot be are left out and named; rows without result checks are counted")
{
    auto const imported = import_nccl_tests(data("nccl_huge.txt"), "H100-SXM", 8, 1);
    REQUIRE(imported.rows.size() == 1);
    CHECK(imported.rows[0].bandwidth->value() == Approx(87.5e9).epsilon(1e-3));
    auto const text = everything(imported);
    CHECK(holds(text, "line 2: row left out"));
    CHECK(holds(text, "line 3: row left out: no positive time"));
    CHECK(holds(text, "line 4: row left out: message of 0 bytes"));
    CHECK(holds(text, "1 rows ran without result checks"));
}

TEST_CASE("a wrong number of ranks shows in the bus bandwidth and is refused")
{
    Scratch const file{"# Collective test starting: all_reduce_perf\n1048576 262144 float sum -1 10.49 99.96 174.93 0 "
                       "10.49 99.96 174.93 0\n"};
    CHECK(message(file.path(), 8) == "no error");
    CHECK(holds(message(file.path(), 2), "number of ranks is wrong"));
}

TEST_CASE("the columns of older versions, without root, are found by the header")
{
    Scratch const file{"$ mpirun -np 8 /opt/build/reduce_scatter_perf -b 1M\n"
                       "#       size         count    type   redop     time   algbw   busbw  error\n"
                       "     1048576        262144   float     sum    10.49   99.96   87.46  0e+00\n"};
    auto const imported = import_nccl_tests(file.path(), "A100-80G-SXM", 8, 1);
    REQUIRE(imported.rows.size() == 1);
    CHECK(imported.rows[0].operation == "reduce_scatter");
    CHECK(imported.rows[0].time->value() == Approx(10.49e-6));
}

TEST_CASE("files that are no output of nccl-tests are refused with a reason")
{
    CHECK(holds(message("/nonexistent"), "no such file"));
    CHECK(holds(message("/"), "not a regular file"));
    CHECK(holds(message(Scratch{""}.path()), "is empty"));
    CHECK(holds(message(Scratch{"hello\n"}.path()), "does not name its collective"));
    CHECK(holds(message(Scratch{"all_reduce_perf\n"}.path()), "no usable row"));
    CHECK(holds(message(Scratch{std::string{"all_reduce_perf\n\0", 17}}.path()), "NUL"));
    CHECK(holds(message(Scratch{"{}"}.path()), "does not name its collective"));
    CHECK(holds(message(Scratch{R"({"args":["all_reduce_perf"]})"}.path()), "results"));
    CHECK(holds(message(Scratch{R"({"args":["all_reduce_perf"],"results":[1,null,{"size":"x"}]})"}.path()),
                "no usable row"));
    CHECK(holds(message(Scratch{std::string(17'000'000, 'x')}.path()), "16 MB"));
    CHECK(holds(message(data("nccl_all_reduce.txt"), 2, 4), "cannot be"));
    CHECK_THROWS_AS(import_nccl_tests(data("nccl_all_reduce.txt"), "", 8, 1), InputError);
}

TEST_CASE("a thousand broken rows leave twenty notes and a count")
{
    std::string log = "all_reduce_perf\n1048576 262144 float sum -1 10.49 99.96 174.93 0\n";
    for (int i = 0; i < 1000; ++i) log += "1048576 262144\n";
    auto const imported = import_nccl_tests(Scratch{log}.path(), "H100-SXM", 8, 1);
    CHECK(imported.rows.size() == 1);
    CHECK(imported.notes.size() == 21);
    CHECK(imported.notes.back() == "and 980 more");
}

TEST_CASE("DeepEP V1 across nodes gives its RDMA bandwidth and transmit time")
{
    auto const imported = import_deepep(data("deepep_v1_internode.txt"), "H800-SXM", 32, 4);
    REQUIRE(imported.rows.size() == 3);
    auto const& fp8 = imported.rows[0];
    CHECK(fp8.operation == "ep_dispatch");
    CHECK(fp8.dtype == "fp8");
    CHECK(fp8.bw_kind == "logical");
    CHECK(fp8.network == "RDMA");
    CHECK(fp8.bandwidth->value() == Approx(58.03e9));
    CHECK(fp8.time->value() == Approx(1944e-6));
    CHECK(fp8.sms == 24);
    CHECK(fp8.tokens == 4096);
    CHECK(fp8.hidden == 7168);
    CHECK(fp8.top_k == 8);
    CHECK(imported.rows[1].dtype == "bf16");
    CHECK(imported.rows[2].operation == "ep_combine");
}

TEST_CASE("DeepEP V1 inside a node gives its NVLink bandwidth, and none for a run said to span nodes")
{
    auto const imported = import_deepep(data("deepep_v1_intranode.txt"), "H800-SXM", 8, 1);
    REQUIRE(imported.rows.size() == 2);
    CHECK(imported.rows[0].bandwidth->value() == Approx(153.02e9));
    CHECK(imported.rows[1].bandwidth->value() == Approx(158.44e9));
    CHECK(imported.rows[1].time->value() == Approx(1960.2e-6));
    CHECK_THROWS_AS(import_deepep(data("deepep_v1_intranode.txt"), "H800-SXM", 16, 2), InputError);
}

TEST_CASE("of DeepEP V2's lines per rank the slowest counts, and variants and other sizes are left out")
{
    auto const imported = import_deepep(data("deepep_v2.txt"), "H100-SXM", 16, 2);
    REQUIRE(imported.rows.size() == 3);
    CHECK(imported.rows[0].operation == "ep_combine");
    CHECK(imported.rows[0].time->value() == Approx(2810e-6));
    CHECK(imported.rows[1].operation == "ep_dispatch");
    CHECK(imported.rows[1].dtype == "fp8");
    CHECK(imported.rows[1].bandwidth->value() == Approx(88e9));
    CHECK(imported.rows[1].time->value() == Approx(1304.5e-6));
    CHECK(imported.rows[1].sms == 12);
    CHECK(imported.rows[2].dtype == "bf16");
    CHECK(imported.notes.size() == 2); // 32 ranks, 1e400 GB/s
}

TEST_CASE("a log without DeepEP lines is refused")
{
    CHECK_THROWS_AS(
        import_deepep(Scratch{"[tuning] Best\n[tuning] Best dispatch\nEP: | dispatch:\n"}.path(), "H800-SXM", 8, 1),
        InputError);
    CHECK_THROWS_AS(import_deepep(data("nccl_all_reduce.txt"), "H800-SXM", 8, 1), InputError);
}
