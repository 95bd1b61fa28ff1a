// SPDX-License-Identifier: Apache-2.0
//
// The only file that knows SimGrid. The task graph stays in flat arrays of our own with dependency counters; SimGrid
// holds only what is in flight: a Timer for each delay, a host-to-host Comm for each flow class. Written for 3.32
// (Debian 12).
//
// Model CM02 without cross-traffic and without link latency: two flows on one link then get equal shares, like RDMA
// queue pairs. The defaults would charge 8 % more. Latency is paid as a Timer before the flow, because CM02 would weigh
// shares by it.
#include "sim/engine.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>

#include <fmt/format.h>
#include <simgrid/kernel/Timer.hpp>
#include <simgrid/s4u.hpp>

#include "model/error.hpp"

namespace trainfare {
namespace {

namespace sg4 = simgrid::s4u;
using simgrid::kernel::timer::Timer;

constexpr std::size_t channels = static_cast<std::size_t>(Channel::count);
constexpr std::size_t max_live_flows = 20'000; // 3.32 scans its list of live activities once a completion
constexpr double max_payload = 1e15;           // bytes of one flow; keeps sizes in SimGrid's integers
/// SimGrid's message sizes are integers: bytes and capacities both grow by this power of two, which leaves times as
/// they are.
constexpr double size_scale = 1024;

struct ChannelFlows {
    std::uint32_t begin = 0, end = 0; // into Folded::flows
};

/// Who waits for whom, as one compact list.
struct Successors {
    std::vector<std::uint32_t> begin, task;   // CSR
    std::vector<std::uint32_t> missing;       // dependencies of each task
};

std::vector<std::uint32_t> const& peers(Folded const& f, std::uint32_t c, Peer peer)
{
    static std::vector<std::uint32_t> const nobody;
    switch (peer) {
    case Peer::none: return nobody;
    case Peer::previous: return f.previous[c];
    case Peer::next: return f.next[c];
    case Peer::team: return f.team[c];
    }
    throw InternalError("simulation: a task waits for an unknown peer");
}

Program const& program_of(Folded const& f, std::uint32_t c)
{
    return f.problem->programs[f.problem->groups[f.representative[c]].program];
}

[[noreturn]] void missing_task(std::uint32_t c, std::uint32_t task)
{
    throw InternalError(
        fmt::format("simulation: task {} of group class {} waits for a task that does not exist", task, c));
}

/// Calls use(before, after) for every dependency between tasks of the row.
template <class Use>
void for_each_dependency(Folded const& f, TaskRow const& row, Use use)
{
    for (std::uint32_t c = 0; c < f.representative.size(); ++c) {
        auto const& program = program_of(f, c);
        for (std::uint32_t i = 0; i < program.tasks.size(); ++i) {
            auto const& task = program.tasks[i];
            auto const after = row.first[c] + i;
            for (std::uint32_t d = 0; d < task.dependencies; ++d) {
                auto const before = program.dependencies.at(task.first_dependency + d);
                if (before >= program.tasks.size()) missing_task(c, i);
                use(row.first[c] + before, after);
            }
            for (auto const peer : peers(f, c, task.peer)) {
                if (task.peer_task >= row.first[peer + 1] - row.first[peer]) missing_task(c, i);
                use(row.first[peer] + task.peer_task, after);
            }
        }
    }
}

Successors successors_of(Folded const& f, TaskRow const& row)
{
    Successors out;
    out.begin.assign(row.size() + 1, 0);
    out.missing.assign(row.size(), 0);
    for_each_dependency(f, row, [&](auto before, auto after) {
        ++out.begin[before + 1];
        ++out.missing[after];
    });
    for (std::uint32_t i = 0; i < row.size(); ++i) out.begin[i + 1] += out.begin[i];
    out.task.resize(out.begin.back());
    auto next = out.begin;
    for_each_dependency(f, row, [&](auto before, auto after) { out.task[next[before]++] = after; });
    return out;
}

/// Greatest common divisor of all weights on each link class. Weights and capacity divided by it mean the same
/// constraint, and routes stay short: every flow that starts walks its whole route.
std::vector<std::uint32_t> common_weights(Folded const& f)
{
    std::vector<std::uint32_t> out(f.link_capacity.size(), 0);
    for (auto const& flow : f.flows) {
        for (auto const& use : flow.uses) out[use.link] = std::gcd(out[use.link], use.weight);
    }
    for (auto& divisor : out) divisor = std::max(divisor, 1U);
    return out;
}

class Executor {
public:
    Executor(Folded const& folded, TaskRow const& row, std::span<double> start, std::span<double> end)
        : f_{folded}, row_{row}, start_{start}, end_{end}, successors_{successors_of(folded, row)},
          open_flows_(row.size(), 0), done_(row.size(), 0)
    {
    }

    std::uint64_t run()
    {
        std::string name = "trainfare";
        std::vector<std::string> options{name, "--cfg=network/model:CM02", "--cfg=network/crosstraffic:0",
                                         "--cfg=network/optim:Lazy", "--cfg=network/TCP-gamma:1e18",
                                         "--cfg=network/loopback-bw:1e15", "--log=root.thres:critical"};
        std::vector<char*> arguments;
        for (auto& option : options) arguments.push_back(option.data());
        auto count = static_cast<int>(arguments.size());
        arguments.push_back(nullptr);
        auto* const engine = new sg4::Engine{&count, arguments.data()}; // not destroyed, see run_engine()
        build_platform();
        sg4::Activity::on_completion_cb([this](sg4::Activity const& activity) {
            auto const& comm = static_cast<sg4::Comm const&>(activity); // the only activities there are
            flow_done(*comm.get_data<Live>(), activity.get_state() == sg4::Activity::State::FINISHED);
        });
        // The last reference must not be dropped inside the completion callback.
        sg4::Engine::on_time_advance_cb([this](double) { graveyard_.clear(); });
        for (std::uint32_t i = 0; i < row_.size(); ++i) {
            if (successors_.missing[i] == 0) ready_.push_back(i);
        }
        launch_ready();
        engine->run();
        check_all_done();
        return flows_;
    }

private:
    struct Live {
        sg4::CommPtr comm;
        std::uint32_t task = 0;
    };

    /// One source host a flow class, one sink for all. The route lists each link once for each flow on it: SimGrid adds
    /// the repetitions up to a consumption weight. Bypass routes in an Empty zone keep repetitions, and need no table
    /// of all pairs.
    void build_platform()
    {
        auto* const zone = sg4::create_empty_zone("classes");
        auto* const sink = zone->create_host("sink", 1.0)->seal();
        std::vector<sg4::LinkInRoute> links;
        auto const divisors = common_weights(f_);
        for (std::size_t i = 0; i < f_.link_capacity.size(); ++i) {
            if (!(f_.link_capacity[i] > 0) || !std::isfinite(f_.link_capacity[i])) {
                throw InternalError(fmt::format("simulation: link class {} has no capacity, but flows cross it", i));
            }
            links.emplace_back(
                zone->create_link(fmt::format("l{}", i), f_.link_capacity[i] / divisors[i] * size_scale)->seal());
        }
        flows_of_channel_.resize(f_.representative.size());
        for (std::uint32_t i = 0; i < f_.flows.size(); ++i) {
            auto const& flow = f_.flows[i];
            auto& range = flows_of_channel_[flow.group][static_cast<std::size_t>(flow.channel)];
            if (range.begin == range.end) range.begin = i;
            range.end = i + 1;
            auto* const source = zone->create_host(fmt::format("f{}", i), 1.0)->seal();
            sources_.push_back(source);
            if (flow.uses.empty()) continue;
            std::vector<sg4::LinkInRoute> route;
            for (auto const& use : flow.uses)
                route.insert(route.end(), use.weight / divisors[use.link], links[use.link]);
            zone->add_bypass_route(source->get_netpoint(), sink->get_netpoint(), nullptr, nullptr, route);
        }
        zone->seal();
        sink_ = sink;
    }

    /// Launching may finish tasks at once, which makes others ready: a queue instead of recursion.
    void launch_ready()
    {
        if (launching_) return;
        launching_ = true;
        for (std::size_t i = 0; i < ready_.size(); ++i) launch(ready_[i]);
        ready_.clear();
        launching_ = false;
    }

    void launch(std::uint32_t id)
    {
        start_[id] = sg4::Engine::get_clock();
        auto const c = row_.class_of(id);
        auto const& task = program_of(f_, c).tasks[id - row_.first[c]];
        auto const slowdown = f_.problem->groups[f_.representative[c]].slowdown;
        auto const delay = task.kind == TaskKind::compute ? task.seconds * slowdown
                           : task.kind == TaskKind::communicate ? task.seconds : 0.0;
        if (!(delay >= 0) || !std::isfinite(delay)) {
            throw InternalError(
                fmt::format("simulation: task {} of group class {} takes {} s", id - row_.first[c], c, delay));
        }
        if (delay == 0) return after_delay(id, c, task);
        Timer::set(start_[id] + delay, [this, id, c, &task] {
            after_delay(id, c, task);
            launch_ready();
        });
    }

    void after_delay(std::uint32_t id, std::uint32_t c, Task const& task)
    {
        if (task.kind != TaskKind::communicate || task.payload == 0) return finish(id);
        auto const range = flows_of_channel_[c][static_cast<std::size_t>(task.channel)];
        for (auto i = range.begin; i < range.end; ++i) {
            auto const bytes = f_.flows[i].share * task.payload;
            if (!(bytes >= 0) || bytes > max_payload) {
                throw InternalError(fmt::format("simulation: task {} of group class {} sends {} bytes in a flow",
                                                id - row_.first[c], c, bytes));
            }
            if (bytes == 0 || f_.flows[i].uses.empty()) continue;
            ++open_flows_[id];
            start_flow(id, i, bytes);
        }
        if (open_flows_[id] == 0) finish(id);
    }

    void start_flow(std::uint32_t id, std::uint32_t flow, double bytes)
    {
        if (live_count_ >= max_live_flows) {
            throw InternalError(
                fmt::format("simulation: more than {} flow classes in flight at once (the cluster has too little "
                            "symmetry); simulate fewer GPUs or fewer defects",
                            max_live_flows));
        }
        ++live_count_;
        ++flows_;
        if (free_.empty()) {
            live_.push_back(std::make_unique<Live>());
            free_.push_back(live_.back().get());
        }
        auto* const slot = free_.back();
        free_.pop_back();
        slot->task = id;
        slot->comm = sg4::Comm::sendto_init();
        slot->comm->set_data(slot);
        slot->comm->set_payload_size(
            std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(bytes * size_scale))));
        slot->comm->set_source(sources_[flow]);
        slot->comm->set_destination(sink_); // starts it; starting it again would simulate it twice
    }

    void flow_done(Live& slot, bool finished)
    {
        if (!finished) throw InternalError("simulation: a flow failed");
        graveyard_.push_back(std::move(slot.comm));
        free_.push_back(&slot);
        --live_count_;
        if (--open_flows_[slot.task] > 0) return;
        finish(slot.task);
        launch_ready();
    }

    void finish(std::uint32_t id)
    {
        end_[id] = sg4::Engine::get_clock();
        done_[id] = 1;
        for (auto i = successors_.begin[id]; i < successors_.begin[id + 1]; ++i) {
            if (--successors_.missing[successors_.task[i]] == 0) ready_.push_back(successors_.task[i]);
        }
    }

    void check_all_done() const
    {
        auto const undone = std::find(done_.begin(), done_.end(), 0);
        if (undone == done_.end()) return;
        auto const id = static_cast<std::uint32_t>(undone - done_.begin());
        auto const c = row_.class_of(id);
        throw InternalError(
            fmt::format("simulation: {} of {} tasks were never reached, first task {} of program {} (group {}): "
                        "they wait for each other in a cycle",
                        std::count(done_.begin(), done_.end(), 0), done_.size(), id - row_.first[c],
                        f_.problem->groups[f_.representative[c]].program, f_.representative[c]));
    }

    Folded const& f_;
    TaskRow const& row_;
    std::span<double> start_, end_;
    Successors successors_;
    std::vector<std::array<ChannelFlows, channels>> flows_of_channel_; // by group class
    std::vector<sg4::Host*> sources_;                                  // by flow class
    sg4::Host* sink_ = nullptr;
    std::vector<std::uint32_t> open_flows_; // by task
    std::vector<char> done_;                // by task
    std::vector<std::uint32_t> ready_;
    bool launching_ = false;
    std::vector<std::unique_ptr<Live>> live_;
    std::vector<Live*> free_;
    std::vector<sg4::CommPtr> graveyard_;
    std::size_t live_count_ = 0;
    std::uint64_t flows_ = 0;
};

} // namespace

TaskRow::TaskRow(Folded const& folded)
{
    std::uint64_t total = 0;
    first.push_back(0);
    for (std::uint32_t c = 0; c < folded.representative.size(); ++c) {
        total += program_of(folded, c).tasks.size();
        if (total >= no_class) throw InternalError("simulation: too many tasks");
        first.push_back(static_cast<std::uint32_t>(total));
    }
}

std::uint32_t TaskRow::class_of(std::uint32_t task) const
{
    return static_cast<std::uint32_t>(std::upper_bound(first.begin(), first.end(), task) - first.begin() - 1);
}

std::uint64_t run_engine(Folded const& folded, TaskRow const& row, std::span<double> start, std::span<double> end)
{
    // Never destroyed: the child ends by _exit(), and tearing SimGrid down with flows in flight aborts.
    return (new Executor{folded, row, start, end})->run();
}

} // namespace trainfare
