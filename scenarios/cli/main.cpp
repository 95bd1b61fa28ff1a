// SPDX-License-Identifier: Apache-2.0
//
// trainfare: asks scenarios on the command line. Commands are in commands.cpp, options in options.cpp; this file
// decides how the program ends.
#include <csignal>
#include <exception>
#include <iostream>
#include <new>

#include <sys/wait.h>
#include <unistd.h>

#include "model/error.hpp"
#include "scenarios/cli/commands.hpp"
#include "scenarios/cli/exit_codes.hpp"
#include "sim/simulate.hpp"

namespace {

using namespace trainfare;

extern "C" void interrupted(int)
{
    kill_simulation_child();
    while (waitpid(-1, nullptr, 0) > 0) {} // leave no zombie to whoever adopts our children
    _exit(exit_interrupted);
}

int answer(Options const& options)
{
    switch (options.command) {
    case Command::project: return command_project(options);
    case Command::compare: return command_compare(options);
    case Command::explain: return command_explain(options);
    case Command::topology: return command_topology(options);
    case Command::memory: return command_memory(options);
    case Command::import_hf: return command_import_hf(options);
    case Command::import_nccl_tests:
    case Command::import_deepep: return command_import_measurements(options);
    case Command::dump_default: return command_dump_default();
    }
    return exit_usage;
}

int failed(char const* what, int status)
{
    std::cerr << "trainfare: " << what << '\n';
    return status;
}

} // namespace

int main(int argc, char** argv)
{
    std::signal(SIGINT, interrupted);
    std::signal(SIGTERM, interrupted);
    std::signal(SIGPIPE, SIG_IGN); // a closed pipe is seen where it is written to

    try {
        auto const parsed = parse_options(argc, argv);
        if (auto const* status = std::get_if<int>(&parsed)) return *status;
        return answer(std::get<Options>(parsed));
    } catch (InputError const& error) {
        return failed(error.what(), exit_bad_input);
    } catch (MissingCalibration const& error) {
        return failed(error.what(), exit_uncalibrated);
    } catch (std::bad_alloc const&) {
        return failed("out of memory", exit_internal);
    } catch (std::exception const& error) {
        std::cerr << "trainfare: internal failure: ";
        return failed(error.what(), exit_internal);
    }
}
