// SPDX-License-Identifier: Apache-2.0
//
// What makes a cluster impossible, said so that the reader can repair it.
#include "model/cluster.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <fmt/format.h>

namespace trainfare {

namespace {

using Problems = std::vector<std::string>;

constexpr std::array fabrics{Fabric::rail_optimised, Fabric::multi_plane, Fabric::fat_tree};
constexpr std::array placements{Placement::aligned, Placement::spread};
constexpr std::array fault_kinds{Fault::Kind::slow_nic, Fault::Kind::slow_gpu, Fault::Kind::failed_plane,
                                 Fault::Kind::failed_nic, Fault::Kind::slow_scale_up};

template <class Enum, std::size_t N>
std::optional<Enum> find_by_name(std::array<Enum, N> const& all, std::string_view text)
{
    for (auto const value : all)
        if (name(value) == text) return value;
    return std::nullopt;
}

constexpr double most_bandwidth = 1e15; // B/s; ten thousand times a NIC of 2025

bool positive(double v) { return std::isfinite(v) && v > 0; }

/// "96 or 104": the nearest multiples that are allowed.
std::string nearest_multiples(int value, int step)
{
    int const below = value / step * step;
    if (below == 0) return fmt::format("{}", step);
    if (below > max_gpus - step) return fmt::format("{}", below);
    return fmt::format("{} or {}", below, below + step);
}

void check_count(Problems& out, std::string_view key, int value, std::string_view example)
{
    if (value < 1)
        out.push_back(
            fmt::format("cluster.{} = {} is below 1 (there is nothing to run on); try {}", key, value, example));
    else if (value > max_gpus)
        out.push_back(fmt::format("cluster.{} = {} is above {} (larger than any cluster this was checked for); try {}",
                                  key, value, max_gpus, example));
}

void check_counts(Problems& out, Cluster const& c)
{
    check_count(out, "gpus", c.gpus, "2048");
    check_count(out, "gpus_per_node", c.gpus_per_node, "8");
    check_count(out, "domain", c.domain, "8");
    check_count(out, "nodes_per_leaf", c.nodes_per_leaf, "32");
    if (!out.empty()) return; // the rules below divide by these
    if (c.gpus % c.gpus_per_node != 0)
        out.push_back(
            fmt::format("cluster.gpus = {} is not a multiple of cluster.gpus_per_node = {} (a node is rented whole); "
                        "try {}",
                        c.gpus, c.gpus_per_node, nearest_multiples(c.gpus, c.gpus_per_node)));
    if (c.domain % c.gpus_per_node != 0)
        out.push_back(
            fmt::format("cluster.domain = {} is not a multiple of cluster.gpus_per_node = {} (an NVLink domain is made "
                        "of whole nodes); try {}",
                        c.domain, c.gpus_per_node, nearest_multiples(c.domain, c.gpus_per_node)));
}

void check_rates(Problems& out, Cluster const& c)
{
    auto const check = [&](std::string_view key, double value, bool needed, std::string_view why,
                           std::string_view example) {
        if ((value > 0 && value <= most_bandwidth) || (value == 0 && !needed)) return;
        out.push_back(fmt::format("cluster.{} = {:g} B/s is not a bandwidth above 0 and up to 1 PB/s ({}); try \"{}\"",
                                  key, value, why, example));
    };
    check("scale_up", c.scale_up.value(), c.domain > 1, "GPUs of one domain talk over it", "160 GB/s");
    check("nic", c.nic.value(), c.gpus > c.domain, "domains talk over it", "400 Gb/s");
    if (!std::isfinite(c.oversubscription) || c.oversubscription < 1)
        out.push_back(
            fmt::format("cluster.oversubscription = {} is below 1 (it is the ratio of a leaf's bandwidth down to its "
                        "bandwidth up); try 1 for a non-blocking fabric",
                        c.oversubscription));
}

/// Twice the same is a slip of the pen, not a fault of a fault.
void check_repeated(Problems& out, Cluster const& c)
{
    std::set<std::pair<Fault::Kind, int>> seen;
    for (std::size_t i = 0; i < c.faults.size(); ++i)
        if (!seen.insert({c.faults[i].kind, c.faults[i].index}).second) {
            out.push_back(fmt::format("cluster.faults[{}]: {} of {} is there twice (which factor counts?); remove one", i,
                                      name(c.faults[i].kind), c.faults[i].index));
            return;
        }
}

void check_fault(Problems& out, Cluster const& c, Fault const& fault, std::size_t position)
{
    auto const key = fmt::format("cluster.faults[{}]", position);
    bool const plane = fault.kind == Fault::Kind::failed_plane;
    int const count = plane ? c.gpus_per_node : c.gpus;
    if (plane && c.fabric == Fabric::fat_tree)
        out.push_back(
            fmt::format("{}: failed_plane in a fat_tree (its NICs hang on common leaves, there are no planes); try "
                        "failed_nic, or cluster.fabric = \"multi_plane\"",
                        key));
    if (fault.index < 0 || fault.index >= count)
        out.push_back(fmt::format("{}: {} has index {} (the cluster has {} {}, counted from 0); try 0 to {}", key,
                                  name(fault.kind), fault.index, count, plane ? "planes" : "GPUs", count - 1));
    bool const slow = fault.kind == Fault::Kind::slow_nic || fault.kind == Fault::Kind::slow_gpu ||
                      fault.kind == Fault::Kind::slow_scale_up;
    if (slow && !(fault.factor > 0 && fault.factor <= 1))
        out.push_back(fmt::format("{}: {} has factor {} (it is the share that remains, above 0 and at most 1); try 0.5",
                                  key, name(fault.kind), fault.factor));
}

/// Domains that must talk to others but have no NIC left.
void check_reachable(Problems& out, Cluster const& c)
{
    if (c.gpus <= c.domain) return;
    std::set<int> planes, nics;
    for (auto const& fault : c.faults) {
        if (fault.kind == Fault::Kind::failed_plane) planes.insert(fault.index);
        if (fault.kind == Fault::Kind::failed_nic) nics.insert(fault.index);
    }
    if (static_cast<int>(planes.size()) == c.gpus_per_node) {
        out.push_back("cluster.faults: every plane failed (domains cannot reach each other); remove one failed_plane");
        return;
    }
    for (auto nic = nics.begin(); nic != nics.end();) {
        int const first = *nic / c.domain * c.domain;
        int const end = std::min(first + c.domain, c.gpus);
        auto const next = nics.lower_bound(end);
        int healthy = 0;
        for (int gpu = first; gpu < end && healthy == 0; ++gpu)
            if (!nics.contains(gpu) && !planes.contains(gpu % c.gpus_per_node)) ++healthy;
        if (healthy == 0)
            out.push_back(
                fmt::format("cluster.faults: every NIC of GPUs {} to {} failed (the domain cannot reach the others); "
                            "remove one failed_nic",
                            first, end - 1));
        nic = next;
    }
}

void check_range(Problems& out, std::string_view key, double value, double least, double most, std::string_view why,
                 std::string_view example)
{
    if (std::isfinite(value) && value >= least && value <= most) return;
    out.push_back(
        fmt::format("cluster.{} = {} is not between {} and {} ({}); try {}", key, value, least, most, why, example));
}

void check_accelerator(Problems& out, Accelerator const& gpu)
{
    auto const refuse = [&](std::string_view what, double value, std::string_view unit, std::string_view why) {
        if (!positive(value))
            out.push_back(fmt::format("cluster.gpu: {} of {} = {} {} is not above 0 ({}); try a row of hardware.csv",
                                      what, gpu.key.empty() ? "the accelerator" : gpu.key, value, unit, why));
    };
    refuse("memory", gpu.memory.value(), "B", "nothing would fit");
    refuse("memory bandwidth", gpu.memory_bandwidth.value(), "B/s", "no operation would end");
    auto const refuse_peak = [&](std::string_view what, std::optional<FlopRate> const& peak) {
        if (peak) refuse(what, peak->value(), "FLOP/s", "leave out a format that the chip does not have");
    };
    refuse_peak("bf16 peak", gpu.bf16);
    refuse_peak("fp8 peak", gpu.fp8);
    refuse_peak("fp4 peak", gpu.fp4);
    if (gpu.tdp) refuse("power", gpu.tdp->value(), "W", "leave it out where it is not published");
}

} // namespace

std::vector<std::string> check_fabric(Cluster const& cluster)
{
    Problems out;
    check_counts(out, cluster);
    check_rates(out, cluster);
    if (!out.empty()) return out; // faults count on sound numbers
    for (std::size_t i = 0; i < cluster.faults.size(); ++i) check_fault(out, cluster, cluster.faults[i], i);
    check_repeated(out, cluster);
    if (out.empty()) check_reachable(out, cluster);
    return out;
}

std::vector<std::string> check_cluster(Cluster const& cluster)
{
    auto out = check_fabric(cluster);
    check_range(out, "scale_up_latency", cluster.scale_up_latency.value(), 0, 1, "seconds per message", "\"3.3 us\"");
    check_range(out, "nic_latency", cluster.nic_latency.value(), 0, 1, "seconds per message", "\"3.7 us\"");
    check_range(out, "pue", cluster.pue, 1, 10, "facility power over IT power", "1.3");
    check_range(out, "node_overhead", cluster.node_overhead, 0, 10, "a share of the GPUs' power", "0.5");
    check_accelerator(out, cluster.gpu);
    return out;
}

std::string_view name(Fabric fabric)
{
    switch (fabric) {
    case Fabric::rail_optimised: return "rail_optimised";
    case Fabric::multi_plane: return "multi_plane";
    case Fabric::fat_tree: return "fat_tree";
    }
    return "?";
}

std::string_view name(Placement placement) { return placement == Placement::aligned ? "aligned" : "spread"; }

std::string_view name(Fault::Kind kind)
{
    switch (kind) {
    case Fault::Kind::slow_nic: return "slow_nic";
    case Fault::Kind::slow_gpu: return "slow_gpu";
    case Fault::Kind::failed_plane: return "failed_plane";
    case Fault::Kind::failed_nic: return "failed_nic";
    case Fault::Kind::slow_scale_up: return "slow_scale_up";
    }
    return "?";
}

std::optional<Fabric> fabric_from(std::string_view text) { return find_by_name(fabrics, text); }

std::optional<Placement> placement_from(std::string_view text) { return find_by_name(placements, text); }

std::optional<Fault::Kind> fault_from(std::string_view text) { return find_by_name(fault_kinds, text); }

} // namespace trainfare
