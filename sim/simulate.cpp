// SPDX-License-Identifier: Apache-2.0
//
// The child process around the engine. The parent never creates an Engine, so it stays free of SimGrid's global state,
// signal handlers and aborts, and can simulate any number of times. Times come back through shared memory, error text
// through a memory file that is the child's stderr: whatever SimGrid prints before it dies is part of the message.
#include "sim/simulate.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model/error.hpp"
#include "sim/engine.hpp"

namespace trainfare {
namespace {

/// Children of all threads, for kill_simulation_child(): lock-free, hence safe in a signal handler.
std::array<std::atomic<pid_t>, 64> children;
static_assert(std::atomic<pid_t>::is_always_lock_free);

std::string system_error(char const* what)
{
    return fmt::format("simulation: {} failed: {}", what, std::strerror(errno));
}

/// Anonymous memory that the child fills and the parent reads.
class SharedMemory {
public:
    explicit SharedMemory(std::size_t bytes)
        : bytes_{bytes}, data_{mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)}
    {
        if (data_ == MAP_FAILED) throw InternalError(system_error("mapping memory"));
    }
    ~SharedMemory() { munmap(data_, bytes_); }
    SharedMemory(SharedMemory const&) = delete;
    SharedMemory& operator=(SharedMemory const&) = delete;
    [[nodiscard]] double* data() const { return static_cast<double*>(data_); }

private:
    std::size_t bytes_;
    void* data_;
};

/// What the child writes to stderr.
class MessageFile {
public:
    MessageFile() : fd_{memfd_create("simulation-messages", MFD_CLOEXEC)}
    {
        if (fd_ < 0) throw InternalError(system_error("creating a memory file"));
    }
    ~MessageFile() { close(fd_); }
    MessageFile(MessageFile const&) = delete;
    MessageFile& operator=(MessageFile const&) = delete;
    [[nodiscard]] int fd() const { return fd_; }

    [[nodiscard]] std::string text() const
    {
        std::array<char, 4096> buffer{};
        auto const size = pread(fd_, buffer.data(), buffer.size(), 0);
        std::string out(buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
        while (!out.empty() && out.back() == '\n') out.pop_back();
        return out;
    }

private:
    int fd_;
};

/// Enters the child's id into the table as long as it lives.
class Registration {
public:
    explicit Registration(pid_t child)
    {
        if (child < 0) return;
        for (auto& slot : children) {
            pid_t expected = 0;
            if (slot.compare_exchange_strong(expected, child)) {
                slot_ = &slot;
                return;
            }
        }
    }
    ~Registration() { if (slot_ != nullptr) slot_->store(0); }
    Registration(Registration const&) = delete;
    Registration& operator=(Registration const&) = delete;

private:
    std::atomic<pid_t>* slot_ = nullptr;
};

[[noreturn]] void run_child(Folded const& folded, TaskRow const& row, double* shared, MessageFile const& messages,
                            pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(EXIT_FAILURE); // it died before the request
    for (auto const signal : {SIGINT, SIGTERM, SIGHUP, SIGSEGV, SIGABRT}) std::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    rlimit const no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    auto const nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
    dup2(messages.fd(), STDERR_FILENO);
    std::string failure;
    try {
        auto* const start = shared + 1;
        auto const flows = run_engine(folded, row, {start, row.size()}, {start + row.size(), row.size()});
        shared[0] = static_cast<double>(flows);
        _exit(EXIT_SUCCESS);
    } catch (std::exception const& error) {
        failure = error.what();
    }
    [[maybe_unused]] auto const written = write(STDERR_FILENO, failure.data(), failure.size());
    _exit(EXIT_FAILURE);
}

/// Starts the child and waits until it is a zombie: its id cannot belong to another process while it is in the table.
pid_t run_to_end(Folded const& folded, TaskRow const& row, double* shared, MessageFile const& messages)
{
    // A signal between the fork and the registration would miss the child.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    auto const parent = getpid();
    auto const child = fork();
    if (child == 0) run_child(folded, row, shared, messages, parent);
    Registration const registration{child};
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (child < 0) throw InternalError(system_error("starting the simulation child"));
    siginfo_t info{};
    while (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {}
    return child;
}

/// Buries the child, or throws what it died of. Returns its peak memory in bytes.
double bury(pid_t child, MessageFile const& messages)
{
    int status = 0;
    rusage usage{};
    while (wait4(child, &status, 0, &usage) < 0) {
        if (errno != EINTR) throw InternalError(system_error("waiting for the simulation child"));
    }
    if (WIFSIGNALED(status)) {
        auto const signal = WTERMSIG(status);
        auto const text = messages.text();
        throw InternalError(fmt::format("the simulation child was killed by signal {} ({}){}", signal,
                                        strsignal(signal), text.empty() ? "" : ": " + text));
    }
    if (WEXITSTATUS(status) != EXIT_SUCCESS) {
        auto const text = messages.text();
        throw InternalError(text.empty() ? fmt::format("the simulation child exited with code {}", WEXITSTATUS(status))
                                         : text);
    }
    return static_cast<double>(usage.ru_maxrss) * 1024;
}

} // namespace

SimulationRun simulate(Folded const& folded)
{
    auto const begin = std::chrono::steady_clock::now();
    TaskRow const row{folded};
    SharedMemory const shared{(1 + 2 * std::size_t{row.size()}) * sizeof(double)};
    MessageFile const messages;
    auto const child = run_to_end(folded, row, shared.data(), messages);
    SimulationRun out;
    out.peak_memory = Bytes{bury(child, messages)};
    out.flows = static_cast<std::uint64_t>(shared.data()[0]);
    out.tasks = row.size();
    auto const* const start = shared.data() + 1;
    auto const* const end = start + row.size();
    for (std::size_t c = 0; c + 1 < row.first.size(); ++c) {
        out.classes.push_back(
            {{start + row.first[c], start + row.first[c + 1]}, {end + row.first[c], end + row.first[c + 1]}});
    }
    out.makespan = Seconds{row.size() == 0 ? 0 : *std::max_element(end, end + row.size())};
    out.wall = Seconds{std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()};
    return out;
}

void kill_simulation_child()
{
    for (auto& slot : children) {
        if (auto const child = slot.load(); child > 0) kill(child, SIGKILL);
    }
}

Seconds simulate_alone(Problem const& problem, std::uint32_t group, Channel channel, double payload)
{
    Problem alone;
    alone.links = problem.links;
    Task task;
    task.kind = TaskKind::communicate;
    task.channel = channel;
    task.payload = payload;
    alone.programs.emplace_back().add(task, {});
    alone.groups.emplace_back();
    alone.teams = {{0}};
    for (auto const& flow : problem.flows) {
        if (flow.group != group || flow.channel != channel) continue;
        alone.flows.push_back(flow);
        alone.flows.back().group = 0;
    }
    return simulate(fold(alone)).makespan;
}

} // namespace trainfare
