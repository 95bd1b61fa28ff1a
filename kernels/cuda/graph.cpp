// SPDX-License-Identifier: Apache-2.0
//
// See graph.hpp. The recording begins on the compute stream; another stream takes part from its first use, and all come
// together again at the end. Everything queued before is finished first, so events from before need no waiting inside.
#include "kernels/cuda/graph.hpp"

#include <utility>

namespace trainfare::kernels::cuda {
namespace {

constexpr auto compute = static_cast<std::size_t>(Stream::compute);

class CudaGraph final : public Graph {
public:
    CudaGraph(Runtime& runtime, cudaGraph_t graph, std::unique_ptr<Capture> recorded, std::function<void()> work)
        : runtime_{runtime}, recorded_{std::move(recorded)}, work_{std::move(work)}
    {
        check(cudaGraphInstantiate(&executable_, graph, 0), "cudaGraphInstantiate");
    }
    ~CudaGraph() override { static_cast<void>(cudaGraphExecDestroy(executable_)); } // a replay in flight still finishes
    CudaGraph(CudaGraph const&) = delete;
    CudaGraph& operator=(CudaGraph const&) = delete;

    /// Runs after all that was queued on any stream; what is queued on any stream later runs after it.
    void replay() override
    {
        if (runtime_.capturing != nullptr) throw InternalError("replay: not while a graph is recorded");
        auto const& streams = runtime_.streams;
        for (std::size_t s = 0; s < stream_count; ++s)
            if (s != compute) order(streams[s], streams[compute]);
        check(cudaGraphLaunch(executable_, streams[compute]), "cudaGraphLaunch");
        for (std::size_t s = 0; s < stream_count; ++s)
            if (s != compute) order(streams[compute], streams[s]);
    }

private:
    void order(cudaStream_t first, cudaStream_t then)
    {
        check(cudaEventRecord(between_.get(), first), "cudaEventRecord");
        check(cudaStreamWaitEvent(then, between_.get(), 0), "cudaStreamWaitEvent");
    }

    Runtime& runtime_;
    std::unique_ptr<Capture> recorded_; // memory and events of the graph
    std::function<void()> work_;        // keeps the tensors alive that it holds
    EventHandle between_;
    cudaGraphExec_t executable_ = nullptr;
};

/// The end of the recording whatever happens: streams are usable again, memory goes its usual way.
class Recording {
public:
    Recording(Runtime& runtime, Capture& capture) : runtime_{runtime}, capture_{capture}, used_before_{runtime.in_use}
    {
        check(cudaStreamBeginCapture(runtime.streams[compute], cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
        runtime.capturing = &capture;
        runtime.in_use = Stream::compute;
        runtime.pool->divert(&capture.diverted);
    }
    ~Recording()
    {
        if (runtime_.capturing != nullptr) { // an exception came through: drop what was recorded
            cudaGraph_t incomplete = nullptr;
            static_cast<void>(cudaStreamEndCapture(runtime_.streams[compute], &incomplete));
            if (incomplete != nullptr) static_cast<void>(cudaGraphDestroy(incomplete));
            static_cast<void>(cudaGetLastError());
        }
        runtime_.capturing = nullptr;
        runtime_.in_use = used_before_;
        runtime_.pool->divert(nullptr);
    }
    Recording(Recording const&) = delete;
    Recording& operator=(Recording const&) = delete;

    cudaGraph_t finish()
    {
        for (std::size_t s = 0; s < stream_count; ++s) {
            if (s == compute || !capture_.joined_in[s]) continue;
            EventHandle const last;
            check(cudaEventRecord(last.get(), runtime_.streams[s]), "cudaEventRecord");
            check(cudaStreamWaitEvent(runtime_.streams[compute], last.get(), 0), "cudaStreamWaitEvent");
        }
        cudaGraph_t graph = nullptr;
        runtime_.capturing = nullptr; // the recording is over, even if ending it fails
        check(cudaStreamEndCapture(runtime_.streams[compute], &graph), "cudaStreamEndCapture");
        return graph;
    }

private:
    Runtime& runtime_;
    Capture& capture_;
    Stream used_before_;
};

struct DestroyGraph {
    void operator()(cudaGraph_t graph) const { static_cast<void>(cudaGraphDestroy(graph)); }
};

} // namespace

EventHandle::EventHandle() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
EventHandle::~EventHandle() { static_cast<void>(cudaEventDestroy(event_)); }

Capture::Capture(Runtime& runtime)
    : number{++runtime.recordings}, outside{runtime.pool}, pool{std::make_shared<Pool>(runtime.device, runtime.pool)}
{
}

Capture::~Capture()
{
    for (auto const block : diverted) outside->give_back(block);
}

void join_in(Runtime& runtime, Stream s)
{
    auto const index = static_cast<std::size_t>(s);
    if (index == compute || runtime.capturing->joined_in[index]) return;
    check(cudaStreamWaitEvent(runtime.streams[index], runtime.capturing->start.get(), 0), "cudaStreamWaitEvent");
    runtime.capturing->joined_in[index] = true;
}

std::unique_ptr<Graph> record_graph(Runtime& runtime, std::function<void()> const& work)
{
    if (runtime.capturing != nullptr) throw InternalError("capture: a graph is being recorded already");
    for (auto* const stream : runtime.streams) check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");

    runtime.pool->make_room();
    auto capture = std::make_unique<Capture>(runtime);
    Recording recording{runtime, *capture};
    check(cudaEventRecord(capture->start.get(), runtime.streams[compute]), "cudaEventRecord");
    work();
    std::unique_ptr<CUgraph_st, DestroyGraph> const graph{recording.finish()};
    return std::make_unique<CudaGraph>(runtime, graph.get(), std::move(capture), work);
}

} // namespace trainfare::kernels::cuda
