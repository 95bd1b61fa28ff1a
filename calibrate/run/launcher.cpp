// SPDX-License-Identifier: Apache-2.0
//
// Children, their variables, and one end for all: a rank that is left alone in a collective would wait for ever.
#include "calibrate/run/launcher.hpp"

#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int interrupted = 130;
constexpr std::chrono::seconds grace{2}; // between asking and killing

/// A port of the loopback address that nobody uses now.
int free_port()
{
    int const socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    bool const found =
        socket >= 0 && ::bind(socket, generic, length) == 0 && ::getsockname(socket, generic, &length) == 0;
    if (socket >= 0) ::close(socket);
    if (!found) throw InternalError("no free port on the loopback address for the ranks to meet");
    return ntohs(address.sin_port);
}

void set_variables(LocalLaunch const& launch, int rank, int port)
{
    auto const set = [](char const* name, std::string const& value) { ::setenv(name, value.c_str(), 1); };
    set("RANK", std::to_string(rank));
    set("LOCAL_RANK", std::to_string(rank));
    set("WORLD_SIZE", std::to_string(launch.processes));
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", std::to_string(port));
    ::unsetenv("TORCHELASTIC_RUN_ID"); // another launcher's port would be meant
    if (!launch.shared_gpu) return;
    set("NCCL_HOSTID", fmt::format("rank-{}", rank));
    set("NCCL_MAX_CTAS",
        "1"); // kernels of all ranks must fit on the GPU at a time, or they wait for each other for ever
}

/// The signals that the parent takes with sigtimedwait() and its children do not block.
class Signals {
public:
    Signals()
    {
        sigemptyset(&watched_);
        for (int const signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&watched_, signal);
        ::pthread_sigmask(SIG_BLOCK, &watched_, &before_);
    }
    ~Signals() { restore(); }
    Signals(Signals const&) = delete;
    Signals& operator=(Signals const&) = delete;

    void restore() const { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

    /// Sleeps until a child ends or @p time passed; the signal if it was one that asks to stop.
    [[nodiscard]] std::optional<int> wait(std::chrono::milliseconds time) const
    {
        timespec const limit{time.count() / 1000, time.count() % 1000 * 1'000'000};
        int const signal = ::sigtimedwait(&watched_, nullptr, &limit);
        return signal == SIGINT || signal == SIGTERM ? std::optional{signal} : std::nullopt;
    }

private:
    sigset_t watched_{}, before_{};
};

/// One flag for all children. What breaks on one rank breaks on all, and one line says it.
class FirstWord {
public:
    FirstWord()
    {
        void* const memory = ::mmap(nullptr, sizeof *flag_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw InternalError("no memory to share between ranks");
        flag_ = new (memory) std::atomic_flag{};
    }
    ~FirstWord() { ::munmap(flag_, sizeof *flag_); }
    FirstWord(FirstWord const&) = delete;
    FirstWord& operator=(FirstWord const&) = delete;

    void say(int rank, char const* what) const
    {
        if (!flag_->test_and_set()) std::cerr << fmt::format("rank {}: {}\n", rank, what);
    }

private:
    std::atomic_flag* flag_ = nullptr;
};

int run_body(std::function<int(int)> const& body, int rank, FirstWord const& first)
{
    try {
        return body(rank);
    } catch (InputError const& error) {
        first.say(rank, error.what());
        return 3;
    } catch (std::exception const& error) {
        first.say(rank, error.what());
        return 5;
    }
}

/// The children that are still there.
class Children {
public:
    Children(LocalLaunch const& launch, Signals const& signals, std::function<int(int)> const& body)
    {
        int const port = free_port();
        auto const parent = ::getpid();
        std::cout.flush(), std::cerr.flush(), std::fflush(nullptr); // else each child prints it again
        for (int rank = 0; rank < launch.processes; ++rank) {
            auto const child = ::fork();
            if (child < 0) {
                stop();
                throw InternalError(fmt::format("process {} of {} cannot be started", rank + 1, launch.processes));
            }
            if (child == 0) {
                ::prctl(PR_SET_PDEATHSIG, SIGKILL); // no orphans on a GPU when this process is killed
                if (::getppid() != parent) ::_exit(5);
                for (int const signal : {SIGINT, SIGTERM}) ::signal(signal, SIG_DFL); // the parent may handle them
                signals.restore();
                set_variables(launch, rank, port);
                int const code = run_body(body, rank, first_word_);
                std::cout.flush(), std::cerr.flush(), std::fflush(nullptr);
                ::_exit(code);
            }
            running_.push_back({child, rank});
        }
    }
    ~Children() { stop(); }
    Children(Children const&) = delete;
    Children& operator=(Children const&) = delete;

    [[nodiscard]] bool empty() const { return running_.empty(); }

    struct End {
        int rank = 0, status = 0;
    };
    /// One that has ended since the last call.
    std::optional<End> take_ended()
    {
        for (auto child = running_.begin(); child != running_.end(); ++child) {
            int status = 0;
            if (::waitpid(child->process, &status, WNOHANG) != child->process) continue;
            End const end{child->rank, status};
            running_.erase(child);
            return end;
        }
        return {};
    }

    void signal(int number) const
    {
        for (auto const& child : running_) ::kill(child.process, number);
    }

    /// Asks all to end, and after a while does not ask.
    void stop()
    {
        signal(SIGTERM);
        for (auto const end = Clock::now() + grace; !running_.empty() && Clock::now() < end;)
            if (!take_ended()) ::usleep(5000);
        signal(SIGKILL);
        for (auto const& child : running_)
            while (::waitpid(child.process, nullptr, 0) < 0 && errno == EINTR) {
            }
        running_.clear();
    }

private:
    struct Child {
        pid_t process = 0;
        int rank = 0;
    };
    FirstWord first_word_;
    std::vector<Child> running_;
};

} // namespace

int launch_local(LocalLaunch const& launch, std::function<int(int rank)> const& body)
{
    if (launch.processes < 1 || launch.processes > 1024)
        throw InputError(fmt::format("{} local processes (one drives one GPU); ask for 1 to 1024", launch.processes));
    Signals const signals;
    auto const begin = Clock::now();
    Children children{launch, signals, body};
    while (!children.empty()) {
        if (auto const ended = children.take_ended()) {
            if (WIFSIGNALED(ended->status))
                throw InternalError(
                    fmt::format("rank {} was ended by signal {} (memory, a crash, or somebody); the other "
                                "ranks were stopped",
                                ended->rank, WTERMSIG(ended->status)));
            if (WEXITSTATUS(ended->status) != 0) return WEXITSTATUS(ended->status);
            continue;
        }
        if (auto const signal = signals.wait(std::chrono::milliseconds{100})) {
            children.signal(*signal);
            return interrupted;
        }
        if (launch.limit_s > 0 && std::chrono::duration<double>(Clock::now() - begin).count() > launch.limit_s)
            throw InternalError(fmt::format("the ranks did not end within {} s and were stopped (do they wait for each "
                                            "other?)",
                                            launch.limit_s));
    }
    return 0;
}

} // namespace trainfare
