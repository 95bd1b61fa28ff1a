// SPDX-License-Identifier: Apache-2.0
//
// The only file in sim/ that knows Boost.Graph. A vertex is a task of a group class, an edge points from a dependency
// to the task that waits for it. The graph is built once per call in compressed rows: 200,000 tasks take a few
// hundredths of a second.
#include "sim/task_graph.hpp"

#include <algorithm>

#include <boost/graph/compressed_sparse_row_graph.hpp>
#include <boost/graph/depth_first_search.hpp>
#include <fmt/core.h>

#include "model/error.hpp"

namespace trainfare {

namespace {

using Vertex = std::uint32_t;
using Graph = boost::compressed_sparse_row_graph<boost::directedS, boost::no_property, boost::no_property,
                                                 boost::no_property, Vertex, std::uint32_t>;

std::vector<std::uint32_t> const& peers_of(Folded const& folded, std::uint32_t group_class, Peer peer)
{
    static std::vector<std::uint32_t> const nobody;
    switch (peer) {
    case Peer::none: return nobody;
    case Peer::previous: return folded.previous[group_class];
    case Peer::next: return folded.next[group_class];
    case Peer::team: return folded.team[group_class];
    }
    throw InternalError{"task graph: unknown kind of peer"};
}

template <class Visit>
void for_each_dependency(Folded const& folded, TaskRef ref, Visit visit)
{
    auto const& program = program_of(folded, ref.group_class);
    auto const& task = program.tasks[ref.task];
    for (std::uint32_t i = 0; i < task.dependencies; ++i)
        visit(TaskRef{ref.group_class, program.dependencies[task.first_dependency + i]});
    for (auto const peer : peers_of(folded, ref.group_class, task.peer)) visit(TaskRef{peer, task.peer_task});
}

/// Vertices number the tasks class after class.
class Numbering {
public:
    explicit Numbering(Folded const& folded)
    {
        for (std::uint32_t c = 0; c < folded.representative.size(); ++c)
            first_.push_back(first_.back() + static_cast<Vertex>(program_of(folded, c).tasks.size()));
    }
    [[nodiscard]] std::uint32_t classes() const { return static_cast<std::uint32_t>(first_.size() - 1); }
    [[nodiscard]] std::uint32_t tasks(std::uint32_t group_class) const
    {
        return first_[group_class + 1] - first_[group_class];
    }
    [[nodiscard]] Vertex size() const { return first_.back(); }
    [[nodiscard]] Vertex vertex(TaskRef ref) const
    {
        if (ref.group_class >= classes() || ref.task >= tasks(ref.group_class))
            throw InternalError{
                fmt::format("task graph: a task waits for task {} of group class {}, which does not exist", ref.task,
                            ref.group_class)};
        return first_[ref.group_class] + ref.task;
    }
    [[nodiscard]] TaskRef task(Vertex vertex) const
    {
        auto const after = std::upper_bound(first_.begin(), first_.end(), vertex);
        auto const group_class = static_cast<std::uint32_t>(after - first_.begin() - 1);
        return {group_class, vertex - first_[group_class]};
    }

private:
    std::vector<Vertex> first_{0};
};

Graph make_graph(Folded const& folded, Numbering const& numbers)
{
    std::vector<std::pair<Vertex, Vertex>> edges;
    edges.reserve(3 * std::size_t{numbers.size()});
    for (std::uint32_t c = 0; c < numbers.classes(); ++c)
        for (std::uint32_t t = 0; t < numbers.tasks(c); ++t)
            for_each_dependency(folded, {c, t}, [&](TaskRef dependency) {
                edges.emplace_back(numbers.vertex(dependency), numbers.vertex({c, t}));
            });
    return {boost::edges_are_unsorted_multi_pass, edges.begin(), edges.end(), numbers.size()};
}

char const* kind_name(TaskKind kind)
{
    switch (kind) {
    case TaskKind::compute: return "compute";
    case TaskKind::communicate: return "communicate";
    case TaskKind::join: return "join";
    }
    return "unknown";
}

/// boost::topological_sort reports that there is a cycle but not where, hence a visitor of our own.
class Finished : public boost::dfs_visitor<> {
public:
    Finished(Folded const& folded, Numbering const& numbers, std::vector<Vertex>& reversed)
        : folded_{folded}, numbers_{numbers}, reversed_{reversed}
    {
    }

    void back_edge(Graph::edge_descriptor edge, Graph const& graph) const
    {
        auto const ref = numbers_.task(target(edge, graph));
        auto const& task = program_of(folded_, ref.group_class).tasks[ref.task];
        throw InternalError{fmt::format("task graph: task {} ({}) of group class {} waits for itself along a cycle",
                                        ref.task, kind_name(task.kind), ref.group_class)};
    }
    void finish_vertex(Vertex vertex, Graph const&) const { reversed_.push_back(vertex); }

private:
    Folded const& folded_;
    Numbering const& numbers_;
    std::vector<Vertex>& reversed_;
};

std::vector<Vertex> reversed_order(Folded const& folded, Numbering const& numbers, Graph const& graph)
{
    std::vector<Vertex> reversed;
    reversed.reserve(numbers.size());
    boost::depth_first_search(graph, boost::visitor(Finished{folded, numbers, reversed}));
    return reversed;
}

} // namespace

Program const& program_of(Folded const& folded, std::uint32_t group_class)
{
    auto const& problem = *folded.problem;
    return problem.programs[problem.groups[folded.representative[group_class]].program];
}

std::optional<TaskRef> latest_dependency(Folded const& folded, SimulationRun const& run, TaskRef ref)
{
    std::optional<TaskRef> latest;
    double latest_end = 0;
    for_each_dependency(folded, ref, [&](TaskRef dependency) {
        double const end = run.classes[dependency.group_class].end[dependency.task];
        if (!latest || end > latest_end) {
            latest = dependency;
            latest_end = end;
        }
    });
    return latest;
}

std::vector<TaskRef> topological_order(Folded const& folded)
{
    Numbering const numbers{folded};
    auto const reversed = reversed_order(folded, numbers, make_graph(folded, numbers));
    std::vector<TaskRef> order(reversed.size());
    std::transform(reversed.rbegin(), reversed.rend(), order.begin(), [&](Vertex v) { return numbers.task(v); });
    return order;
}

std::vector<TaskRef> critical_path(Folded const& folded, SimulationRun const& run)
{
    std::optional<TaskRef> last;
    for (std::uint32_t c = 0; c < run.classes.size(); ++c)
        for (std::uint32_t t = 0; t < run.classes[c].end.size(); ++t)
            if (!last || run.classes[c].end[t] > run.classes[last->group_class].end[last->task]) last = TaskRef{c, t};

    std::vector<TaskRef> path;
    for (; last; last = latest_dependency(folded, run, *last)) path.push_back(*last);
    std::reverse(path.begin(), path.end());
    return path;
}

std::vector<std::vector<double>> slack(Folded const& folded, SimulationRun const& run)
{
    Numbering const numbers{folded};
    auto const graph = make_graph(folded, numbers);

    // Latest start: a task may end when the first of those that wait for it must start.
    std::vector<double> latest_start(numbers.size());
    std::vector<std::vector<double>> result(numbers.classes());
    for (std::uint32_t c = 0; c < numbers.classes(); ++c) result[c].resize(numbers.tasks(c));
    for (auto const vertex : reversed_order(folded, numbers, graph)) {
        auto const [c, t] = numbers.task(vertex);
        auto const& times = run.classes[c];
        double latest_end = run.makespan.value();
        auto const [begin, end] = out_edges(vertex, graph);
        for (auto edge = begin; edge != end; ++edge)
            latest_end = std::min(latest_end, latest_start[target(*edge, graph)]);
        latest_start[vertex] = latest_end - (times.end[t] - times.start[t]);
        result[c][t] = std::max(0.0, latest_end - times.end[t]); // rounding may leave -1e-16
    }
    return result;
}

} // namespace trainfare
