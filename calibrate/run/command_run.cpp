// SPDX-License-Identifier: Apache-2.0
//
// `trainfare-calibrate run`: the machine, the folder, the points.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <fstream>
#include <iostream>

#include <fmt/format.h>

#include "calibrate/run/closure.hpp"
#include "calibrate/run/commands.hpp"
#include "calibrate/run/exit_codes.hpp"
#include "calibrate/run/runner.hpp"
#include "calibrate/run/show.hpp"

namespace trainfare::measure {

namespace {

std::sig_atomic_t volatile interruptions = 0;

std::string utc_now(char const* format)
{
    std::time_t const now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    char text[40];
    return {text, std::strftime(text, sizeof text, format, &parts)};
}

/// The processor's name and whether it says that it is virtual; nothing that tells machines apart.
std::pair<std::string, bool> host_processor()
{
    std::ifstream file{"/proc/cpuinfo"};
    std::string name;
    bool is_virtual = false;
    for (std::string line; std::getline(file, line);) {
        if (name.empty() && line.starts_with("model name"))
            name = line.substr(std::min(line.size(), line.find(':') + 2));
        if (line.starts_with("flags")) is_virtual = line.find(" hypervisor") != std::string::npos;
    }
    return {name, is_virtual};
}

template <class T>
std::string known(std::optional<T> const& x)
{
    return x ? fmt::format("{}", *x) : std::string{};
}

RunFields describe(Request const& r, Options const& o, DeviceFacts const& d, Versions const& v)
{
    auto const [processor, is_virtual] = host_processor();
    return {{"utc", utc_now("%Y-%m-%dT%H:%M:%SZ")},
            {"tool_version", TRAINFARE_VERSION},
            {"model", r.model.name},
            {"ep", std::to_string(r.ep)},
            {"tp", std::to_string(r.tp)},
            {"seq", std::to_string(r.seq)},
            {"micro_batch", std::to_string(r.micro_batch)},
            {"sizes", o.host    ? "host"
                      : o.quick ? "quick"
                                : "full"},
            {"device_name", d.name},
            {"sm_count", std::to_string(d.sms)},
            {"mem_bytes", fmt::format("{:.0f}", d.memory_bytes)},
            {"l2_bytes", fmt::format("{:.0f}", d.l2_bytes)},
            {"compute_capability", fmt::format("{}.{}", d.major, d.minor)},
            {"nvlinks", known(d.nvlinks)},
            {"ecc", known(d.ecc)},
            {"driver", v.driver},
            {"cuda_runtime", v.cuda_runtime},
            {"cuda_toolkit", v.cuda_toolkit},
            {"cublaslt", v.cublaslt},
            {"cudnn", v.cudnn},
            {"nccl", v.nccl},
            {"virtualisation", is_virtual ? "yes" : "no"},
            {"power_limit_w", known(d.power_limit_w)},
            {"clock_policy", "as found"},
            {"host_cpu", processor}};
}

struct Machine {
    std::unique_ptr<kernels::Backend> backend;
    DeviceFacts facts;
    Versions versions;
    Accelerator gpu;
    SubjectOptions subjects;
    MeterOptions meter;
    std::string bus, title;
};

Machine host_machine()
{
    Machine m;
    m.backend = kernels::make_host_backend(false);
    m.gpu = host_accelerator();
    m.facts.name = "host", m.facts.sms = 32;
    m.subjects.l2_bytes = 0;
    m.meter = {0.0005, 0.002, 5, 3};
    m.title = "trainfare-calibrate on a host, to try the program; no measurement of any accelerator";
    return m;
}

Machine gpu_machine(Options const& o, Tables const& tables)
{
    std::string why;
    if (!kernels::cuda_available(&why))
        throw InputError(fmt::format(
            "there is no GPU to measure ({}); try `plan`, which needs none, or --backend cpu with a small --model",
            why));
    Machine m;
    m.facts = read_device(o.device);
    m.gpu = tables.accelerator(accelerator_for(m.facts, o.accelerator, tables));
    m.backend = kernels::make_cuda_backend(o.device);
    m.versions = read_versions();
    m.bus = bus_address(o.device);
    m.subjects.l2_bytes = m.facts.l2_bytes;
    m.subjects.memory_bytes = 0.25 * free_memory();
    if (o.quick) m.meter = {0.01, 0.03, 20, 5};
    m.title = fmt::format("trainfare-calibrate on {}, driver {}, cuBLASLt {}, cuDNN {}", m.facts.name,
                          m.versions.driver, m.versions.cublaslt, m.versions.cudnn.empty() ? "none" : m.versions.cudnn);
    return m;
}

} // namespace

void interrupt()
{
    if (interruptions == 1) ::_exit(exit_interrupted); // twice: at once; the journal can take it
    interruptions = 1;
}

int command_run(Options const& o)
{
    auto const tables = load_tables(o.tables.empty() ? default_tables_folder() : o.tables);
    auto request = request_of(o);
    auto machine = o.host ? host_machine() : gpu_machine(o, tables);
    request.sms = machine.facts.sms;
    choose_precision(request, o, machine.gpu);
    auto const points = make_points(request);

    RunStart const start{machine.gpu.key, plan_hash(points), machine.title, utc_now("%Y-%m-%d"),
                         describe(request, o, machine.facts, machine.versions)};
    Journal journal{o.out, start};
    auto const telemetry = make_telemetry(machine.bus);
    Bench const bench{*machine.backend, machine.gpu, machine.facts.sms, machine.subjects, *telemetry};
    RunOptions options;
    options.out = o.out, options.seconds = o.seconds, options.meter = machine.meter;
    options.step_repeats = o.host ? 2 : 10;
    options.quiet = o.quiet, options.terminal = ::isatty(STDERR_FILENO) == 1;
    options.interrupted = [] { return interruptions != 0; };
    if (!o.quiet)
        fmt::print(stderr, "{}: {} points, {} done already; writing {}\n", o.host ? "host" : in_words(machine.facts),
                   points.size(), journal.finished(), o.out);
    switch (run_points(bench, request, points, journal, options)) {
    case Ended::interrupted:
        fmt::print(stderr, "interrupted; the same command goes on from here\n");
        return exit_interrupted;
    case Ended::out_of_time: write_result("out of time; the same command goes on from here\n"); return exit_answered;
    case Ended::finished: break;
    }
    write_result(fmt::format("measured: {} points in {}; trainfare-calibrate show {}\n", points.size(), o.out, o.out));
    return exit_answered;
}

} // namespace trainfare::measure
