// SPDX-License-Identifier: Apache-2.0
//
// One step as Chrome trace events, which Perfetto (ui.perfetto.dev) opens. A process is a pipeline rank, shown by one
// group of GPUs that stands for its class; a thread is a stream. Slices of one track never overlap: where a stream has
// two transfers under way at once, the second goes to another track of the same stream.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include "scenarios/report.hpp"

namespace trainfare {

namespace {

constexpr std::array<char const*, 4> streams{"compute", "exchange", "pipeline", "data parallel"};
constexpr int lanes_per_stream = 1000; // room for the track numbers of one stream

int stream_of(Activity a)
{
    switch (a) {
    case Activity::compute:
    case Activity::optimizer: return 0;
    case Activity::dispatch:
    case Activity::combine: return 1;
    case Activity::pipeline_send: return 2;
    case Activity::data_parallel: return 3;
    case Activity::wait: break;
    }
    return -1;
}

char const* words(Activity a)
{
    switch (a) {
    case Activity::compute: return "compute";
    case Activity::dispatch: return "dispatch";
    case Activity::combine: return "combine";
    case Activity::pipeline_send: return "send";
    case Activity::data_parallel: return "data parallel";
    case Activity::optimizer: return "optimizer";
    case Activity::wait: return "wait";
    }
    return "";
}

char const* words(SlotKind k)
{
    switch (k) {
    case SlotKind::forward: return "1F";
    case SlotKind::backward:
    case SlotKind::backward_input: return "1B";
    case SlotKind::backward_weight: return "1W";
    case SlotKind::overlapped: return "1F1B";
    }
    return "";
}

/// Writes events with commas between them.
class Events {
public:
    explicit Events(std::ostream& out) : out_{out} {}
    void event(std::string const& body)
    {
        out_ << (first_ ? "\n{" : ",\n{") << body << '}';
        first_ = false;
    }
    void process(int pid, std::string const& name)
    {
        event(fmt::format(R"("ph":"M","pid":{},"name":"process_name","args":{{"name":"{}"}})", pid, name));
        event(fmt::format(R"("ph":"M","pid":{0},"name":"process_sort_index","args":{{"sort_index":{0}}})", pid));
    }
    void thread(int pid, int tid, std::string const& name)
    {
        event(fmt::format(R"("ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":"{}"}})", pid, tid, name));
        event(fmt::format(R"("ph":"M","pid":{0},"tid":{1},"name":"thread_sort_index","args":{{"sort_index":{1}}})", pid,
                          tid));
    }

private:
    std::ostream& out_;
    bool first_ = true;
};

std::string arguments(Iteration const& iteration, TaskLabel const& label, std::vector<Slot> const& slots)
{
    std::string out = fmt::format(R"("activity":"{}")", words(label.activity));
    if (label.slot >= 0) {
        out += fmt::format(R"(,"slot":{},"kind":"{}","pass":"{}")", label.slot, words(label.slot_kind),
                           label.backward ? "backward" : "forward");
        if (auto const index = static_cast<std::size_t>(label.slot); index < slots.size()) {
            auto const& slot = slots[index];
            bool const second = label.backward && slot.kind == SlotKind::overlapped;
            out += fmt::format(R"(,"micro_batch":{})", second ? slot.backward_micro_batch : slot.micro_batch);
        }
    }
    if (label.block >= 0) out += fmt::format(R"(,"block":{})", label.block);
    if (label.activity != Activity::compute || label.segment >= iteration.segments.size()) return out;
    auto const& parts = iteration.segments[label.segment];
    for (std::size_t i = 0; i < parts.size(); ++i)
        if (parts[i] > 0) out += fmt::format(R"(,"{}_us":{:.3f})", name(static_cast<OpClass>(i)), 1e6 * parts[i]);
    return out;
}

std::string title(TaskLabel const& label)
{
    std::string out = words(label.activity);
    if (label.slot >= 0 && label.activity != Activity::data_parallel) out += label.backward ? " B" : " F";
    if (label.block >= 0) out += fmt::format(" block {}", label.block);
    return out;
}

void write_rank(Events& events, Timeline const& timeline, std::uint32_t group_class, std::vector<Slot> const& slots)
{
    auto const& problem = timeline.iteration.problem;
    auto const program = problem.groups[timeline.folded.representative[group_class]].program;
    auto const& labels = timeline.iteration.labels[program];
    auto const& times = timeline.run.classes[group_class];
    int const pid = static_cast<int>(program);
    events.process(pid, fmt::format("pipeline rank {}", pid));

    std::vector<std::size_t> order;
    for (std::size_t t = 0; t < labels.size() && t < times.start.size(); ++t)
        if (stream_of(labels[t].activity) >= 0 && times.end[t] > times.start[t] &&
            problem.programs[program].tasks[t].kind != TaskKind::join)
            order.push_back(t);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return times.start[a] < times.start[b]; });

    std::array<std::vector<double>, streams.size()> busy_until; // by stream, by lane
    for (auto const t : order) {
        auto const stream = static_cast<std::size_t>(stream_of(labels[t].activity));
        auto& lanes = busy_until[stream];
        std::size_t lane = 0;
        while (lane < lanes.size() && lanes[lane] > times.start[t]) ++lane;
        if (lane == lanes.size()) lanes.push_back(0);
        lanes[lane] = times.end[t];
        int const tid = static_cast<int>(stream) * lanes_per_stream + static_cast<int>(lane);
        // Whole nanoseconds, rounded before subtracting: neighbours that touch must not overlap in print.
        double const start = std::round(1e9 * times.start[t]), end = std::round(1e9 * times.end[t]);
        events.event(
            fmt::format(R"("ph":"X","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"name":"{}","cat":"{}","args":{{{}}})",
                        pid, tid, 1e-3 * start, 1e-3 * (end - start), title(labels[t]), streams[stream],
                        arguments(timeline.iteration, labels[t], slots)));
    }
    for (std::size_t s = 0; s < streams.size(); ++s)
        for (std::size_t lane = 0; lane < std::max<std::size_t>(1, busy_until[s].size()); ++lane)
            events.thread(pid, static_cast<int>(s) * lanes_per_stream + static_cast<int>(lane),
                          lane == 0 ? std::string(streams[s]) : fmt::format("{} ({})", streams[s], lane + 1));
}

} // namespace

void write_trace(std::ostream& out, Result const& r)
{
    out << R"({"displayTimeUnit":"ms","otherData":{"schema":"trainfare/trace","version":"1"},"traceEvents":[)";
    if (r.timeline) {
        Events events{out};
        auto const& problem = r.timeline->iteration.problem;
        auto const& plan = r.scenario.plan;
        auto const schedule = make_schedule(plan.schedule, plan.pp, plan.vpp, plan.micro_batches(), plan.overlap_ep);
        for (std::uint32_t program = 0; program < problem.programs.size(); ++program) {
            auto const& representatives = r.timeline->folded.representative;
            for (std::uint32_t c = 0; c < representatives.size(); ++c) {
                if (problem.groups[representatives[c]].program != program) continue;
                write_rank(events, *r.timeline, c, schedule.slots.at(program));
                break; // one class stands for the rank
            }
        }
    }
    out << "\n]}\n";
}

} // namespace trainfare
