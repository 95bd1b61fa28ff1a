// SPDX-License-Identifier: Apache-2.0
//
// Questions to the cluster's graph, answered by Boost.Graph: which link limits a path, what passes between two halves.
// They are the analytic reason printed beside a simulated number.
#pragma once

#include <string>
#include <vector>

#include "model/cluster.hpp"

namespace trainfare {

struct WidestPath {
    Bandwidth bandwidth;               // of the tightest link on the best path
    std::string limit;                 // that link in words: "NIC of GPU 8 (out)"
    std::vector<std::string> hops;
};

/// Best path by its tightest link.
WidestPath widest_path(Cluster const&, int from_gpu, int to_gpu);

/// Most that can flow from one GPU set to another (max flow = min cut), and the links of the cut by kind.
struct Cut {
    Bandwidth bandwidth;
    std::vector<std::string> links; // "1024 x NIC out at 44.6 GB/s"
};
Cut min_cut(Cluster const&, std::vector<int> const& from_gpus, std::vector<int> const& to_gpus);

/// First half of the GPUs against the second.
Cut bisection(Cluster const&);

} // namespace trainfare
