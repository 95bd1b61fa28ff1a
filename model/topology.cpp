// SPDX-License-Identifier: Apache-2.0
//
// The cluster as a graph: GPUs, the crossbar of each NVLink domain, leaf switches and one spine per rail or plane (one
// in all for a fat tree). Edges are the Network's links; crossbars and spines do not block. Any GPU of the sender's or
// the receiver's domain may relay over NVLink, as NCCL's PXN does, but no third domain: only senders' domains send over
// their NICs, only receivers' domains receive.
#include "model/topology.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/breadth_first_search.hpp>
#include <boost/graph/dijkstra_shortest_paths.hpp>
#include <boost/graph/filtered_graph.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>
#include <fmt/format.h>

#include "model/error.hpp"
#include "model/network.hpp"
#include "model/text_units.hpp"

namespace trainfare {

namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using Amount = std::int64_t; // B/s times a power of two: a max flow in floating point may never end

struct Vertex {
    boost::default_color_type colour{};
    double width = 0;
    Traits::edge_descriptor came_by;
};

struct Edge {
    double capacity = 0; // B/s; 0 for the reverse edges that a max flow pushes back along
    std::optional<LinkId> link;
    Amount amount = 0, residual = 0;
    Traits::edge_descriptor reverse;
};

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, Vertex, Edge>;
using VertexId = Traits::vertex_descriptor;
using EdgeId = Traits::edge_descriptor;

struct WideEnough {
    Graph const* graph = nullptr;
    double least = 0;
    bool operator()(EdgeId e) const { return (*graph)[e].capacity >= least; }
};

struct HasRoom {
    Graph const* graph = nullptr;
    bool operator()(EdgeId e) const { return (*graph)[e].residual > 0; }
};

/// Where each kind of vertex begins; GPUs begin at 0.
struct Numbering {
    VertexId crossbars = 0, leaves = 0, spines = 0, source = 0, sink = 0;
};

class ClusterGraph {
public:
    ClusterGraph(Cluster const&, std::vector<int> const& from_gpus, std::vector<int> const& to_gpus);

    Network const network;
    Numbering const first;
    Graph graph;

private:
    void add_edge(VertexId from, VertexId to, double capacity, std::optional<LinkId> link);
    void add_link(VertexId from, VertexId to, LinkKind kind, int index);
    void add_domain(Cluster const&, int domain, bool sends, bool receives);
    void add_terminals(Cluster const&, std::vector<int> const& from_gpus, std::vector<int> const& to_gpus);
};

template <class Function>
void for_each_edge(Graph const& graph, Function const& function)
{
    for (VertexId v = 0; v < boost::num_vertices(graph); ++v)
        for (auto const e : boost::make_iterator_range(boost::out_edges(v, graph))) function(e);
}

Numbering number_vertices(Cluster const& cluster, Network const& network)
{
    Numbering first;
    first.crossbars = static_cast<VertexId>(cluster.gpus);
    first.leaves = first.crossbars + static_cast<VertexId>((cluster.gpus - 1) / cluster.domain + 1);
    first.spines = first.leaves + static_cast<VertexId>(network.leaves());
    first.source = first.spines + static_cast<VertexId>(network.rail_of_leaf(network.leaves() - 1)) + 1;
    first.sink = first.source + 1;
    return first;
}

std::vector<char> domains_of(std::vector<int> const& gpus, Cluster const& cluster)
{
    std::vector<char> marked(static_cast<std::size_t>((cluster.gpus - 1) / cluster.domain + 1), 0);
    for (int const gpu : gpus) marked[static_cast<std::size_t>(gpu / cluster.domain)] = 1;
    return marked;
}

ClusterGraph::ClusterGraph(Cluster const& cluster, std::vector<int> const& from_gpus, std::vector<int> const& to_gpus)
    : network{cluster}, first{number_vertices(cluster, network)}, graph(first.sink + 1)
{
    auto const sends = domains_of(from_gpus, cluster);
    auto const receives = domains_of(to_gpus, cluster);
    for (std::size_t domain = 0; domain < sends.size(); ++domain)
        if (sends[domain] || receives[domain])
            add_domain(cluster, static_cast<int>(domain), sends[domain] != 0, receives[domain] != 0);
    for (int leaf = 0; leaf < network.leaves(); ++leaf) {
        auto const switch_vertex = first.leaves + static_cast<VertexId>(leaf);
        auto const spine = first.spines + static_cast<VertexId>(network.rail_of_leaf(leaf));
        add_link(switch_vertex, spine, LinkKind::leaf_up, leaf);
        add_link(spine, switch_vertex, LinkKind::leaf_down, leaf);
    }
    add_terminals(cluster, from_gpus, to_gpus);
}

void ClusterGraph::add_edge(VertexId from, VertexId to, double capacity, std::optional<LinkId> link)
{
    auto const forward = boost::add_edge(from, to, Edge{capacity, link, 0, 0, {}}, graph).first;
    auto const backward = boost::add_edge(to, from, Edge{}, graph).first;
    graph[forward].reverse = backward;
    graph[backward].reverse = forward;
}

void ClusterGraph::add_link(VertexId from, VertexId to, LinkKind kind, int index)
{
    auto const id = network.link(kind, index);
    if (auto const capacity = network.links()[id].capacity; capacity > 0) add_edge(from, to, capacity, id);
}

void ClusterGraph::add_domain(Cluster const& cluster, int domain, bool sends, bool receives)
{
    auto const crossbar = first.crossbars + static_cast<VertexId>(domain);
    int const end = std::min((domain + 1) * cluster.domain, cluster.gpus);
    for (int gpu = domain * cluster.domain; gpu < end; ++gpu) {
        auto const vertex = static_cast<VertexId>(gpu);
        auto const leaf = first.leaves + static_cast<VertexId>(network.leaf_of(gpu));
        add_link(vertex, crossbar, LinkKind::scale_up_out, gpu);
        add_link(crossbar, vertex, LinkKind::scale_up_in, gpu);
        if (sends) add_link(vertex, leaf, LinkKind::nic_out, gpu);
        if (receives) add_link(leaf, vertex, LinkKind::nic_in, gpu);
    }
}

/// A source before all senders and a sink behind all receivers, wide enough that they never limit.
void ClusterGraph::add_terminals(Cluster const& cluster, std::vector<int> const& from_gpus,
                                 std::vector<int> const& to_gpus)
{
    double const ample = 2 * (cluster.scale_up.value() + cluster.nic.value());
    for (int const gpu : from_gpus) add_edge(first.source, static_cast<VertexId>(gpu), ample, std::nullopt);
    for (int const gpu : to_gpus) add_edge(static_cast<VertexId>(gpu), first.sink, ample, std::nullopt);
}

std::vector<int> checked_set(Cluster const& cluster, std::vector<int> gpus)
{
    if (gpus.empty()) throw InputError("a set of GPUs is empty (there is no flow to ask for); name at least one GPU");
    std::sort(gpus.begin(), gpus.end());
    gpus.erase(std::unique(gpus.begin(), gpus.end()), gpus.end());
    for (int const gpu : {gpus.front(), gpus.back()})
        if (gpu < 0 || gpu >= cluster.gpus)
            throw InputError(fmt::format("GPU {} does not exist (the cluster has {}, counted from 0); try 0 to {}", gpu,
                                         cluster.gpus, cluster.gpus - 1));
    return gpus;
}

/// Width of the widest path to the sink: Dijkstra, where a path is as wide as its tightest edge.
double widest(Graph& graph, VertexId source, VertexId sink)
{
    auto const tighter = [](double a, double b) { return std::min(a, b); };
    boost::dijkstra_shortest_paths(graph, source,
                                   boost::weight_map(boost::get(&Edge::capacity, graph))
                                       .distance_map(boost::get(&Vertex::width, graph))
                                       .distance_compare(std::greater<double>{})
                                       .distance_combine(tighter)
                                       .distance_inf(0.0)
                                       .distance_zero(std::numeric_limits<double>::infinity()));
    return graph[sink].width;
}

/// Fewest hops to the sink over edges of at least this width, in order. Only those that are links.
std::vector<LinkId> links_on_path(Graph& graph, VertexId source, VertexId sink, double width)
{
    auto const wide = boost::filtered_graph<Graph, WideEnough>(graph, WideEnough{&graph, width});
    auto const record = boost::record_edge_predecessors(boost::get(&Vertex::came_by, graph), boost::on_tree_edge());
    boost::breadth_first_search(
        wide, source, boost::visitor(boost::make_bfs_visitor(record)).color_map(boost::get(&Vertex::colour, graph)));
    std::vector<LinkId> path;
    for (auto v = sink; v != source; v = boost::source(graph[v].came_by, graph))
        if (auto const link = graph[graph[v].came_by].link) path.push_back(*link);
    std::reverse(path.begin(), path.end());
    return path;
}

/// Scales capacities to integers by a power of two, so that nothing overflows and equal sums stay equal.
void scale_capacities(Graph& graph)
{
    double total = 0;
    for_each_edge(graph, [&](EdgeId e) { total += graph[e].capacity; });
    double const scale = std::exp2(std::floor(60 - std::log2(total)));
    for_each_edge(graph, [&](EdgeId e) { graph[e].amount = std::llround(graph[e].capacity * scale); });
}

/// Marks what the source still reaches once the flow is as large as it can be: the near side of the minimum cut.
void mark_near_side(Graph& graph, VertexId source, VertexId sink)
{
    scale_capacities(graph);
    boost::push_relabel_max_flow(graph, source, sink,
                                 boost::capacity_map(boost::get(&Edge::amount, graph))
                                     .residual_capacity_map(boost::get(&Edge::residual, graph))
                                     .reverse_edge_map(boost::get(&Edge::reverse, graph)));
    auto const roomy = boost::filtered_graph<Graph, HasRoom>(graph, HasRoom{&graph});
    boost::breadth_first_search(roomy, source, boost::color_map(boost::get(&Vertex::colour, graph)));
}

} // namespace

WidestPath widest_path(Cluster const& cluster, int from_gpu, int to_gpu)
{
    auto const from = checked_set(cluster, {from_gpu});
    auto const to = checked_set(cluster, {to_gpu});
    if (from == to)
        throw InputError(fmt::format("a path from GPU {} to itself crosses no link; name two GPUs", from_gpu));
    ClusterGraph cg{cluster, from, to};
    double const width = widest(cg.graph, cg.first.source, cg.first.sink);
    if (width <= 0)
        throw InputError(
            fmt::format("GPU {} cannot reach GPU {} (cluster.faults left no common rail); remove a failed_nic or "
                        "failed_plane",
                        from_gpu, to_gpu));
    WidestPath out;
    out.bandwidth = Bandwidth{width};
    for (auto const id : links_on_path(cg.graph, cg.first.source, cg.first.sink, width)) {
        out.hops.push_back(cg.network.describe(id));
        if (out.limit.empty() && cg.network.links()[id].capacity == width) out.limit = out.hops.back();
    }
    return out;
}

Cut min_cut(Cluster const& cluster, std::vector<int> const& from_gpus, std::vector<int> const& to_gpus)
{
    auto const from = checked_set(cluster, from_gpus);
    auto const to = checked_set(cluster, to_gpus);
    std::vector<int> both;
    std::set_intersection(from.begin(), from.end(), to.begin(), to.end(), std::back_inserter(both));
    if (!both.empty())
        throw InputError(fmt::format(
            "GPU {} is in both sets (what stays on a GPU crosses no link); make the sets disjoint", both.front()));
    ClusterGraph cg{cluster, from, to};
    mark_near_side(cg.graph, cg.first.source, cg.first.sink);

    auto const near = [&](VertexId v) { return cg.graph[v].colour != boost::white_color; };
    std::map<std::pair<LinkKind, double>, int> counts;
    for_each_edge(cg.graph, [&](EdgeId e) {
        auto const& edge = cg.graph[e];
        if (edge.capacity > 0 && near(boost::source(e, cg.graph)) && !near(boost::target(e, cg.graph)))
            ++counts[{cg.network.links()[edge.link.value()].kind, edge.capacity}];
    });
    Cut cut;
    for (auto const& [link, count] : counts) {
        auto const [kind, capacity] = link;
        cut.bandwidth += count * Bandwidth{capacity};
        cut.links.push_back(fmt::format("{} x {} at {}", count, name(kind), format(Bandwidth{capacity})));
    }
    return cut;
}

Cut bisection(Cluster const& cluster)
{
    if (cluster.gpus < 2)
        throw InputError(
            fmt::format("cluster.gpus = {} has no two halves (a bisection splits the GPUs); try 8", cluster.gpus));
    std::vector<int> halves[2];
    for (int gpu = 0; gpu < cluster.gpus; ++gpu) halves[gpu < cluster.gpus / 2 ? 0 : 1].push_back(gpu);
    return min_cut(cluster, halves[0], halves[1]);
}

} // namespace trainfare
