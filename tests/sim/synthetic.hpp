// SPDX-License-Identifier: Apache-2.0
//
// Problems of any size for tests and the benchmark: a pipeline of lock-step groups on a cluster, 1F1B with one extra
// warm-up micro-batch, forward and backward interleaved so that exchanges run under compute, gradients reduced in
// rings. The durations are placeholders; what matters is that every kind of task, channel and peer occurs and that they
// contend for the same links.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "model/cluster.hpp"
#include "model/network.hpp"
#include "sim/problem.hpp"

namespace trainfare::synthetic
{

struct Shape {
    int gpus = 256;
    int group_gpus = 64; // expert parallel, over whole nodes
    int pipeline = 2;
    int micro_batches = 4;
    int layers = 2; // with experts, of each pipeline rank
    int nodes_per_leaf = 32;
    double oversubscription = 1;
    bool spread = false; // nodes of a group strided over the cluster instead of contiguous
    /// Gradients go to the neighbour in the ring, over its ports. Otherwise each GPU's share loads its own port in both
    /// directions, which in a ring is the same load, but does not tell the members of the ring apart by their distance
    /// from a defect.
    bool rings = false;
    std::vector<Fault> faults = {};
    std::optional<std::uint32_t> straggler = {}; // a group that computes 1.3 times as long
};

inline Cluster cluster_of(Shape const& shape)
{
    Cluster c;
    c.gpus = shape.gpus;
    c.scale_up = Bandwidth{160e9};
    c.nic = Bandwidth{45e9};
    c.nodes_per_leaf = shape.nodes_per_leaf;
    c.oversubscription = shape.oversubscription;
    c.faults = shape.faults;
    return c;
}

class Builder
{
public:
    explicit Builder(Shape const& shape)
        : s_{shape}, network_{cluster_of(shape)}, groups_{shape.gpus / shape.group_gpus}, replicas_{groups_ /
                                                                                                    shape.pipeline}
    {
    }

    Problem build()
    {
        problem_.links = network_.links();
        problem_.teams.resize(static_cast<std::size_t>(s_.pipeline));
        for (int g = 0; g < groups_; ++g) {
            auto const rank = g / replicas_;
            auto const at = [&](int r) { return id((r + s_.pipeline) % s_.pipeline * replicas_ + g % replicas_); };
            auto const slow = s_.straggler && *s_.straggler == id(g);
            problem_.groups.push_back({id(rank), at(rank - 1), at(rank + 1), id(rank), slow ? 1.3 : 1.0});
            problem_.teams[static_cast<std::size_t>(rank)].push_back(id(g));
            add_flows(g);
        }
        for (int rank = 0; rank < s_.pipeline; ++rank) add_program(rank);
        connect();
        return std::move(problem_);
    }

private:
    struct Receive { // a join that waits for a send of a neighbour
        std::uint32_t program, task;
        int micro_batch;
        bool forward;
    };

    static std::uint32_t id(int i) { return static_cast<std::uint32_t>(i); }

    int gpu(int group, int index) const
    {
        auto const nodes = s_.group_gpus / 8;
        auto const node = s_.spread ? index / 8 * groups_ + group : group * nodes + index / 8;
        return node * 8 + index % 8;
    }

    void add_flow(int group, Channel channel, double share, int from, int to)
    {
        if (from == to) return;
        problem_.flows.push_back({id(group), channel, share, network_.route(from, to)});
    }

    void add_flows(int g)
    {
        for (int i = 0; i < s_.group_gpus; ++i) {
            for (int j = i % 8; j < s_.group_gpus; j += 8) add_flow(g, Channel::expert, 0.25, gpu(g, i), gpu(g, j));
            for (int j = i / 8 * 8; j < i / 8 * 8 + 8; ++j) add_flow(g, Channel::expert, 0.5, gpu(g, i), gpu(g, j));
        }
        auto const to = [&](Channel channel, int other) {
            for (int i = 0; i < s_.group_gpus; ++i) add_flow(g, channel, 1, gpu(g, i), gpu(other, i));
        };
        to(Channel::to_next, (g + replicas_) % groups_);
        to(Channel::to_previous, (g + groups_ - replicas_) % groups_);
        if (s_.rings) return to(Channel::data_dense, g / replicas_ * replicas_ + (g % replicas_ + 1) % replicas_);
        for (int i = 0; i < s_.group_gpus; ++i) {
            Flow flow{id(g), Channel::data_dense, 1, {}};
            for (auto const link :
                 network_.route(gpu(g, i), (gpu(g, i) + s_.gpus / 2) % s_.gpus)) { // up to its NIC, or its stand-in
                flow.route.add(link);
                if (problem_.links[link].kind != LinkKind::nic_out) continue;
                flow.route.add(link + id(s_.gpus)); // links: NVLink out, NVLink in, NIC out, NIC in, each by GPU
                break;
            }
            problem_.flows.push_back(flow);
        }
    }

    /// One micro-batch in one direction: what is left of its chain of segments.
    struct Pass {
        int micro_batch = -1;
        bool forward = true;
        std::uint32_t last = 0;
    };

    void add_program(int rank)
    {
        program_ = id(rank);
        problem_.programs.emplace_back();
        sends_.emplace_back();
        compute_.reset();
        exchange_.reset();
        auto const warm_up = std::min(s_.micro_batches, s_.pipeline - rank);
        for (int m = 0; m < warm_up; ++m) run({m, true}, {});
        for (int m = 0; m < s_.micro_batches; ++m) {
            run(m + warm_up < s_.micro_batches ? Pass{m + warm_up, true} : Pass{}, {m, false});
        }
        auto const reduce = add({.kind = TaskKind::join, .peer = Peer::team, .peer_task = *compute_}, {*exchange_});
        auto const rings = add(communicate(Channel::data_dense, 40e6), {reduce});
        add(compute(2e-3), {rings});
    }

    static Task compute(double seconds) { return {.kind = TaskKind::compute, .seconds = seconds}; }
    static Task communicate(Channel channel, double payload)
    {
        return {.kind = TaskKind::communicate, .channel = channel, .seconds = 5e-6, .payload = payload};
    }

    std::uint32_t add(Task task, std::vector<std::uint32_t> const& after)
    {
        return problem_.programs[program_].add(task, after);
    }

    void begin(Pass& pass)
    {
        if (pass.micro_batch < 0) return;
        pass.last = add({}, {});
        receives_.push_back({program_, pass.last, pass.micro_batch, pass.forward});
    }

    void segment(Pass& pass, int part)
    {
        if (pass.micro_batch < 0) return;
        std::vector<std::uint32_t> after{pass.last};
        if (compute_) after.push_back(*compute_);
        compute_ = add(compute((pass.forward ? 300e-6 : 550e-6) + 20e-6 * part), after);
        after = {*compute_};
        if (exchange_) after.push_back(*exchange_);
        exchange_ = pass.last = add(communicate(Channel::expert, part % 2 == 0 ? 4e6 : 8e6), after);
    }

    void end(Pass const& pass)
    {
        auto const at_end = program_ == (pass.forward ? id(s_.pipeline) - 1 : 0);
        if (pass.micro_batch < 0 || at_end) return;
        auto const channel = pass.forward ? Channel::to_next : Channel::to_previous;
        sends_[program_].push_back({{pass.micro_batch, pass.forward}, add(communicate(channel, 7e6), {pass.last})});
    }

    void run(Pass forward, Pass backward)
    {
        begin(forward);
        begin(backward);
        for (int part = 0; part < 2 * s_.layers; ++part) {
            segment(forward, part);
            segment(backward, part);
        }
        end(forward);
        end(backward);
    }

    void connect()
    {
        for (auto const& receive : receives_) {
            auto const from = receive.forward ? int(receive.program) - 1 : int(receive.program) + 1;
            if (from < 0 || from >= s_.pipeline) continue;
            auto& task = problem_.programs[receive.program].tasks[receive.task];
            task.peer = receive.forward ? Peer::previous : Peer::next;
            for (auto const& [what, send] : sends_[static_cast<std::size_t>(from)]) {
                if (what == std::pair{receive.micro_batch, receive.forward}) task.peer_task = send;
            }
        }
    }

    Shape s_;
    Network network_;
    int groups_, replicas_;
    Problem problem_;
    std::uint32_t program_ = 0;
    std::optional<std::uint32_t> compute_, exchange_; // last on each stream
    std::vector<Receive> receives_;
    std::vector<std::vector<std::pair<std::pair<int, bool>, std::uint32_t>>> sends_; // by program
};

inline Problem make(Shape const& shape) { return Builder{shape}.build(); }

} // namespace trainfare::synthetic
