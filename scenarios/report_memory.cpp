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

void print_memory_table(std::ostream& out, MemoryReport const& memory, std::size_t most_rows)
{
    auto const gb = [](Bytes b) { return fmt::format("{:.2f}", b / units::GB); };
    auto const order = by_fullness(memory);
    bool const all = order.size() <= most_rows;
    fmt::print(out, "\nMemory per GPU, GB, by pipeline rank ({} usable){}\n", format(memory.capacity),
               all ? "" : fmt::format(": the {} fullest of {}", most_rows, order.size()));
    TextTable table{"rrrrrrrrrl"};
    table.row({"rank", "weights", "gradients", "optimizer", "activations", "buffers", "total", "free", "live", ""});
    auto const& stages = all ? memory.stages : order;
    for (std::size_t i = 0; i < stages.size() && i < most_rows; ++i) {
        auto const& s = stages[i];
        table.row({std::to_string(s.rank), gb(s.weights), gb(s.gradients), gb(s.optimizer), gb(s.activations), gb(s.buffers),
                   gb(s.total()), gb(memory.capacity - s.total()), std::to_string(s.live_micro_batches),
                   s.rank == order.front().rank ? "<- fullest" : s.total() > memory.capacity ? "<- does not fit" : ""});
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
