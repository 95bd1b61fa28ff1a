// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/telemetry.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

extern char** environ; // NOLINT: POSIX

namespace trainfare::measure {

namespace {

class Silent final : public Telemetry {
public:
    Sample sample() override { return {}; }
};

class FromNvml final : public Telemetry {
public:
    explicit FromNvml(std::unique_ptr<Nvml> nvml) : nvml_{std::move(nvml)} {}
    Sample sample() override { return nvml_->sample(); }

private:
    std::unique_ptr<Nvml> nvml_;
};

/// nvidia-smi prints a line every 200 ms into a pipe; a thread keeps the last one.
class FromSmi final : public Telemetry {
public:
    static std::unique_ptr<FromSmi> start(std::string const& bus_address)
    {
        int ends[2];
        if (::pipe(ends) != 0) return nullptr;
        std::vector<std::string> words{
            "nvidia-smi", "--query-gpu=clocks.sm,power.draw,temperature.gpu,clocks_throttle_reasons.active",
            "--format=csv,noheader,nounits", "--loop-ms=200", "--id=" + bus_address};
        std::vector<char*> arguments;
        for (auto& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
        posix_spawn_file_actions_addclose(&actions, ends[0]);
        pid_t child = 0;
        int const status = ::posix_spawnp(&child, words.front().c_str(), &actions, nullptr, arguments.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        if (status != 0) {
            ::close(ends[0]);
            return nullptr;
        }
        return std::unique_ptr<FromSmi>(new FromSmi{child, ::fdopen(ends[0], "r")});
    }

    ~FromSmi() override
    {
        ::kill(child_, SIGTERM); // the pipe then ends, and the thread with it
        ::waitpid(child_, nullptr, 0);
        reader_.join();
        std::fclose(pipe_);
    }
    FromSmi(FromSmi const&) = delete;
    FromSmi& operator=(FromSmi const&) = delete;

    Sample sample() override
    {
        std::lock_guard const lock{mutex_};
        return last_;
    }

private:
    FromSmi(pid_t child, std::FILE* pipe) : child_{child}, pipe_{pipe}
    {
        reader_ = std::thread{[this] {
            char line[256];
            while (std::fgets(line, sizeof line, pipe_) != nullptr) {
                auto const sample = parse_smi(line);
                std::lock_guard const lock{mutex_};
                last_ = sample;
            }
        }};
    }

    pid_t child_;
    std::FILE* pipe_;
    std::mutex mutex_;
    Sample last_;
    std::thread reader_;
};

} // namespace

Sample parse_smi(std::string_view line)
{
    std::vector<std::string> fields(1);
    for (char const c : line)
        if (c == ',')
            fields.emplace_back();
        else if (c != ' ' && c != '\n')
            fields.back() += c;
    auto const number = [&](std::size_t i) -> std::optional<double> {
        if (i >= fields.size()) return {};
        char* end = nullptr;
        double const value = std::strtod(fields[i].c_str(), &end);
        return end != fields[i].c_str() && *end == '\0' ? std::optional{value} : std::nullopt;
    };
    Sample s;
    s.clk_sm_mhz = number(0), s.power_w = number(1), s.temp_c = number(2);
    if (fields.size() > 3 && fields[3].starts_with("0x"))
        s.throttle_mask = std::strtoull(fields[3].c_str(), nullptr, 16);
    return s;
}

std::unique_ptr<Telemetry> make_telemetry(std::string const& bus_address)
{
    if (bus_address.empty()) return std::make_unique<Silent>();
    if (auto nvml = Nvml::open(bus_address)) return std::make_unique<FromNvml>(std::move(nvml));
    if (auto smi = FromSmi::start(bus_address)) return smi;
    return std::make_unique<Silent>();
}

} // namespace trainfare::measure
