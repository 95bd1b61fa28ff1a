// SPDX-License-Identifier: Apache-2.0
//
// trainfare-calibrate: measures a training step's operations on this machine's GPU. Commands are in commands.cpp and
// command_run.cpp, options in options.cpp; this file decides how the program ends.
#include <csignal>
#include <exception>
#include <iostream>
#include <new>

#include "calibrate/run/commands.hpp"
#include "calibrate/run/exit_codes.hpp"
#include "model/error.hpp"

namespace {

using namespace trainfare;
using namespace trainfare::measure;

extern "C" void interrupted(int) { interrupt(); }

int answer(Options const& options)
{
    if (options.command ==
        Command::run) { // the others may stop anywhere, and collectives has children of its own to think of
        std::signal(SIGINT, interrupted);
        std::signal(SIGTERM, interrupted);
    }
    switch (options.command) {
    case Command::plan: return command_plan(options);
    case Command::run: return command_run(options);
    case Command::collectives: return command_collectives(options);
    case Command::check: return command_check(options);
    case Command::fit: return command_fit(options);
    case Command::show: return command_show(options);
    case Command::import_nccl_tests:
    case Command::import_deepep: return command_import(options);
    }
    return exit_usage;
}

int failed(char const* what, int status)
{
    std::cerr << "trainfare-calibrate: " << what << '\n';
    return status;
}

} // namespace

int main(int argc, char** argv)
{
    std::signal(SIGPIPE, SIG_IGN); // a closed pipe is seen where it is written to
    try {
        auto const parsed = parse_options(argc, argv);
        if (auto const* status = std::get_if<int>(&parsed)) return *status;
        return answer(std::get<Options>(parsed));
    } catch (InputError const& error) {
        return failed(error.what(), exit_bad_input);
    } catch (std::bad_alloc const&) {
        return failed("out of memory", exit_internal);
    } catch (std::exception const& error) {
        std::cerr << "trainfare-calibrate: internal failure: ";
        return failed(error.what(), exit_internal);
    }
}
