// SPDX-License-Identifier: Apache-2.0
//
// The sweep of collectives end to end on thread ranks: rows that the tables read, the same file after a kill as without
// one, checks that see a wrong result. And the launcher: one end for all processes.
#include "calibrate/run/collectives.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <thread>

#include "calibrate/csv.hpp"
#include "calibrate/run/collective_case.hpp"
#include "calibrate/run/launcher.hpp"
#include "calibrate/tables.hpp"
#include "tests/catch.hpp"

using namespace trainfare;
using kernels::Backend;
using kernels::Communicator;
using kernels::Element;
using kernels::Tensor;

namespace {

class Folder {
public:
    Folder() : path_{std::filesystem::temp_directory_path() / ("trainfare-collectives-" + std::to_string(::getpid()))}
    {
        std::filesystem::remove_all(path_);
        std::filesystem::create_directories(path_);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(Folder const&) = delete;
    Folder& operator=(Folder const&) = delete;

    [[nodiscard]] std::string file(std::string const& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

std::string read(std::string const& path)
{
    std::ifstream in{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

void write(std::string const& path, std::string const& text) { std::ofstream{path, std::ios::binary} << text; }

CollectiveOptions small_sweep(std::string const& out, int ranks)
{
    CollectiveOptions options;
    options.communicator = CollectiveOptions::Communicator::threads;
    options.ranks = ranks;
    options.min_bytes = 1024, options.max_bytes = 16384, options.factor = 4;
    options.warm_up = 1, options.repeats = 5;
    options.out = out;
    return options;
}

int run(CollectiveOptions const& options)
{
    std::ostringstream progress;
    int const code = run_collectives(options, progress);
    CHECK(progress.str().empty());
    return code;
}

std::string error_of(CollectiveOptions const& options)
{
    try {
        run(options);
    } catch (InputError const& error) {
        return error.what();
    }
    return "";
}

bool contains(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

/// Tables of which coll.csv is @p collectives.
Tables tables_with(Folder const& folder, std::string const& collectives)
{
    write(folder.file("sources.csv"), "source_id,provenance,title\nown-run,measured,Ours\nhardware,published,Sheets\n");
    write(folder.file("hardware.csv"), "accelerator,dense_bf16_tflops,dense_fp8_tflops,hbm_gb,hbm_tb_per_s,sm_count,"
                                       "restricted_variant_of\ncpu,1,,1,1,,\n");
    write(folder.file("ops.csv"), "source_id,accelerator,op,pass,dtype,m,n,k,groups,tflops,gbps,status\n");
    write(folder.file("rates.csv"), "source_id,accelerator,precision,quantity,value,unit,spread\n");
    write(folder.file("coll.csv"), collectives);
    return load_tables(folder.file(""));
}

std::string replaced(std::string text, std::string const& from, std::string const& to)
{
    for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
    return text;
}

/// Does what threads do, and then spoils one element on the last rank.
class Spoiling final : public Communicator {
public:
    Spoiling(Backend& on, Communicator& real) : on_{on}, real_{real} {}
    [[nodiscard]] std::string_view name() const override { return "spoiling"; }
    [[nodiscard]] int rank() const override { return real_.rank(); }
    [[nodiscard]] int size() const override { return real_.size(); }
    std::unique_ptr<Communicator> split(int color) override { return real_.split(color); }
    void all_reduce(Tensor const& t) override { real_.all_reduce(t), spoil(t); }
    void reduce_scatter(Tensor const& in, Tensor const& out) override { real_.reduce_scatter(in, out), spoil(out); }
    void all_gather(Tensor const& in, Tensor const& out) override { real_.all_gather(in, out), spoil(out); }
    void all_to_all_v(Tensor const& in, std::vector<std::int64_t> const& send, Tensor const& out,
                      std::vector<std::int64_t> const& receive) override
    {
        real_.all_to_all_v(in, send, out, receive), spoil(out);
    }
    void broadcast(Tensor const& t, int from) override { real_.broadcast(t, from); }
    void send(Tensor const& t, int to) override { real_.send(t, to); }
    void receive(Tensor const& t, int from) override { real_.receive(t, from), spoil(t); }
    void barrier() override { real_.barrier(); }

private:
    void spoil(Tensor const& t)
    {
        if (rank() + 1 < size() || t.element != Element::bf16) return;
        on_.upload(t.row_range(t.rows - 1, 1), std::vector<float>(static_cast<std::size_t>(t.cols), 250.5F));
    }

    Backend& on_;
    Communicator& real_;
};

std::int64_t wrong_of(std::string const& operation, int ranks, std::int64_t rows, bool spoiled)
{
    std::int64_t wrong = -1;
    kernels::run_ranks(
        ranks, [] { return kernels::make_host_backend(false); },
        [&](Backend& on, Communicator& group) {
            CollectiveCase what{operation, Element::bf16, rows, uneven_rows(rows, ranks, 0.5, 3)};
            Spoiling spoiling{on, group};
            auto const times = time_collective(on, spoiled ? static_cast<Communicator&>(spoiling) : group, what, 0, 2);
            if (times.seconds.size() != 2) throw std::runtime_error("two repeats, two times");
            if (group.rank() == 0) wrong = times.wrong;
        });
    return wrong;
}

/// Exit code of a process that runs @p body; 128 + signal when it was killed.
int code_of(std::function<int()> const& body)
{
    auto const child = ::fork();
    if (child == 0) {
        ::close(STDERR_FILENO);
        try {
            ::_exit(body());
        } catch (InternalError const&) {
            ::_exit(5);
        } catch (std::exception const&) {
            ::_exit(99);
        }
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

} // namespace

TEST_CASE("a sweep on thread ranks writes one row for each collective and size, and the tables read them")
{
    Folder const folder;
    for (int const ranks : {1, 2, 4, 5}) {
        INFO(ranks << " ranks");
        auto const out = folder.file("swept-" + std::to_string(ranks) + ".csv");
        CHECK(run(small_sweep(out, ranks)) == 0);
        auto const table = read_csv(out);
        std::size_t const operations = ranks > 1 ? 6 : 5;
        REQUIRE(table.rows() == 3 * operations);
        std::map<std::string, std::size_t> count;
        for (std::size_t row = 0; row < table.rows(); ++row) {
            ++count[table.need_text(row, "impl")];
            CHECK(table.need_text(row, "status") == "skipped"); // functional only: never a measurement
            CHECK(contains(table.need_text(row, "notes"), "functional only"));
            CHECK(table.need_text(row, "accelerator") == "cpu");
            CHECK(table.need_text(row, "transport") == "threads");
            CHECK(table.integer(row, "ranks") == ranks);
            CHECK(table.integer(row, "nodes") == 1);
            CHECK(table.integer(row, "repeats") == 5);
            auto const bytes = table.need_number(row, "bytes");
            CHECK(std::fmod(bytes, 16.0 * ranks) == 0); // whole rows for each rank
            CHECK(table.need_number(row, "t_p10_us") <= table.need_number(row, "time_us"));
            CHECK(table.need_number(row, "time_us") <= table.need_number(row, "t_p90_us"));
            if (ranks == 1) {
                CHECK(!table.number(row, "bw_gbps"));
                continue;
            }
            double const n = ranks;
            auto const impl = table.need_text(row, "impl");
            double const factor = impl == "all_reduce" ? 2 * (n - 1) / n : impl == "p2p" ? 1 : (n - 1) / n;
            CHECK(table.need_number(row, "bw_gbps") ==
                  Approx(bytes / table.need_number(row, "time_us") / 1e3 * factor).epsilon(1e-9));
        }
        CHECK(count.size() == operations);
        for (auto const& [operation, rows] : count) CHECK(rows == 3);

        auto const text = read(out);
        CHECK(tables_with(folder, text).collectives.empty()); // skipped
        auto const loaded = tables_with(folder, replaced(text, ",skipped,", ",ok,")).collectives;
        REQUIRE(loaded.size() == table.rows());
        CHECK(loaded[0].operation == "all_reduce");
        CHECK(loaded[0].ranks == ranks);
        CHECK(loaded[0].dtype == "bf16");
        CHECK(loaded[0].message == table.need_number(0, "bytes") * Bytes{1});
        CHECK(loaded[0].time == table.need_number(0, "time_us") * units::us);
        CHECK(loaded[0].bw_kind == (ranks > 1 ? "bus" : ""));
    }
}

TEST_CASE("finished points are not measured again, other options are other points")
{
    Folder const folder;
    auto options = small_sweep(folder.file("coll.csv"), 2);
    options.operations = {"all_gather", "all_to_all_v"};
    CHECK(run(options) == 0);
    auto const first = read(options.out);
    CHECK(run(options) == 0);
    CHECK(read(options.out) == first);
    options.max_bytes = 65536; // one size more
    CHECK(run(options) == 0);
    CHECK(read(options.out).substr(0, first.size()) == first);
    CHECK(read_csv(options.out).rows() == 8);
    options.seed = 2; // of the uneven loads alone
    CHECK(run(options) == 0);
    CHECK(read_csv(options.out).rows() == 12);
    options.dtype = "fp32";
    CHECK(run(options) == 0);
    CHECK(read_csv(options.out).rows() == 20);
}

TEST_CASE("a sweep that was killed goes on where it stopped")
{
    Folder const folder;
    auto options = small_sweep(folder.file("coll.csv"), 3);
    options.max_bytes = 1 << 20;
    auto const sweep = ::fork();
    if (sweep == 0) {
        std::ostringstream progress;
        ::_exit(run_collectives(options, progress));
    }
    auto const rows = [&] {
        auto const text = read(options.out);
        return std::count(text.begin(), text.end(), '\n') - 1;
    };
    for (int tries = 0; tries < 10'000 && rows() < 4; ++tries)
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    ::kill(sweep, SIGKILL);
    ::waitpid(sweep, nullptr, 0);
    auto const left = read(options.out);
    REQUIRE(rows() >= 4);
    write(options.out, left + "own-run,cpu,all_red"); // and a row that was being written
    CHECK(run(options) == 0);
    CHECK(read(options.out).substr(0, left.size()) == left);
    auto const table = read_csv(options.out);
    CHECK(table.rows() == 6 * 6);
    std::set<std::string> points;
    for (std::size_t row = 0; row < table.rows(); ++row)
        points.insert(table.need_text(row, "impl") + table.need_text(row, "bytes"));
    CHECK(points.size() == table.rows());
}

TEST_CASE("a result that is wrong is seen in every collective, wherever it is, and right ones pass")
{
    for (auto const& operation : collective_operations())
        for (std::int64_t const rows : {4L, 1000L, 1L << 17}) {
            INFO(operation << ", " << rows << " rows");
            CHECK(wrong_of(operation, 4, rows, false) == 0);
            CHECK(wrong_of(operation, 4, rows, true) > 0);
        }
    CHECK(wrong_of("all_reduce", 5, 5 * 70, false) == 0);
    CHECK(wrong_of("p2p", 2, 1'200'000, true) > 0); // so large that only parts are looked at, the end among them
}

TEST_CASE("a point that failed its check stays in the file, is not repeated and makes the exit code 1")
{
    Folder const folder;
    auto options = small_sweep(folder.file("coll.csv"), 2);
    options.operations = {"all_reduce"};
    CHECK(run(options) == 0);
    auto const text = read(options.out);
    auto const at = text.find("skipped");
    write(options.out, text.substr(0, at) + "failed_check" + text.substr(at + 7));
    CHECK(run(options) == 1);
    CHECK(read_csv(options.out).rows() == 3);
    CHECK(tables_with(folder, replaced(read(options.out), ",skipped,", ",ok,")).collectives.size() == 2);
}

TEST_CASE("bus bandwidth counts as nccl-tests does")
{
    CHECK(*bus_factor("all_reduce", 8) == Approx(1.75)); // 1 GB in 10 ms are 175 GB/s
    CHECK(*bus_factor("all_to_all", 8) == Approx(0.875));
    CHECK(*bus_factor("reduce_scatter", 2) == Approx(0.5));
    CHECK(*bus_factor("p2p", 2) == 1);
    CHECK(!bus_factor("all_gather", 1));
}

TEST_CASE("uneven loads sum to the whole and vary as asked")
{
    for (int const ranks : {1, 2, 7, 64}) {
        auto const even = uneven_rows(1'000'003, ranks, 0, 1), uneven = uneven_rows(1'000'003, ranks, 0.5, 1);
        CHECK(std::accumulate(even.begin(), even.end(), 0L) == 1'000'003);
        CHECK(std::accumulate(uneven.begin(), uneven.end(), 0L) == 1'000'003);
        CHECK(*std::max_element(even.begin(), even.end()) - *std::min_element(even.begin(), even.end()) <= 2);
        CHECK(*std::min_element(uneven.begin(), uneven.end()) >= 0);
    }
    CHECK(uneven_rows(1000, 8, 0.5, 1) == uneven_rows(1000, 8, 0.5, 1));
    CHECK(uneven_rows(1000, 8, 0.5, 1) != uneven_rows(1000, 8, 0.5, 2));
    auto const many = uneven_rows(100'000'000, 4096, 0.5, 1);
    double sum = 0, squares = 0;
    for (auto const rows : many) sum += static_cast<double>(rows), squares += std::pow(static_cast<double>(rows), 2);
    double const mean = sum / 4096;
    CHECK(std::sqrt(squares / 4096 / (mean * mean) - 1) == Approx(0.5).epsilon(0.1));
}

TEST_CASE("progress names the point and the time left, only on a terminal")
{
    Folder const folder;
    auto options = small_sweep(folder.file("coll.csv"), 2);
    options.operations = {"all_reduce"};
    options.terminal = true;
    std::ostringstream progress;
    CHECK(run_collectives(options, progress) == 0);
    CHECK(contains(progress.str(), "[3/3] all_reduce 16384 B: "));
    CHECK(contains(progress.str(), "about 0 s left"));
    options.out = folder.file("other.csv");
    options.quiet = true;
    CHECK(run(options) == 0);
}

TEST_CASE("a file that is not of a sweep is left alone")
{
    Folder const folder;
    for (std::string const text : {"source_id,op\nx,y\n", "hello", "source_id,accelerator,op,ranks\n", "\n"}) {
        write(folder.file("coll.csv"), text);
        CHECK(contains(error_of(small_sweep(folder.file("coll.csv"), 2)), "has other columns"));
        CHECK(read(folder.file("coll.csv")) == text);
    }
    CHECK(contains(error_of(small_sweep(folder.file("no/folder/coll.csv"), 2)), "cannot be written"));
    CHECK(contains(error_of(small_sweep(folder.file(""), 2)), "is no file of measurements"));
    write(folder.file("cut.csv"), "source_id,accele"); // killed while the header was written
    CHECK(run(small_sweep(folder.file("cut.csv"), 2)) == 0);
    CHECK(read_csv(folder.file("cut.csv")).rows() == 18);
}

TEST_CASE("options that make no sense are refused in a line")
{
    Folder const folder;
    auto const with = [&](std::function<void(CollectiveOptions&)> const& change) {
        auto options = small_sweep(folder.file("coll.csv"), 2);
        change(options);
        return error_of(options);
    };
    CHECK(contains(with([](auto& o) { o.ranks = 0; }), "--ranks 0"));
    CHECK(contains(with([](auto& o) { o.local = 2; }), "--local starts"));
    CHECK(contains(with([](auto& o) { o.shared_gpu = true; }), "--shared-gpu"));
    CHECK(contains(with([](auto& o) { o.min_bytes = 0; }), "message sizes"));
    CHECK(contains(with([](auto& o) { o.min_bytes = std::nan(""); }), "message sizes"));
    CHECK(contains(with([](auto& o) { o.max_bytes = 1; }), "message sizes"));
    CHECK(contains(with([](auto& o) { o.max_bytes = 1e30; }), "message sizes"));
    CHECK(contains(with([](auto& o) { o.factor = 1; }), "--factor"));
    CHECK(contains(with([](auto& o) { o.dtype = "int7"; }), "--dtype"));
    CHECK(contains(with([](auto& o) { o.repeats = 0; }), "--repeats"));
    CHECK(contains(with([](auto& o) { o.load_cv = -1; }), "--load-cv"));
    CHECK(with([](auto& o) { o.operations = {"all_shuffle"}; }) ==
          "collective \"all_shuffle\" is unknown; use all_reduce, all_gather, reduce_scatter, all_to_all, "
          "all_to_all_v, p2p");
    CHECK(contains(with([](auto& o) { o.network = "a\nb"; }), "control characters"));
    CHECK(!std::filesystem::exists(folder.file("coll.csv")));
}

TEST_CASE("the launcher gives each process its place")
{
    Folder const folder;
    CHECK(launch_local({3, true, 0}, [&](int rank) {
              auto const get = [](char const* name) { return std::string{std::getenv(name)}; };
              auto const number = std::to_string(rank);
              bool const right = get("RANK") == number && get("LOCAL_RANK") == number && get("WORLD_SIZE") == "3" &&
                                 get("MASTER_ADDR") == "127.0.0.1" && get("NCCL_MAX_CTAS") == "1";
              write(folder.file("rank" + number), get("MASTER_PORT") + " " + get("NCCL_HOSTID"));
              return right ? 0 : 7;
          }) == 0);
    auto const place = read(folder.file("rank0"));
    CHECK(place != read(folder.file("rank1"))); // another NCCL_HOSTID
    CHECK(place.substr(0, place.find(' ')) == read(folder.file("rank2")).substr(0, place.find(' ')));
    CHECK_THROWS_AS(launch_local({0, false, 0}, [](int) { return 0; }), InputError);
}

TEST_CASE("when one process fails the others are stopped and its code is the answer")
{
    auto const begin = std::chrono::steady_clock::now();
    CHECK(launch_local({4, false, 0}, [](int rank) {
              if (rank == 2) return 3;
              ::sleep(600);
              return 0;
          }) == 3);
    CHECK(code_of([] {
              return launch_local({3, false, 0}, [](int rank) -> int {
                  if (rank == 1) throw InputError("no such file");
                  ::sleep(600);
                  return 0;
              });
          }) == 3);
    CHECK(code_of([] {
              return launch_local({2, false, 0}, [](int rank) {
                  if (rank == 1) ::raise(SIGKILL);
                  ::sleep(600);
                  return 0;
              });
          }) == 5);
    CHECK(code_of([] {
              return launch_local({2, false, 0.2}, [](int) {
                  ::sleep(600);
                  return 0;
              });
          }) == 5);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{300}); // nobody was waited for
}

TEST_CASE("an interrupt reaches every process and ends with 130")
{
    for (int const signal : {SIGINT, SIGTERM}) {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        auto const launcher = ::fork();
        if (launcher == 0) {
            ::close(ends[0]);
            ::_exit(launch_local({3, false, 0}, [&](int) {
                static_cast<void>(::write(ends[1], "x", 1));
                ::sleep(600);
                return 0;
            }));
        }
        ::close(ends[1]);
        char started[3];
        for (auto& byte : started) REQUIRE(::read(ends[0], &byte, 1) == 1);
        ::kill(launcher, signal);
        int status = 0;
        ::waitpid(launcher, &status, 0);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 130);
        CHECK(::read(ends[0], started, 1) == 0); // the last process that held the other end is gone
        ::close(ends[0]);
    }
}

TEST_CASE("without a GPU or without NCCL the sweep over nccl says so in one line")
{
    std::string why;
    if (kernels::nccl_available(&why)) {
        WARN("there is a GPU: not tested what happens without one");
        return;
    }
    Folder const folder;
    CollectiveOptions options;
    options.out = folder.file("coll.csv");
    CHECK(contains(error_of(options), "nccl cannot run here: " + why));
    CHECK(!std::filesystem::exists(options.out));
    options.local = 2;
    CHECK(code_of([&] {
              std::ostringstream progress;
              return run_collectives(options, progress);
          }) == 3);
}
