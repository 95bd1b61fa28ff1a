// SPDX-License-Identifier: Apache-2.0
//
// The cluster's links as plain data, and the route between two GPUs. One link per direction. Ports of an NVSwitch
// are links, its crossbar is not; leaf uplinks of one leaf are pooled (adaptive routing), spines do not block.
// A rail is a NIC position in a node, so that an NVL72 domain of 18 nodes with 4 GPUs has 4 rails. Traffic never
// changes rails in the fabric: it first moves over NVLink to a GPU on the receiver's rail (PXN of NCCL 2.12). Planes
// that never meet force this; where spines could connect rails it saves them the work.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/cluster.hpp"

namespace trainfare {

using LinkId = std::uint32_t;

enum class LinkKind : std::uint8_t { scale_up_out, scale_up_in, nic_out, nic_in, leaf_up, leaf_down };

struct Link {
    LinkKind kind;
    double capacity = 0; // B/s
};

/// At most scale-up hop, NIC, leaf up, leaf down, NIC, scale-up hop at both ends of a detour.
struct Route {
    static constexpr int max_links = 8;
    std::array<LinkId, max_links> links{};
    std::uint8_t count = 0;
    void add(LinkId id) { links[count++] = id; }
    [[nodiscard]] LinkId const* begin() const { return links.data(); }
    [[nodiscard]] LinkId const* end() const { return links.data() + count; }
};

class Network {
public:
    /// @throws InputError for a cluster that check_fabric() refuses.
    explicit Network(Cluster const&);

    /// Contiguous ranges by kind, in the order of LinkKind; inside a kind by GPU or by leaf. A failed NIC
    /// has capacity 0.
    [[nodiscard]] std::vector<Link> const& links() const { return links_; }
    /// Inside an NVLink domain: out port, in port. Outside: own NIC, leaf up and down if the leaves differ, peer's NIC;
    /// where the rail or plane failed, the next healthy rail of the same domain carries it, over NVLink at both ends.
    /// GPUs count from 0 and must exist. @throws InputError where faults left no common rail.
    [[nodiscard]] Route route(int from_gpu, int to_gpu) const;
    [[nodiscard]] bool same_domain(int a, int b) const { return a / domain_ == b / domain_; }
    /// NIC position in the node.
    [[nodiscard]] int rail_of(int gpu) const { return gpu % gpus_per_node_; }
    /// Leaf switch of a GPU's NIC; leaves are numbered rail by rail.
    [[nodiscard]] int leaf_of(int gpu) const;
    [[nodiscard]] int leaves() const { return static_cast<int>(leaf_down_ - leaf_up_); }
    /// Rail or plane of a leaf; always 0 in a fat tree.
    [[nodiscard]] int rail_of_leaf(int leaf) const { return leaf / leaves_per_rail_; }
    [[nodiscard]] LinkId link(LinkKind, int gpu_or_leaf) const;
    /// "NIC of GPU 8 (out)".
    [[nodiscard]] std::string describe(LinkId) const;

private:
    [[nodiscard]] int carrier_of(int gpu) const;
    [[nodiscard]] std::pair<int, int> carriers(int from_gpu, int to_gpu) const;
    void lay_out_links(Cluster const&);
    void apply_faults(Cluster const&);
    void find_carriers(std::vector<char> const& nic_failed);

    int gpus_ = 0;
    int gpus_per_node_ = 8;
    int domain_ = 8;
    Fabric fabric_ = Fabric::rail_optimised;
    int leaves_per_rail_ = 1;
    int nodes_per_leaf_ = 1;
    std::vector<Link> links_;
    std::vector<int> carriers_; // by GPU: whose NIC stands in for its NIC, -1 none; empty while all are healthy
    LinkId out_ = 0, in_ = 0, nic_out_ = 0, nic_in_ = 0, leaf_up_ = 0, leaf_down_ = 0; // first id of each kind
};

std::string_view name(LinkKind);

} // namespace trainfare
