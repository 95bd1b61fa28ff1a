// SPDX-License-Identifier: Apache-2.0
//
// Each rule about a cluster, by its message.
#include "tests/catch.hpp"

#include <limits>

#include "model/cluster.hpp"

using namespace trainfare;
using namespace trainfare::units;

namespace {

Cluster h800s(int gpus = 2048)
{
    Cluster c;
    c.gpu.key = "H800-SXM";
    c.gpu.memory = 80 * GB;
    c.gpu.memory_bandwidth = 3.35 * TBps;
    c.gpu.bf16 = 989 * TFLOPps;
    c.gpus = gpus;
    c.scale_up = 160 * GBps;
    c.nic = 50 * GBps;
    return c;
}

std::string only_problem(Cluster const& c)
{
    auto const problems = check_cluster(c);
    return problems.size() == 1 ? problems.front() : std::to_string(problems.size()) + " problems";
}

std::string fault_problem(Fault fault, Fabric fabric = Fabric::rail_optimised)
{
    auto c = h800s(16);
    c.fabric = fabric;
    c.faults = {fault};
    return only_problem(c);
}

} // namespace

TEST_CASE("2,048 H800s in nodes of eight are a sound cluster")
{
    CHECK(check_cluster(h800s()).empty());
    CHECK(h800s().nodes() == 256);
}

TEST_CASE("NVL72 racks of four-GPU nodes are sound, the last one partly filled")
{
    auto c = h800s(72 * 3 + 8);
    c.gpus_per_node = 4;
    c.domain = 72;
    CHECK(check_cluster(c).empty());
}

TEST_CASE("nodes are rented whole")
{
    CHECK(only_problem(h800s(100)) ==
          "cluster.gpus = 100 is not a multiple of cluster.gpus_per_node = 8 (a node is rented whole); try 96 or 104");
    CHECK(only_problem(h800s(3)) ==
          "cluster.gpus = 3 is not a multiple of cluster.gpus_per_node = 8 (a node is rented whole); try 8");
    CHECK(only_problem(h800s(max_gpus - 1)).ends_with("; try 1048568 or 1048576"));
}

TEST_CASE("an NVLink domain is made of whole nodes")
{
    auto c = h800s();
    c.domain = 12;
    CHECK(only_problem(c) ==
          "cluster.domain = 12 is not a multiple of cluster.gpus_per_node = 8 (an NVLink domain is made of "
          "whole nodes); try 8 or 16");
    c.domain = 4;
    CHECK(only_problem(c).ends_with("; try 8"));
}

TEST_CASE("counts are at least one and at most a million")
{
    CHECK(only_problem(h800s(0)) == "cluster.gpus = 0 is below 1 (there is nothing to run on); try 2048");
    CHECK(only_problem(h800s(max_gpus)).starts_with("0 problems"));
    CHECK(only_problem(h800s(max_gpus + 8)) ==
          "cluster.gpus = 1048584 is above 1048576 (larger than any cluster this was checked for); try 2048");
    auto c = h800s();
    c.gpus_per_node = -8;
    c.nodes_per_leaf = 0;
    c.domain = std::numeric_limits<int>::max();
    CHECK(check_cluster(c).size() == 3);
}

TEST_CASE("bandwidths are needed where something talks over them")
{
    auto c = h800s();
    c.nic = Bandwidth{};
    CHECK(only_problem(c) ==
          "cluster.nic = 0 B/s is not a bandwidth above 0 and up to 1 PB/s (domains talk over it); try \"400 Gb/s\"");
    c.gpus = 8;
    CHECK(check_cluster(c).empty());
    c.scale_up = Bandwidth{-1};
    CHECK(only_problem(c).starts_with("cluster.scale_up = -1 B/s"));
    c.scale_up = Bandwidth{std::numeric_limits<double>::quiet_NaN()};
    CHECK(only_problem(c).starts_with("cluster.scale_up = nan B/s"));
    c.scale_up = Bandwidth{1e300};
    CHECK(only_problem(c).starts_with("cluster.scale_up = 1e+300 B/s"));
}

TEST_CASE("oversubscription is at least one")
{
    auto c = h800s();
    c.oversubscription = 0.5;
    CHECK(only_problem(c) ==
          "cluster.oversubscription = 0.5 is below 1 (it is the ratio of a leaf's bandwidth down to its "
          "bandwidth up); try 1 for a non-blocking fabric");
    c.oversubscription = std::numeric_limits<double>::infinity();
    CHECK(check_cluster(c).size() == 1);
}

TEST_CASE("latencies, power factors and the accelerator are checked too")
{
    auto c = h800s();
    c.nic_latency = Seconds{-1};
    CHECK(only_problem(c) == "cluster.nic_latency = -1 is not between 0 and 1 (seconds per message); try \"3.7 us\"");
    c = h800s();
    c.pue = 0.9;
    CHECK(only_problem(c).starts_with("cluster.pue = 0.9 is not between 1 and 10"));
    c = h800s();
    c.node_overhead = std::numeric_limits<double>::quiet_NaN();
    CHECK(only_problem(c).starts_with("cluster.node_overhead = nan"));
    c = h800s();
    c.gpu.memory = Bytes{};
    CHECK(only_problem(c) ==
          "cluster.gpu: memory of H800-SXM = 0 B is not above 0 (nothing would fit); try a row of hardware.csv");
    c = h800s();
    c.gpu.fp8 = FlopRate{0};
    CHECK(only_problem(c).find("leave out a format that the chip does not have") != std::string::npos);
    CHECK(check_fabric(c).empty());
}

TEST_CASE("a fault names something that exists and a share that remains")
{
    CHECK(fault_problem({Fault::Kind::slow_nic, 15, 0.5}).starts_with("0 problems"));
    CHECK(fault_problem({Fault::Kind::slow_nic, 16, 0.5}) ==
          "cluster.faults[0]: slow_nic has index 16 (the cluster has 16 GPUs, counted from 0); try 0 to 15");
    CHECK(fault_problem({Fault::Kind::failed_plane, 8, 1}, Fabric::multi_plane) ==
          "cluster.faults[0]: failed_plane has index 8 (the cluster has 8 planes, counted from 0); try 0 to 7");
    CHECK(fault_problem({Fault::Kind::slow_gpu, 3, 1.5}) ==
          "cluster.faults[0]: slow_gpu has factor 1.5 (it is the share that remains, above 0 and at most 1); try 0.5");
    CHECK(fault_problem({Fault::Kind::slow_scale_up, 3, 0}).find("has factor 0") != std::string::npos);
    CHECK(fault_problem({Fault::Kind::failed_nic, -1, 1}).find("has index -1") != std::string::npos);
    CHECK(fault_problem({Fault::Kind::failed_plane, 0, 1}, Fabric::fat_tree).find("there are no planes") !=
          std::string::npos);
}

TEST_CASE("faults may not cut a domain off, unless it is the only one")
{
    auto c = h800s(16);
    for (int plane = 0; plane < 8; ++plane) c.faults.push_back({Fault::Kind::failed_plane, plane, 1});
    CHECK(only_problem(c) ==
          "cluster.faults: every plane failed (domains cannot reach each other); remove one failed_plane");

    c.faults.clear();
    for (int gpu = 8; gpu < 15; ++gpu) c.faults.push_back({Fault::Kind::failed_nic, gpu, 1});
    CHECK(check_cluster(c).empty());
    c.faults.push_back({Fault::Kind::failed_plane, 7, 1});
    CHECK(
        only_problem(c) ==
        "cluster.faults: every NIC of GPUs 8 to 15 failed (the domain cannot reach the others); remove one failed_nic");

    c.gpus = 8;
    c.faults = {{Fault::Kind::failed_nic, 0, 1}};
    CHECK(check_cluster(c).empty());
}

TEST_CASE("names read back as the enumerators they came from")
{
    for (auto const f : {Fabric::rail_optimised, Fabric::multi_plane, Fabric::fat_tree})
        CHECK(fabric_from(name(f)) == f);
    for (auto const p : {Placement::aligned, Placement::spread}) CHECK(placement_from(name(p)) == p);
    for (auto const k : {Fault::Kind::slow_nic, Fault::Kind::slow_gpu, Fault::Kind::failed_plane,
                         Fault::Kind::failed_nic, Fault::Kind::slow_scale_up})
        CHECK(fault_from(name(k)) == k);
    CHECK(name(Fabric::multi_plane) == "multi_plane");
    CHECK_FALSE(fabric_from("torus").has_value());
    CHECK_FALSE(placement_from("").has_value());
    CHECK_FALSE(fault_from("Slow_nic").has_value());
}
