// SPDX-License-Identifier: Apache-2.0
//
// Memory of one GPU of each pipeline rank against what it has.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include "model/text_units.hpp"
#include "scenarios/report.hpp"
#include "scenarios/report_tables.hpp"
#include "scenarios/report_words.hpp"
#include "scenarios/text_table.hpp"

namespace trainfare {

namespace {

std::string gb(Bytes b) { return fmt::format("{:.2f}", b / units::GB); }

/// Neighbouring ranks that print alike.
struct Run {
    StageMemory const *first, *last;
};

std::vector<Run> equal_runs(std::vector<StageMemory> const& stages)
{
    auto const alike = [](StageMemory const& a, StageMemory const& b) {
        return gb(a.weights) == gb(b.weights) && gb(a.gradients) == gb(b.gradients) &&
               gb(a.optimizer) == gb(b.optimizer) && gb(a.activations) == gb(b.activations) &&
               gb(a.buffers) == gb(b.buffers) && gb(a.total()) == gb(b.total()) &&
               a.live_micro_batches == b.live_micro_batches;
    };
    std::vector<Run> runs;
    for (auto const& stage : stages) {
        if (runs.empty() || !alike(*runs.back().first, stage))
            runs.push_back({&stage, &stage});
        else
            runs.back().last = &stage;
    }
    return runs;
}

} // namespace

void print_memory_table(std::ostream& out, MemoryReport const& memory, std::size_t most_rows)
{
    auto const runs = equal_runs(memory.stages);
    int const fullest = memory.fullest().rank;
    fmt::print(out, "\nMemory per GPU, GB, by pipeline rank ({} usable){}\n", format(memory.capacity),
               runs.size() <= most_rows ? ""
                                        : fmt::format(": the first {} of {} different ones", most_rows, runs.size()));
    TextTable table{"rrrrrrrrrl"};
    table.row({"rank", "weights", "gradients", "optimizer", "activations", "buffers", "total", "free", "live", ""});
    for (std::size_t i = 0; i < runs.size(); ++i) {
        auto const& s = *runs[i].first;
        int const last = runs[i].last->rank;
        bool const is_fullest = s.rank <= fullest && fullest <= last;
        if (i >= most_rows && !is_fullest) continue;
        table.row({s.rank == last ? std::to_string(s.rank) : fmt::format("{}-{}", s.rank, last), gb(s.weights),
                   gb(s.gradients), gb(s.optimizer), gb(s.activations), gb(s.buffers), gb(s.total()),
                   gb(memory.capacity - s.total()), std::to_string(s.live_micro_batches),
                   is_fullest                    ? "<- fullest"
                   : s.total() > memory.capacity ? "<- does not fit"
                                                 : ""});
    }
    table.print(out);
}

void print_memory(std::ostream& out, Result const& r)
{
    auto const& fullest = r.memory.fullest();
    fmt::print(out, "{}\n", r.scenario.name);
    fmt::print(out, "{}: pipeline rank {} needs {} of {}, {} {}\n", r.fits ? "Fits" : "DOES NOT FIT", fullest.rank,
               format(fullest.total()), format(r.memory.capacity),
               format(r.fits ? r.memory.headroom() : -r.memory.headroom()), r.fits ? "free" : "missing");
    print_memory_table(out, r.memory, 64);
    out << "\nweights: compute copies, gathered; gradients and optimizer: after ZeRO " << r.scenario.plan.zero
        << "; activations: peak over the schedule;\nlive: forward chunks held at the peak. "
        << format(r.scenario.cluster.gpu.memory) << " are sold, the driver and the context keep the rest.\n";
}

} // namespace trainfare
