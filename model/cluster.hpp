// SPDX-License-Identifier: Apache-2.0
//
// A cluster as values: accelerator, node, NVLink domain, NICs, fabric, and what is broken.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/units.hpp"

namespace trainfare {

/// One accelerator type; a row of calibrate/tables/hardware.csv. What the vendor does not publish is absent.
struct Accelerator {
    std::string key;                       // "H800-SXM"
    std::optional<FlopRate> bf16, fp8, fp4; // dense peaks, no sparsity
    Bytes memory;                          // as sold
    Bandwidth memory_bandwidth;
    std::optional<Bandwidth> scale_up;     // NVLink class, one direction, line rate
    std::optional<Bandwidth> scale_up_measured;
    int scale_up_gpus = 8;                 // GPUs in one NVLink domain as sold
    std::optional<Bandwidth> nic;          // scale-out line rate per GPU
    std::optional<Watts> tdp;
    std::optional<int> sms;
    std::optional<std::string> variant_of; // what an export-limited part was cut from
    std::string source;
};

enum class Fabric {
    rail_optimised, // NIC r of every node hangs on leaf switches of rail r
    multi_plane,    // one whole fat tree per NIC; planes never meet (DeepSeek MPFT, arXiv:2505.09343 s5.1)
    fat_tree        // all NICs of a node hang on the same leaf
};

/// Placement of lock-step groups on nodes.
enum class Placement { aligned, spread }; // contiguous nodes; or strided over all leaves

struct Fault {
    enum class Kind { slow_nic, slow_gpu, failed_plane, failed_nic, slow_scale_up } kind;
    int index = 0;       // GPU, or plane (rail)
    double factor = 1;   // remaining share of bandwidth (slow_nic, slow_scale_up) or of speed (slow_gpu)
};

struct Cluster {
    Accelerator gpu;
    int gpus = 0;
    int gpus_per_node = 8;
    int domain = 8;              // GPUs of one NVLink/NVSwitch domain (8 .. 72)
    Bandwidth scale_up;          // per GPU and direction, payload rate
    Bandwidth nic;               // per GPU and direction, payload rate
    Fabric fabric = Fabric::rail_optimised;
    int nodes_per_leaf = 32;     // per rail or plane; of a fat tree: nodes under one leaf
    double oversubscription = 1; // leaf down : up
    Placement placement = Placement::aligned;
    Seconds scale_up_latency{3.33e-6}; // arXiv:2505.09343 Table 5 (64 B)
    Seconds nic_latency{3.7e-6};       // same, InfiniBand across leaves
    double pue = 1.3;                  // facility power over IT power
    double node_overhead = 0.5;        // CPUs, NICs, fans and switches, as a share of the GPUs' power
    std::vector<Fault> faults;
    std::vector<std::string> provenance; // one line per assumption

    [[nodiscard]] int nodes() const { return gpus / gpus_per_node; }
};

/// Largest cluster that is accepted.
constexpr int max_gpus = 1 << 20;

/// Every broken rule, each as "cluster.KEY = V ... (why); try ..."; empty when the cluster is sound.
std::vector<std::string> check_cluster(Cluster const&);
/// The part of these rules that the network rests on: counts, bandwidths, fabric and faults.
std::vector<std::string> check_fabric(Cluster const&);

std::string_view name(Fabric);
std::string_view name(Placement);
std::string_view name(Fault::Kind);
std::optional<Fabric> fabric_from(std::string_view);
std::optional<Placement> placement_from(std::string_view);
std::optional<Fault::Kind> fault_from(std::string_view);

} // namespace trainfare
