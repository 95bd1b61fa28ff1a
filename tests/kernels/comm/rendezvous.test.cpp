// SPDX-License-Identifier: Apache-2.0
//
// Real processes that look for each other, by file and by TCP: late ones, missing ones, strangers and what earlier runs
// left.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "kernels/comm/communicator.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::string const& text)
{
    Bytes out(text.size());
    std::memcpy(out.data(), text.data(), text.size());
    return out;
}

std::string text_of(Bytes const& bytes) { return {reinterpret_cast<char const*>(bytes.data()), bytes.size()}; }

/// 128 bytes with every kind of value, different for each @p run.
Bytes identifier(int run = 0)
{
    Bytes out;
    for (int i = 0; i < 128; ++i) out.push_back(static_cast<std::byte>(i * 2 + run));
    return out;
}

/// A process of its own; result() is what @p body returns or, after "error: ", what it throws.
class Process {
public:
    explicit Process(std::function<std::string()> const& body)
    {
        int ends[2];
        if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
        child_ = ::fork();
        if (child_ == 0) {
            std::string said;
            try {
                said = body();
            } catch (std::exception const& error) {
                said = std::string{"error: "} + error.what();
            }
            auto const written = ::write(ends[1], said.data(), said.size());
            ::_exit(written == static_cast<ssize_t>(said.size()) ? 0 : 1);
        }
        ::close(ends[1]);
        from_ = ends[0];
    }
    Process(Process const&) = delete;
    Process& operator=(Process const&) = delete;
    Process(Process&& other) noexcept : child_{std::exchange(other.child_, -1)}, from_{std::exchange(other.from_, -1)}
    {
    }
    ~Process()
    {
        if (child_ > 0) static_cast<void>(result());
    }

    std::string result()
    {
        std::string out;
        char buffer[4096];
        for (ssize_t got = 0; (got = ::read(from_, buffer, sizeof buffer)) > 0;)
            out.append(buffer, static_cast<std::size_t>(got));
        ::close(from_);
        ::waitpid(child_, nullptr, 0);
        child_ = -1;
        return out;
    }

private:
    pid_t child_ = -1;
    int from_ = -1;
};

Process rank_process(Rendezvous const& rendezvous, int run = 0, int delay_ms = 0)
{
    return Process{[=] {
        std::this_thread::sleep_for(std::chrono::milliseconds{delay_ms});
        return text_of(exchange_identifier(rendezvous, rendezvous.rank == 0 ? identifier(run) : Bytes{}));
    }};
}

std::vector<std::string> results(std::vector<Process>& processes)
{
    std::vector<std::string> out;
    for (auto& process : processes) out.push_back(process.result());
    return out;
}

class Folder {
public:
    Folder() : path_{std::filesystem::temp_directory_path() / ("trainfare-rendezvous-" + std::to_string(::getpid()))}
    {
        std::filesystem::create_directories(path_);
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(Folder const&) = delete;
    Folder& operator=(Folder const&) = delete;

    [[nodiscard]] std::string file(std::string const& name) const { return (path_ / name).string(); }
    [[nodiscard]] bool is_empty() const { return std::filesystem::is_empty(path_); }

private:
    std::filesystem::path path_;
};

Rendezvous by_file(int rank, int size, std::string const& file, double timeout_s = 20)
{
    Rendezvous out;
    out.rank = rank, out.size = size, out.file = file, out.timeout_s = timeout_s;
    return out;
}

Rendezvous by_tcp(int rank, int size, int port, double timeout_s = 20, std::string const& address = "127.0.0.1")
{
    Rendezvous out;
    out.rank = rank, out.size = size, out.address = address, out.port = port, out.timeout_s = timeout_s;
    return out;
}

sockaddr_in loopback(int port)
{
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(static_cast<std::uint16_t>(port));
    out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return out;
}

/// A listening socket on a port that the system chose.
struct Listener {
    int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int port = 0;

    Listener()
    {
        auto address = loopback(0);
        socklen_t length = sizeof address;
        if (::bind(socket, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(socket, 8) != 0 ||
            ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0)
            throw std::runtime_error("no listening socket");
        port = ntohs(address.sin_port);
    }
    ~Listener() { ::close(socket); }
    Listener(Listener const&) = delete;
    Listener& operator=(Listener const&) = delete;
};

int free_port() { return Listener{}.port; }

/// Connects as soon as somebody listens, says @p text and keeps the connection for a second.
Process stranger(int port, std::string const& text)
{
    return Process{[=]() -> std::string {
        auto const address = loopback(port);
        for (int tries = 0; tries < 1000; ++tries) {
            int const socket = ::socket(AF_INET, SOCK_STREAM, 0);
            if (::connect(socket, reinterpret_cast<sockaddr const*>(&address), sizeof address) == 0) {
                auto const sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
                std::this_thread::sleep_for(std::chrono::seconds{1});
                ::close(socket);
                return sent == static_cast<ssize_t>(text.size()) ? "said" : "not heard";
            }
            ::close(socket);
            std::this_thread::sleep_for(std::chrono::milliseconds{5});
        }
        return "nobody listened";
    }};
}

bool contains(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

/// Variables of launchers as given, and none else, until the end of the test.
class Environment {
public:
    explicit Environment(std::map<std::string, std::string> const& set)
    {
        for (auto const* const name : names) {
            if (char const* const old = std::getenv(name)) before_[name] = old;
            ::unsetenv(name);
        }
        for (auto const& [name, value] : set) ::setenv(name.c_str(), value.c_str(), 1);
    }
    ~Environment()
    {
        for (auto const* const name : names) ::unsetenv(name);
        for (auto const& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
    }
    Environment(Environment const&) = delete;
    Environment& operator=(Environment const&) = delete;

private:
    static constexpr char const* names[] = {
        "RANK",         "WORLD_SIZE",    "LOCAL_RANK",   "MASTER_ADDR",   "MASTER_PORT",         "SLURM_PROCID",
        "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST", "TORCHELASTIC_RUN_ID"};
    std::map<std::string, std::string> before_;
};

std::string environment_error(std::map<std::string, std::string> const& set)
{
    Environment const environment{set};
    try {
        rendezvous_from_environment();
    } catch (InputError const& error) {
        return error.what();
    }
    return "";
}

} // namespace

TEST_CASE("processes meet in a folder, whoever comes first, and leave nothing behind")
{
    Folder const folder;
    for (auto const& delays : {std::vector{0, 0, 0}, {150, 0, 50}, {0, 100, 200}}) {
        std::vector<Process> processes;
        for (int r = 0; r < 3; ++r)
            processes.push_back(
                rank_process(by_file(r, 3, folder.file("meet")), 1, delays[static_cast<std::size_t>(r)]));
        CHECK(results(processes) == std::vector<std::string>(3, text_of(identifier(1))));
        CHECK(folder.is_empty());
    }
}

TEST_CASE("what an earlier run left in the folder is never taken")
{
    Folder const folder;
    auto const file = folder.file("meet");
    std::ofstream{file} << "trainfare-rendezvous-1\n3\n"
                        << std::string(32, 'a') << "\n00ff\n"
                        << std::string(32, 'b') << "\n"
                        << std::string(32, 'b') << "\n";
    for (auto const* const rank : {".rank1", ".rank2"})
        std::ofstream{file + rank} << "trainfare-rendezvous-1\n3\n"
                                   << std::string(32, 'b') << "\n"
                                   << std::string(32, 'a') << "\n";
    std::vector<Process> processes;
    for (int r = 0; r < 3; ++r) processes.push_back(rank_process(by_file(r, 3, file), 1, r == 0 ? 100 : 50 * r));
    CHECK(results(processes) == std::vector<std::string>(3, text_of(identifier(1))));
}

TEST_CASE("a rank that does not come to the folder is named")
{
    Folder const folder;
    auto const file = folder.file("meet");
    std::vector<Process> processes;
    for (int const r : {0, 1, 3}) processes.push_back(rank_process(by_file(r, 4, file, 3)));
    auto const said = results(processes);
    CHECK(contains(said[0], "rank 2 did not come within 3 s"));
    CHECK(contains(said[1], "rank 0 did not answer rank 1 within 3 s"));
    CHECK(contains(said[2], "rank 0 did not answer rank 3 within 3 s"));

    std::ofstream{file + ".rank1"} << "trainfare-rendezvous-1\n2\n"
                                   << std::string(32, 'b') << "\n"; // stale, and nobody new
    CHECK(contains(rank_process(by_file(0, 2, file, 0.3)).result(), "rank 1 did not come within 0.3 s"));
}

TEST_CASE("a file that is no rendezvous is not overwritten")
{
    Folder const folder;
    std::ofstream{folder.file("thesis.tex")} << "\\documentclass{article}";
    for (int const r : {0, 1})
        CHECK(contains(rank_process(by_file(r, 2, folder.file("thesis.tex"), 0.3)).result(),
                       "exists and is no rendezvous file"));
    CHECK(contains(rank_process(by_file(0, 2, folder.file("."), 0.3)).result(), "exists and is no rendezvous file"));
    CHECK(std::filesystem::file_size(folder.file("thesis.tex")) == 23);
    CHECK(contains(rank_process(by_file(1, 2, folder.file("no/such/folder"), 0.3)).result(), "cannot be written"));
}

TEST_CASE("a file cut short, or of another size, is waited past")
{
    Folder const folder;
    for (std::string const text :
         {"trainfare-rendezvous-1", "trainfare-rendezvous-1\n2", "trainfare-rendezvous-1\n3\na\nb\nc\nd\n",
          "trainfare-rendezvous-1\n2\nroot\nzz\nb\n"}) {
        auto const file = folder.file("meet");
        std::ofstream{file} << text;
        std::vector<Process> processes;
        for (int r = 0; r < 2; ++r) processes.push_back(rank_process(by_file(r, 2, file), 1, r == 0 ? 60 : 0));
        CHECK(results(processes) == std::vector<std::string>(2, text_of(identifier(1))));
    }
}

TEST_CASE("processes meet by TCP, whoever comes first")
{
    for (auto const& address : {"127.0.0.1", "localhost"})
        for (auto const& delays : {std::vector{0, 0, 0, 0}, {200, 0, 50, 100}, {0, 200, 0, 100}}) {
            auto const port = free_port();
            std::vector<Process> processes;
            for (int r = 0; r < 4; ++r)
                processes.push_back(
                    rank_process(by_tcp(r, 4, port, 20, address), 1, delays[static_cast<std::size_t>(r)]));
            CHECK(results(processes) == std::vector<std::string>(4, text_of(identifier(1))));
        }
}

TEST_CASE("a rank that does not come by TCP is named")
{
    auto const port = free_port();
    std::vector<Process> processes;
    for (int const r : {0, 1, 3}) processes.push_back(rank_process(by_tcp(r, 4, port, 3)));
    auto const said = results(processes);
    INFO(said[0]);
    CHECK(contains(said[0], "rank 2 did not come within 3 s"));
    CHECK(contains(said[1], "rank 1 found no rank 0, or not all ranks came, within 3 s"));
    CHECK(contains(rank_process(by_tcp(1, 2, free_port(), 0.2)).result(), "rank 1 found no rank 0"));
    CHECK(contains(rank_process(by_tcp(0, 20, free_port(), 0.2)).result(),
                   "ranks 1, 2, 3, 4, 5, 6, 7, 8 and 11 others did not come"));
}

TEST_CASE("strangers that connect to rank 0 are dropped and the ranks still meet")
{
    auto const port = free_port();
    std::vector<Process> strangers;
    for (auto const* const text : {"GET / HTTP/1.1\r\n\r\n", "trainfare-meet-0", "", "t", "trainfare-meet-1"})
        strangers.push_back(stranger(port, text));
    strangers.push_back(stranger(port, std::string(100'000, 'x')));
    std::vector<Process> processes;
    for (int r = 0; r < 3; ++r) processes.push_back(rank_process(by_tcp(r, 3, port), 1, r == 0 ? 50 : 300));
    CHECK(results(processes) == std::vector<std::string>(3, text_of(identifier(1))));
    int heard = 0;
    for (auto& process : strangers) heard += process.result() == "said" ? 1 : 0;
    CHECK(heard > 0);
}

TEST_CASE("something else on rank 0's port is recognised")
{
    Listener const listener;
    Process server{[&]() -> std::string {
        int const guest = ::accept(listener.socket, nullptr, nullptr);
        std::string const text = "220 mail.example.org ESMTP";
        auto const sent = ::send(guest, text.data(), text.size(), MSG_NOSIGNAL);
        std::this_thread::sleep_for(std::chrono::milliseconds{300});
        return sent > 0 ? "said" : "not heard";
    }};
    auto const said = rank_process(by_tcp(1, 2, listener.port, 10)).result();
    CHECK(contains(said, "is not rank 0"));
    CHECK(contains(rank_process(by_tcp(0, 2, listener.port, 1)).result(), "cannot listen on MASTER_PORT"));
}

TEST_CASE("ranks that disagree about the group are told so")
{
    {
        auto const port = free_port();
        auto host = rank_process(by_tcp(0, 2, port, 5));
        auto const other = rank_process(by_tcp(1, 3, port, 0.5));
        CHECK(contains(host.result(), "a process believes in 3 ranks, rank 0 in 2"));
    }
    {
        auto const port = free_port();
        auto host = rank_process(by_tcp(0, 3, port, 5));
        auto const one = rank_process(by_tcp(1, 3, port, 0.5)), twin = rank_process(by_tcp(1, 3, port, 0.5));
        CHECK(contains(host.result(), "two processes say that they are rank 1"));
    }
}

TEST_CASE("one process alone needs no meeting, and impossible meetings are refused")
{
    CHECK(exchange_identifier({}, bytes_of("abc")) == bytes_of("abc"));
    CHECK_THROWS_AS(exchange_identifier(by_tcp(0, 2, 0), identifier()), InputError);
    CHECK_THROWS_AS(exchange_identifier(by_tcp(1, 2, 4000, 1, ""), {}), InputError);
    CHECK_THROWS_AS(exchange_identifier(by_tcp(2, 2, 4000), {}), InternalError);
    CHECK_THROWS_AS(exchange_identifier(by_tcp(0, 2, 4000), {}), InternalError);
}

TEST_CASE("who a process is comes from the launcher's variables")
{
    {
        Environment const none{{}};
        CHECK(rendezvous_from_environment().size == 1);
    }
    {
        Environment const torchrun{{{"RANK", "5"},
                                    {"WORLD_SIZE", "8"},
                                    {"LOCAL_RANK", "1"},
                                    {"MASTER_ADDR", "a"},
                                    {"MASTER_PORT", "29500"},
                                    {"SLURM_PROCID", "1"},
                                    {"SLURM_NTASKS", "2"}}};
        auto const found = rendezvous_from_environment();
        CHECK(found.rank == 5);
        CHECK(found.size == 8);
        CHECK(found.local_rank == 1);
        CHECK(found.address == "a");
        CHECK(found.port == 29500);
    }
    {
        Environment const elastic{
            {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_PORT", "29500"}, {"TORCHELASTIC_RUN_ID", "x"}}};
        CHECK(rendezvous_from_environment().port == 29501); // torchrun itself listens on 29500
    }
    for (auto const& [list, first] : std::map<std::string, std::string>{
             {"n7", "n7"}, {"n7,n8", "n7"}, {"n[003-009,12],m1", "n003"}, {"n[4]-ib,m", "n4-ib"}, {"a[1,3]", "a1"}}) {
        Environment const slurm{{{"SLURM_PROCID", "9"},
                                 {"SLURM_NTASKS", "16"},
                                 {"SLURM_LOCALID", "1"},
                                 {"SLURM_STEP_NODELIST", list},
                                 {"SLURM_JOB_ID", "123"},
                                 {"SLURM_STEP_ID", "4"}}};
        auto const found = rendezvous_from_environment();
        CHECK(found.rank == 9);
        CHECK(found.size == 16);
        CHECK(found.local_rank == 1);
        CHECK(found.address == first);
        CHECK(found.port == 20000 + (123 * 101 + 4) % 10000);
    }
}

TEST_CASE("a launcher's variable that is missing or no number is named")
{
    CHECK(contains(environment_error({{"RANK", "1"}}), "WORLD_SIZE is not set"));
    CHECK(contains(environment_error({{"WORLD_SIZE", "2"}}), "RANK is not set"));
    CHECK(contains(environment_error({{"WORLD_SIZE", "2"}, {"RANK", "0"}}), "LOCAL_RANK is not set"));
    CHECK(contains(environment_error({{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"LOCAL_RANK", "0"}}),
                   "RANK is no whole number from 0 to 1"));
    for (auto const* const bad : {"x", "1x", "-1", "0", " 2", "99999999999999999999", "2.0"})
        CHECK(
            contains(environment_error({{"WORLD_SIZE", bad}, {"RANK", "0"}, {"LOCAL_RANK", "0"}}), "WORLD_SIZE is no"));
    CHECK(contains(environment_error({{"WORLD_SIZE", "1"}, {"RANK", "0"}, {"MASTER_PORT", "70000"}}),
                   "MASTER_PORT is no"));
    CHECK(contains(environment_error({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}}), "SLURM_LOCALID is not set"));
    CHECK(contains(
        environment_error(
            {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "0"}, {"SLURM_STEP_NODELIST", "n[1-2"}}),
        "unclosed bracket"));
}
