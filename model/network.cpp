// SPDX-License-Identifier: Apache-2.0
//
// Lays the cluster's links out in one array and finds routes by arithmetic alone: a large run asks for millions.
#include "model/network.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare {

namespace {

int divide_up(int a, int b) { return (a + b - 1) / b; }

} // namespace

Network::Network(Cluster const& cluster)
{
    if (auto const problems = check_fabric(cluster); !problems.empty()) throw InputError(problems.front());
    gpus_ = cluster.gpus;
    gpus_per_node_ = cluster.gpus_per_node;
    domain_ = cluster.domain;
    fabric_ = cluster.fabric;
    nodes_per_leaf_ = cluster.nodes_per_leaf;
    leaves_per_rail_ = divide_up(cluster.nodes(), nodes_per_leaf_);
    lay_out_links(cluster);
    apply_faults(cluster);
}

void Network::lay_out_links(Cluster const& cluster)
{
    auto const add = [this](LinkKind kind, int count, double capacity) {
        auto const first = static_cast<LinkId>(links_.size());
        links_.insert(links_.end(), static_cast<std::size_t>(count), Link{kind, capacity});
        return first;
    };
    out_ = add(LinkKind::scale_up_out, gpus_, cluster.scale_up.value());
    in_ = add(LinkKind::scale_up_in, gpus_, cluster.scale_up.value());
    nic_out_ = add(LinkKind::nic_out, gpus_, cluster.nic.value());
    nic_in_ = add(LinkKind::nic_in, gpus_, cluster.nic.value());

    // Uplinks are bought for the NICs that hang on the leaf; the last leaf may be partly filled.
    bool const one_tree = fabric_ == Fabric::fat_tree;
    int const rails = one_tree ? 1 : gpus_per_node_;
    auto const add_leaves = [&](LinkKind kind) {
        auto const first = static_cast<LinkId>(links_.size());
        for (int rail = 0; rail < rails; ++rail)
            for (int leaf = 0; leaf < leaves_per_rail_; ++leaf) {
                int const nodes = std::min(nodes_per_leaf_, cluster.nodes() - leaf * nodes_per_leaf_);
                int const nics = nodes * (one_tree ? gpus_per_node_ : 1);
                add(kind, 1, nics * cluster.nic.value() / cluster.oversubscription);
            }
        return first;
    };
    leaf_up_ = add_leaves(LinkKind::leaf_up);
    leaf_down_ = add_leaves(LinkKind::leaf_down);
}

void Network::apply_faults(Cluster const& cluster)
{
    auto const scale = [this](LinkKind kind, int gpu, double factor) { links_[link(kind, gpu)].capacity *= factor; };
    std::vector<char> failed(static_cast<std::size_t>(gpus_), 0);
    for (auto const& fault : cluster.faults) {
        switch (fault.kind) {
        case Fault::Kind::slow_nic:
            scale(LinkKind::nic_out, fault.index, fault.factor);
            scale(LinkKind::nic_in, fault.index, fault.factor);
            break;
        case Fault::Kind::slow_scale_up:
            scale(LinkKind::scale_up_out, fault.index, fault.factor);
            scale(LinkKind::scale_up_in, fault.index, fault.factor);
            break;
        case Fault::Kind::failed_nic: failed[static_cast<std::size_t>(fault.index)] = 1; break;
        case Fault::Kind::failed_plane:
            for (int gpu = fault.index; gpu < gpus_; gpu += gpus_per_node_) failed[static_cast<std::size_t>(gpu)] = 1;
            break;
        case Fault::Kind::slow_gpu: break; // computes slowly, communicates as before
        }
    }
    if (std::find(failed.begin(), failed.end(), 1) == failed.end()) return;
    find_carriers(failed);
    for (int gpu = 0; gpu < gpus_; ++gpu) {
        if (!failed[static_cast<std::size_t>(gpu)]) continue;
        scale(LinkKind::nic_out, gpu, 0);
        scale(LinkKind::nic_in, gpu, 0);
    }
}

/// For each NIC the next healthy one of its domain, itself if it is: on its rail, or anywhere in a fat tree, where all
/// NICs reach each other. Two backward sweeps close the circle in linear time.
void Network::find_carriers(std::vector<char> const& nic_failed)
{
    carriers_.assign(static_cast<std::size_t>(gpus_), -1);
    int const stride = fabric_ == Fabric::fat_tree ? 1 : gpus_per_node_;
    for (int domain = 0; domain < gpus_; domain += domain_)
        for (int first = domain; first < domain + stride; ++first) {
            int const count = (std::min(domain + domain_, gpus_) - domain) / stride;
            int healthy = -1;
            for (int step = 2 * count - 1; step >= 0; --step) {
                auto const gpu = static_cast<std::size_t>(first + step % count * stride);
                if (!nic_failed[gpu]) healthy = static_cast<int>(gpu);
                carriers_[gpu] = healthy;
            }
        }
}

int Network::carrier_of(int gpu) const { return carriers_.empty() ? gpu : carriers_[static_cast<std::size_t>(gpu)]; }

/// Whose NICs send and receive.
std::pair<int, int> Network::carriers(int from_gpu, int to_gpu) const
{
    if (fabric_ == Fabric::fat_tree) {
        auto const pair = std::pair{carrier_of(from_gpu), carrier_of(to_gpu)};
        if (pair.first >= 0 && pair.second >= 0) return pair;
    } else {
        int const from_node = from_gpu - rail_of(from_gpu);
        int const to_node = to_gpu - rail_of(to_gpu);
        int rail = rail_of(to_gpu);
        for (int tried = 0; tried < gpus_per_node_; ++tried) {
            auto const pair = std::pair{carrier_of(from_node + rail), carrier_of(to_node + rail)};
            if (pair.first >= 0 && pair.second >= 0) return pair;
            rail = rail + 1 == gpus_per_node_ ? 0 : rail + 1;
        }
    }
    throw InputError(
        fmt::format("cluster.faults leave no healthy rail between GPU {} and GPU {} (traffic cannot change rails "
                    "in the fabric); remove a failed_nic or failed_plane",
                    from_gpu, to_gpu));
}

Route Network::route(int from_gpu, int to_gpu) const
{
    Route route;
    auto const hop_inside_domain = [&](int from, int to) {
        if (from == to) return;
        route.add(out_ + static_cast<LinkId>(from));
        route.add(in_ + static_cast<LinkId>(to));
    };
    if (same_domain(from_gpu, to_gpu)) {
        hop_inside_domain(from_gpu, to_gpu);
        return route;
    }
    auto const [sender, receiver] = carriers(from_gpu, to_gpu);
    auto const up = static_cast<LinkId>(leaf_of(sender));
    auto const down = static_cast<LinkId>(leaf_of(receiver));
    hop_inside_domain(from_gpu, sender);
    route.add(nic_out_ + static_cast<LinkId>(sender));
    if (up != down) {
        route.add(leaf_up_ + up);
        route.add(leaf_down_ + down);
    }
    route.add(nic_in_ + static_cast<LinkId>(receiver));
    hop_inside_domain(receiver, to_gpu);
    return route;
}

int Network::leaf_of(int gpu) const
{
    int const leaf = gpu / gpus_per_node_ / nodes_per_leaf_;
    return fabric_ == Fabric::fat_tree ? leaf : rail_of(gpu) * leaves_per_rail_ + leaf;
}

LinkId Network::link(LinkKind kind, int gpu_or_leaf) const
{
    std::array const firsts{out_, in_, nic_out_, nic_in_, leaf_up_, leaf_down_};
    return firsts[static_cast<std::size_t>(kind)] + static_cast<LinkId>(gpu_or_leaf);
}

std::string Network::describe(LinkId id) const
{
    auto const kind = links_[id].kind;
    auto const index = static_cast<int>(id - link(kind, 0));
    switch (kind) {
    case LinkKind::scale_up_out: return fmt::format("scale-up port of GPU {} (out)", index);
    case LinkKind::scale_up_in: return fmt::format("scale-up port of GPU {} (in)", index);
    case LinkKind::nic_out: return fmt::format("NIC of GPU {} (out)", index);
    case LinkKind::nic_in: return fmt::format("NIC of GPU {} (in)", index);
    case LinkKind::leaf_up:
    case LinkKind::leaf_down: break;
    }
    auto const direction = kind == LinkKind::leaf_up ? "up" : "down";
    if (fabric_ == Fabric::fat_tree) return fmt::format("leaf switch {} ({})", index, direction);
    return fmt::format("leaf switch {} of {} {} ({})", index % leaves_per_rail_,
                       fabric_ == Fabric::multi_plane ? "plane" : "rail", rail_of_leaf(index), direction);
}

std::string_view name(LinkKind kind)
{
    switch (kind) {
    case LinkKind::scale_up_out: return "scale-up out";
    case LinkKind::scale_up_in: return "scale-up in";
    case LinkKind::nic_out: return "NIC out";
    case LinkKind::nic_in: return "NIC in";
    case LinkKind::leaf_up: return "leaf up";
    case LinkKind::leaf_down: return "leaf down";
    }
    return "?";
}

} // namespace trainfare
