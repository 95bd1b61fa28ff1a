// SPDX-License-Identifier: Apache-2.0
//
// Runs programs in order or zipped. Zipped, with c computing and x exchanging (numbers: micro-batch):
//     compute    c1 c2 c1 c2 c1 c2
//     exchange      x1 x2 x1 x2
#include "kernels/step/program.hpp"

namespace trainfare::kernels {
namespace {

struct Lane {
    std::vector<Program::Segment> const& segments;
    std::size_t next = 0;
    Event exchanged{}; // what the next computing segment waits for

    [[nodiscard]] bool done() const { return next == segments.size(); }
};

/// Queues @p work on @p stream after what is on the compute stream now. @return its end
Event beside(Backend& backend, Stream stream, std::function<void()> const& work)
{
    auto const before = backend.record();
    backend.use(stream);
    backend.wait(before);
    work();
    auto end = backend.record();
    backend.use(Stream::compute);
    return end;
}

/// The computing up to the next exchange, and that exchange.
void take_turn(Backend& backend, Lane& lane, Event& reduced)
{
    if (lane.exchanged) backend.wait(lane.exchanged);
    lane.exchanged.reset();
    while (!lane.done() && !lane.exchanged) {
        auto const& [stream, work] = lane.segments[lane.next++];
        if (stream == Stream::compute)
            work();
        else if (stream == Stream::gradients)
            reduced = beside(backend, stream, work);
        else
            lane.exchanged = beside(backend, stream, work);
    }
}

} // namespace

void run_in_order(Backend& backend, Program const& program)
{
    backend.use(Stream::compute);
    for (auto const& segment : program.segments()) segment.work();
}

void run_zipped(Backend& backend, std::vector<Program const*> const& programs)
{
    backend.use(Stream::compute);
    std::vector<Lane> lanes;
    for (auto const* p : programs) lanes.push_back({p->segments()});
    Event reduced;
    for (bool more = true; more;) {
        more = false;
        for (auto& lane : lanes) {
            if (lane.done() && !lane.exchanged) continue;
            take_turn(backend, lane, reduced);
            more = true;
        }
    }
    if (reduced) backend.wait(reduced);
}

} // namespace trainfare::kernels
