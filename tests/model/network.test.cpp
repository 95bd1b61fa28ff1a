// SPDX-License-Identifier: Apache-2.0
//
// Links and routes on clusters small enough to work out by hand.
#include "tests/catch.hpp"

#include <string>
#include <vector>

#include "model/error.hpp"
#include "model/network.hpp"

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
    return c;
}

Words hops(Network const& network, int from, int to)
{
    Words out;
    for (auto const id : network.route(from, to)) out.push_back(network.describe(id));
    return out;
}

double capacity(Network const& network, LinkKind kind, int index)
{
    return network.links().at(network.link(kind, index)).capacity;
}

} // namespace

TEST_CASE("a GPU reaches itself over no link and its node over two ports")
{
    Network const network{nodes_of_eight(2)};
    CHECK(network.route(3, 3).count == 0);
    CHECK(hops(network, 0, 7) == Words{"scale-up port of GPU 0 (out)", "scale-up port of GPU 7 (in)"});
}

TEST_CASE("the same rail under the same leaf is two NICs away, under another leaf four links")
{
    Network const network{nodes_of_eight(4)};
    CHECK(hops(network, 3, 11) == Words{"NIC of GPU 3 (out)", "NIC of GPU 11 (in)"});
    CHECK(hops(network, 3, 19) == Words{"NIC of GPU 3 (out)", "leaf switch 0 of rail 3 (up)",
                                        "leaf switch 1 of rail 3 (down)", "NIC of GPU 19 (in)"});
}

TEST_CASE("another rail is reached over NVLink first, then on the receiver's rail")
{
    for (auto const fabric : {Fabric::rail_optimised, Fabric::multi_plane}) {
        Network const network{nodes_of_eight(4, fabric)};
        CHECK(hops(network, 0, 11) == Words{"scale-up port of GPU 0 (out)", "scale-up port of GPU 3 (in)",
                                            "NIC of GPU 3 (out)", "NIC of GPU 11 (in)"});
        CHECK(network.route(0, 27).count == 6);
    }
}

TEST_CASE("all NICs of a fat tree's nodes meet at one leaf")
{
    Network const network{nodes_of_eight(4, Fabric::fat_tree)};
    CHECK(network.leaves() == 2);
    CHECK(hops(network, 0, 11) == Words{"NIC of GPU 0 (out)", "NIC of GPU 11 (in)"});
    CHECK(hops(network, 0, 31) ==
          Words{"NIC of GPU 0 (out)", "leaf switch 0 (up)", "leaf switch 1 (down)", "NIC of GPU 31 (in)"});
}

TEST_CASE("links lie in ranges by kind")
{
    Network const network{nodes_of_eight(5, Fabric::multi_plane)};
    auto const& links = network.links();
    REQUIRE(network.leaves() == 8 * 3);
    REQUIRE(links.size() == 4 * 40 + 2 * 24);
    for (std::size_t i = 1; i < links.size(); ++i) CHECK(links[i - 1].kind <= links[i].kind);
    for (int gpu = 0; gpu < 40; ++gpu) CHECK(links[network.link(LinkKind::nic_in, gpu)].kind == LinkKind::nic_in);
    CHECK(network.describe(network.link(LinkKind::leaf_down, 23)) == "leaf switch 2 of plane 7 (down)");
}

TEST_CASE("a leaf has uplinks for the NICs that hang on it, and the last leaf is partly filled")
{
    auto c = nodes_of_eight(5);
    c.oversubscription = 4;
    Network const rails{c};
    CHECK(capacity(rails, LinkKind::leaf_up, 0) == 2 * 50e9 / 4);
    CHECK(capacity(rails, LinkKind::leaf_down, 2) == 1 * 50e9 / 4);
    CHECK(capacity(rails, LinkKind::leaf_up, 3) == 2 * 50e9 / 4);

    c.fabric = Fabric::fat_tree;
    Network const tree{c};
    REQUIRE(tree.leaves() == 3);
    CHECK(capacity(tree, LinkKind::leaf_up, 0) == 16 * 50e9 / 4);
    CHECK(capacity(tree, LinkKind::leaf_up, 2) == 8 * 50e9 / 4);
}

TEST_CASE("an NVL72 rack has four rails, and its 72 GPUs talk over scale-up")
{
    Network const network{nvl72(2)};
    CHECK(network.leaves() == 4 * 2);
    CHECK(network.rail_of(71) == 3);
    CHECK(hops(network, 0, 71) == Words{"scale-up port of GPU 0 (out)", "scale-up port of GPU 71 (in)"});
    CHECK(hops(network, 5, 73) == Words{"NIC of GPU 5 (out)", "leaf switch 0 of rail 1 (up)",
                                        "leaf switch 1 of rail 1 (down)", "NIC of GPU 73 (in)"});
    // GPU 6 is on rail 2; its own node's NIC on rail 1 is that of GPU 5.
    CHECK(hops(network, 6, 73).at(2) == "NIC of GPU 5 (out)");
}

TEST_CASE("a slow NIC or port keeps its share in both directions and changes no route")
{
    auto c = nodes_of_eight(2);
    c.faults = {
        {Fault::Kind::slow_nic, 8, 0.5}, {Fault::Kind::slow_scale_up, 1, 0.25}, {Fault::Kind::slow_gpu, 2, 0.5}};
    Network const network{c};
    CHECK(capacity(network, LinkKind::nic_out, 8) == 25e9);
    CHECK(capacity(network, LinkKind::nic_in, 8) == 25e9);
    CHECK(capacity(network, LinkKind::scale_up_out, 1) == 40e9);
    CHECK(capacity(network, LinkKind::scale_up_in, 1) == 40e9);
    CHECK(capacity(network, LinkKind::nic_out, 2) == 50e9);
    CHECK(capacity(network, LinkKind::scale_up_out, 2) == 160e9);
    CHECK(hops(network, 0, 8) == Words{"NIC of GPU 0 (out)", "NIC of GPU 8 (in)"});
}

TEST_CASE("traffic of a failed NIC takes the next rail, over NVLink at both ends")
{
    auto c = nodes_of_eight(4);
    c.faults = {{Fault::Kind::failed_nic, 0, 1}};
    Network const network{c};
    Words const detour{"scale-up port of GPU 0 (out)",  "scale-up port of GPU 1 (in)",    "NIC of GPU 1 (out)",
                       "leaf switch 0 of rail 1 (up)",  "leaf switch 1 of rail 1 (down)", "NIC of GPU 25 (in)",
                       "scale-up port of GPU 25 (out)", "scale-up port of GPU 24 (in)"};
    CHECK(hops(network, 0, 24) == detour);
    CHECK(hops(network, 24, 0).size() == Route::max_links);
    CHECK(hops(network, 8, 24).size() == 4); // others on the rail do not notice
    CHECK(capacity(network, LinkKind::nic_out, 0) == 0);
}

TEST_CASE("a failed plane moves to the next, past others that failed, and around the end")
{
    auto c = nodes_of_eight(2, Fabric::multi_plane);
    c.faults = {{Fault::Kind::failed_plane, 6, 1}, {Fault::Kind::failed_plane, 7, 1}};
    Network const network{c};
    CHECK(hops(network, 6, 14) == Words{"scale-up port of GPU 6 (out)", "scale-up port of GPU 0 (in)",
                                        "NIC of GPU 0 (out)", "NIC of GPU 8 (in)", "scale-up port of GPU 8 (out)",
                                        "scale-up port of GPU 14 (in)"});
    CHECK(hops(network, 0, 14).front() == "NIC of GPU 0 (out)");
}

TEST_CASE("in an NVL72 rack a neighbour node's NIC on the same rail stands in, so the other end does not notice")
{
    auto c = nvl72(2);
    c.faults = {{Fault::Kind::failed_nic, 68, 1}};
    Network const network{c};
    auto const words = hops(network, 68, 72);
    REQUIRE(words.size() == 6);
    CHECK(words[1] == "scale-up port of GPU 0 (in)"); // the circle of nodes closes
    CHECK(words.back() == "NIC of GPU 72 (in)");
}

TEST_CASE("in a fat tree any healthy NIC of the domain stands in")
{
    auto c = nodes_of_eight(2, Fabric::fat_tree);
    c.faults = {{Fault::Kind::failed_nic, 7, 1}};
    Network const network{c};
    CHECK(hops(network, 7, 12) == Words{"scale-up port of GPU 7 (out)", "scale-up port of GPU 0 (in)",
                                        "NIC of GPU 0 (out)", "NIC of GPU 12 (in)"});
}

TEST_CASE("where two domains have no healthy rail in common the route is refused")
{
    auto c = nodes_of_eight(2);
    for (int rail = 0; rail < 4; ++rail) c.faults.push_back({Fault::Kind::failed_nic, rail, 1});
    for (int rail = 4; rail < 8; ++rail) c.faults.push_back({Fault::Kind::failed_nic, 8 + rail, 1});
    Network const network{c};
    CHECK_THROWS_WITH(network.route(0, 8),
                      "cluster.faults leave no healthy rail between GPU 0 and GPU 8 (traffic cannot change "
                      "rails in the fabric); remove a failed_nic or failed_plane");
    CHECK(network.route(0, 1).count == 2);
}

TEST_CASE("an impossible cluster is refused before anything divides by it")
{
    auto c = nodes_of_eight(2);
    c.gpus_per_node = 0;
    CHECK_THROWS_AS(Network{c}, InputError);
}

TEST_CASE("every route begins at the sender, ends at the receiver, and fits")
{
    for (auto const fabric : {Fabric::rail_optimised, Fabric::multi_plane, Fabric::fat_tree})
        for (int const domain : {8, 16}) {
            auto c = nodes_of_eight(6, fabric);
            c.domain = domain;
            c.faults = {
                {Fault::Kind::failed_nic, 5, 1}, {Fault::Kind::failed_nic, 30, 1}, {Fault::Kind::slow_nic, 9, 0.5}};
            Network const network{c};
            for (int from = 0; from < c.gpus; ++from)
                for (int to = 0; to < c.gpus; ++to) {
                    if (from == to) continue;
                    auto const route = network.route(from, to);
                    INFO(name(fabric) << " domain " << domain << ": " << from << " to " << to);
                    REQUIRE(route.count >= 2);
                    REQUIRE(route.count <= Route::max_links);
                    auto const first = *route.begin(), last = *(route.end() - 1);
                    auto const f = static_cast<LinkId>(from), t = static_cast<LinkId>(to);
                    REQUIRE((first == network.link(LinkKind::scale_up_out, 0) + f ||
                             first == network.link(LinkKind::nic_out, 0) + f));
                    REQUIRE((last == network.link(LinkKind::scale_up_in, 0) + t ||
                             last == network.link(LinkKind::nic_in, 0) + t));
                    for (auto const id : route) REQUIRE(network.links()[id].capacity > 0);
                }
        }
}
