// SPDX-License-Identifier: Apache-2.0
//
// One training iteration as plain data: what runs in which order (programs), who runs it (groups), over which links (flows).
// A group is a set of GPUs that move in lock-step because they meet in a collective in every layer (EP64: 64 GPUs). All groups
// of one pipeline rank run the same program. Nothing here knows SimGrid.
#pragma once

#include <cstdint>
#include <vector>

#include "model/network.hpp"

namespace trainfare {

/// A pattern of flows of one group; every communication task moves bytes along one pattern.
enum class Channel : std::uint8_t {
    expert,       // dispatch and combine
    to_next,      // pipeline, to the group of the next rank (the last rank's next is rank 0)
    to_previous,
    data_dense,   // gradients and weights of what all data-parallel ranks share
    data_expert,  // of experts
    count
};

enum class TaskKind : std::uint8_t { compute, communicate, join };

/// Which neighbours' task a task waits for besides its own group's.
enum class Peer : std::uint8_t { none, previous, next, team };

struct Task {
    TaskKind kind = TaskKind::join;
    Channel channel = Channel::expert;    // communicate
    double seconds = 0;                   // compute: duration; communicate: latency before the first byte
    double payload = 0;                   // communicate: bytes; a flow carries share x payload
    std::uint32_t first_dependency = 0;   // into Program::dependencies
    std::uint32_t dependencies = 0;
    Peer peer = Peer::none;
    std::uint32_t peer_task = 0;          // index in the peers' program
};

/// Tasks in a topological order of the local dependencies.
struct Program {
    std::vector<Task> tasks;
    std::vector<std::uint32_t> dependencies; // local task indices

    std::uint32_t add(Task task, std::vector<std::uint32_t> const& after)
    {
        task.first_dependency = static_cast<std::uint32_t>(dependencies.size());
        task.dependencies = static_cast<std::uint32_t>(after.size());
        dependencies.insert(dependencies.end(), after.begin(), after.end());
        tasks.push_back(task);
        return static_cast<std::uint32_t>(tasks.size() - 1);
    }
};

struct Flow {
    std::uint32_t group = 0;
    Channel channel = Channel::expert;
    double share = 0;
    Route route;
};

struct Group {
    std::uint32_t program = 0;
    std::uint32_t previous = 0, next = 0; // groups; itself where there is no pipeline
    std::uint32_t team = 0;               // groups that reduce gradients together
    double slowdown = 1;                  // compute takes this much longer (a straggler)
};

struct Problem {
    std::vector<Link> links;
    std::vector<Program> programs;
    std::vector<Group> groups;
    std::vector<std::vector<std::uint32_t>> teams; // group ids
    std::vector<Flow> flows;                       // sorted by group, then channel
};

} // namespace trainfare
