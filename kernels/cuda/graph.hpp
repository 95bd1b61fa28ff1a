// SPDX-License-Identifier: Apache-2.0
//
// Recording work as a CUDA graph: what must be known while recording, and events that mean something on both sides of
// it.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/cuda/pool.hpp"
#include "kernels/cuda/state.hpp"

namespace trainfare::kernels::cuda {

/// Owns one cudaEvent_t.
class EventHandle {
public:
    EventHandle();
    ~EventHandle();
    EventHandle(EventHandle const&) = delete;
    EventHandle& operator=(EventHandle const&) = delete;
    [[nodiscard]] cudaEvent_t get() const { return event_; }

private:
    cudaEvent_t event_ = nullptr;
};

/// What Backend::record() returns. Inside a recording `event` only names a place in the graph, and `each_replay` is an
/// event that the graph itself records whenever it runs, to time from.
struct Moment {
    EventHandle event;
    std::unique_ptr<EventHandle> each_replay; // empty outside a recording
    std::uint64_t recording = 0;              // number of the recording; 0 outside
};

/// A recording in progress; later what its graph keeps alive.
struct Capture {
    explicit Capture(Runtime&);
    ~Capture(); // what was diverted may be used again
    Capture(Capture const&) = delete;
    Capture& operator=(Capture const&) = delete;

    std::uint64_t number;
    std::shared_ptr<Pool> outside;               // of the back-end
    std::shared_ptr<Pool> pool;                  // all memory taken inside; never shared with work outside
    EventHandle start;
    std::array<bool, stream_count> joined_in{};  // streams that are part of the recording
    std::array<Tensor, stream_count> scratch;
    std::vector<Tensor> outgrown_scratch;        // recorded work still uses it
    std::vector<std::shared_ptr<Moment>> moments; // the graph records them again
    std::vector<Pool::Block> diverted;           // freed meanwhile; earlier recorded work may use them
};

/// Makes stream @p s part of the recording, from its start.
void join_in(Runtime&, Stream s);

/// Records what @p work queues; Runtime::capturing is set meanwhile.
std::unique_ptr<Graph> record_graph(Runtime&, std::function<void()> const& work);

} // namespace trainfare::kernels::cuda
