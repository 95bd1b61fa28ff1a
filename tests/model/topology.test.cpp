// SPDX-License-Identifier: Apache-2.0
//
// Bottlenecks and cuts that can be worked out by hand, and agreement with the Network's routes.
#include "tests/catch.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "model/error.hpp"
#include "model/network.hpp"
#include "model/topology.hpp"

using namespace trainfare;
using namespace trainfare::units;

namespace {

using Words = std::vector<std::string>;

/// Nodes of eight, two under a leaf.
Cluster nodes_of_eight(int nodes, Fabric fabric = Fabric::rail_optimised)
{
    Cluster c;
    c.gpus = 8 * nodes;
    c.scale_up = 160 * GBps;
    c.nic = 50 * GBps;
    c.nodes_per_leaf = 2;
    c.fabric = fabric;
    return c;
}

Cluster nvl72(int racks)
{
    auto c = nodes_of_eight(1);
    c.gpus_per_node = 4;
    c.domain = 72;
    c.gpus = 72 * racks;
    c.nodes_per_leaf = 18;
    c.scale_up = 900 * GBps;
    return c;
}

double narrowest(Network const& network, Route const& route)
{
    double out = std::numeric_limits<double>::infinity();
    for (auto const id : route) out = std::min(out, network.links()[id].capacity);
    return out;
}

} // namespace

TEST_CASE("inside a node NVLink limits, between nodes the NIC")
{
    auto const c = nodes_of_eight(4);
    auto const inside = widest_path(c, 0, 5);
    CHECK(inside.bandwidth == 160 * GBps);
    CHECK(inside.limit == "scale-up port of GPU 0 (out)");
    CHECK(inside.hops == Words{"scale-up port of GPU 0 (out)", "scale-up port of GPU 5 (in)"});

    auto const between = widest_path(c, 0, 24);
    CHECK(between.bandwidth == 50 * GBps);
    CHECK(between.limit == "NIC of GPU 0 (out)");
    CHECK(between.hops == Words{"NIC of GPU 0 (out)", "leaf switch 0 of rail 0 (up)", "leaf switch 1 of rail 0 (down)",
                                "NIC of GPU 24 (in)"});
}

TEST_CASE("the widest path goes around a slow NIC, over NVLink at both ends")
{
    auto c = nodes_of_eight(4);
    c.faults = {{Fault::Kind::slow_nic, 8, 0.5}};
    auto const path = widest_path(c, 0, 8);
    CHECK(path.bandwidth == 50 * GBps);
    CHECK(path.hops.size() == 6);
    CHECK(std::find(path.hops.begin(), path.hops.end(), "NIC of GPU 8 (in)") == path.hops.end());
    Network const network{c};
    CHECK(narrowest(network, network.route(0, 8)) == 25e9);
}

TEST_CASE("with one GPU a node there is no way around a slow NIC")
{
    auto c = nodes_of_eight(4);
    c.gpus = 4;
    c.gpus_per_node = 1;
    c.domain = 1;
    c.faults = {{Fault::Kind::slow_nic, 2, 0.1}};
    auto const path = widest_path(c, 0, 2);
    CHECK(path.bandwidth.value() == Approx(5e9));
    CHECK(path.limit == "NIC of GPU 2 (in)");
}

TEST_CASE("a strongly oversubscribed leaf is narrower than a NIC")
{
    auto c = nodes_of_eight(4);
    c.oversubscription = 8;
    auto const path = widest_path(c, 0, 16);
    CHECK(path.bandwidth.value() == 2 * 50e9 / 8);
    CHECK(path.limit == "leaf switch 0 of rail 0 (up)");
}

TEST_CASE("in health the widest path is as wide as the route")
{
    for (auto const fabric : {Fabric::rail_optimised, Fabric::multi_plane, Fabric::fat_tree})
        for (double const oversubscription : {1.0, 4.0}) {
            auto c = nodes_of_eight(5, fabric);
            c.oversubscription = oversubscription;
            Network const network{c};
            for (int to = 1; to < c.gpus; ++to) {
                INFO(name(fabric) << " " << oversubscription << ": 0 to " << to);
                CHECK(widest_path(c, 0, to).bandwidth.value() == narrowest(network, network.route(0, to)));
            }
        }
}

TEST_CASE("half of a non-blocking cluster sends what its NICs carry")
{
    for (auto const fabric : {Fabric::rail_optimised, Fabric::multi_plane, Fabric::fat_tree}) {
        auto const cut = bisection(nodes_of_eight(4, fabric));
        CHECK(cut.bandwidth == 800 * GBps);
        CHECK(cut.links == Words{"16 x NIC out at 50 GB/s"});
    }
}

TEST_CASE("at 4:1 the uplinks are the cut, and the bisection is a quarter")
{
    auto c = nodes_of_eight(4);
    c.oversubscription = 4;
    CHECK(bisection(c).bandwidth == 200 * GBps);
    CHECK(bisection(c).links == Words{"8 x leaf up at 25 GB/s"});
    c.fabric = Fabric::fat_tree;
    CHECK(bisection(c).bandwidth == 200 * GBps);
    CHECK(bisection(c).links == Words{"1 x leaf up at 200 GB/s"});
}

TEST_CASE("2,048 H800s of eight planes bisect at 1,024 NICs")
{
    auto c = nodes_of_eight(256, Fabric::multi_plane);
    c.nodes_per_leaf = 32;
    c.nic = 44.6 * GBps;
    auto const cut = bisection(c);
    CHECK(cut.bandwidth.value() == Approx(1024 * 44.6e9));
    CHECK(cut.links == Words{"1024 x NIC out at 44.6 GB/s"});
}

TEST_CASE("a failed plane costs an eighth of the bisection, a slow NIC its missing share")
{
    auto c = nodes_of_eight(4, Fabric::multi_plane);
    c.faults = {{Fault::Kind::failed_plane, 3, 1}};
    CHECK(bisection(c).bandwidth == 700 * GBps);
    CHECK(bisection(c).links == Words{"14 x NIC out at 50 GB/s"});
    auto const detour = widest_path(c, 3, 11);
    CHECK(detour.bandwidth == 50 * GBps);
    CHECK(detour.hops.size() == 6);

    c.faults = {{Fault::Kind::slow_nic, 1, 0.5}};
    CHECK(bisection(c).bandwidth == 775 * GBps);
    CHECK(bisection(c).links == Words{"1 x NIC out at 25 GB/s", "15 x NIC out at 50 GB/s"});
}

TEST_CASE("a node sends to one GPU no more than that GPU's rail and its NVLink port let through")
{
    auto const cut = min_cut(nodes_of_eight(2), {0, 1, 2, 3, 4, 5, 6, 7}, {8});
    CHECK(cut.bandwidth == 210 * GBps);
    CHECK(cut.links == Words{"1 x scale-up in at 160 GB/s", "1 x NIC out at 50 GB/s"});
}

TEST_CASE("one GPU may send over its neighbours' NICs as far as its NVLink port allows")
{
    auto const cut = min_cut(nodes_of_eight(2), {0}, {8, 9, 10, 11, 12, 13, 14, 15});
    CHECK(cut.bandwidth == 210 * GBps);
    CHECK(cut.links == Words{"1 x scale-up out at 160 GB/s", "1 x NIC out at 50 GB/s"});
}

TEST_CASE("two NVL72 racks are joined by 72 NICs; inside a rack NVLink is the cut")
{
    auto const racks = bisection(nvl72(2));
    CHECK(racks.bandwidth == 3600 * GBps);
    CHECK(racks.links == Words{"72 x NIC out at 50 GB/s"});
    CHECK(widest_path(nvl72(2), 0, 71).bandwidth == 900 * GBps);

    auto c = nvl72(1);
    c.nic = Bandwidth{};
    auto const inside = bisection(c);
    CHECK(inside.bandwidth == 36 * 900 * GBps);
    CHECK(inside.links == Words{"36 x scale-up out at 900 GB/s"});
}

TEST_CASE("what cannot be reached has an empty cut and no widest path")
{
    auto c = nodes_of_eight(2);
    for (int rail = 0; rail < 4; ++rail) c.faults.push_back({Fault::Kind::failed_nic, rail, 1});
    for (int rail = 4; rail < 8; ++rail) c.faults.push_back({Fault::Kind::failed_nic, 8 + rail, 1});
    auto const cut = bisection(c);
    CHECK(cut.bandwidth == Bandwidth{0});
    CHECK(cut.links.empty());
    CHECK_THROWS_AS(widest_path(c, 0, 8), InputError);
}

TEST_CASE("questions about GPUs that do not exist, are the same, or are none, are refused")
{
    auto const c = nodes_of_eight(2);
    CHECK_THROWS_WITH(widest_path(c, 0, 16), "GPU 16 does not exist (the cluster has 16, counted from 0); try 0 to 15");
    CHECK_THROWS_AS(widest_path(c, -1, 3), InputError);
    CHECK_THROWS_AS(widest_path(c, 3, 3), InputError);
    CHECK_THROWS_AS(min_cut(c, {}, {1}), InputError);
    CHECK_THROWS_WITH(min_cut(c, {0, 1}, {2, 1}),
                      "GPU 1 is in both sets (what stays on a GPU crosses no link); make the sets disjoint");
    CHECK(min_cut(c, {0, 0}, {1, 1}).bandwidth == min_cut(c, {0}, {1}).bandwidth);
    auto broken = c;
    broken.gpus = 0;
    CHECK_THROWS_AS(bisection(broken), InputError);
    broken.gpus = 12;
    CHECK_THROWS_AS(bisection(broken), InputError);
    broken.gpus = 16;
    broken.domain = 0;
    CHECK_THROWS_AS(widest_path(broken, 0, 8), InputError);
}
