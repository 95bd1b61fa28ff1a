// SPDX-License-Identifier: Apache-2.0
//
// trainfare-bench-sim: how folding and simulation scale. Sixteen pipeline ranks (as many as fit), 120 micro-batches,
// four expert layers a rank, EP64: every exchange of one training iteration, at four sizes of a cluster. Timings are of
// this machine.
#include <chrono>
#include <cstdio>
#include <exception>

#include <fmt/format.h>
#include <sys/resource.h>

#include "sim/simulate.hpp"
#include "tests/sim/synthetic.hpp"

namespace {

using namespace trainfare;

double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void print_row(char const* what, synthetic::Shape const& shape)
{
    auto const t0 = now();
    auto const problem = synthetic::make(shape);
    auto const t1 = now();
    auto const folded = fold(problem);
    auto const t2 = now();
    if (auto const violations = check_fold(folded); !violations.empty()) throw std::runtime_error(violations.front());
    auto const t3 = now();
    auto const run = simulate(folded);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    fmt::print("{:<12} {:>7} {:>6} {:>5} {:>9} {:>6} {:>6} {:>7.3f} {:>7.3f} {:>7.3f} {:>7.3f} {:>8} {:>8} {:>7.0f} "
               "{:>9.5f}\n",
               what, shape.gpus, problem.groups.size(), folded.representative.size(), problem.flows.size(),
               folded.flows.size(), folded.rounds, t1 - t0, t2 - t1, t3 - t2, run.wall.value(), run.tasks, run.flows,
               std::max(static_cast<double>(usage.ru_maxrss) / 1024, run.peak_memory.value() / 1048576),
               run.makespan.value());
    std::fflush(stdout);
}

} // namespace

int main()
try {
    fmt::print("{:<12} {:>7} {:>6} {:>5} {:>9} {:>6} {:>6} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7} {:>9}\n", "case",
               "GPUs", "groups", "class", "flows", "class", "rounds", "build s", "fold s", "check s", "run s", "tasks",
               "flows run", "MiB max", "step s");
    for (auto const gpus : {256, 2048, 16384, 65536}) {
        synthetic::Shape shape;
        shape.gpus = gpus;
        shape.pipeline = std::min(16, gpus / 64);
        shape.micro_batches = 120;
        shape.layers = 4;
        print_row("uniform", shape);
        shape.faults = {{Fault::Kind::slow_nic, 3, 0.5}};
        print_row("slow NIC", shape);
        shape.faults.clear();
        shape.spread = true;
        shape.oversubscription = 16;
        print_row("spread 16:1", shape);
    }
    return 0;
} catch (std::exception const& error) {
    fmt::print(stderr, "trainfare-bench-sim: {}\n", error.what());
    return 5;
}
