// SPDX-License-Identifier: Apache-2.0
//
// The order of a micro-batch's work: a list of segments, alternately computing and exchanging rows between ranks. Two
// lists can be run zipped, so that one micro-batch exchanges while the other computes. The numbers do not depend on it:
// every gradient is accumulated in the same order.
#pragma once

#include <functional>
#include <vector>

#include "kernels/backend.hpp"

namespace trainfare::kernels {

class Program {
public:
    struct Segment {
        Stream stream = Stream::compute;
        std::function<void()> work;
    };

    void compute(std::function<void()> work) { segments_.push_back({Stream::compute, std::move(work)}); }
    /// Rows to other ranks and back. Results must have been allocated by a computing segment before (memory is handed
    /// out for use on the compute stream), and all tensors be kept until one after.
    void exchange(std::function<void()> work) { segments_.push_back({Stream::exchange, std::move(work)}); }
    /// Beside all that follows, after all before: reducing the gradients of a finished layer.
    void reduce(std::function<void()> work) { segments_.push_back({Stream::gradients, std::move(work)}); }

    [[nodiscard]] std::vector<Segment> const& segments() const { return segments_; }

private:
    std::vector<Segment> segments_;
};

/// One segment after another on the compute stream.
void run_in_order(Backend&, Program const&);

/// Each segment on its own stream, the programs taking turns at their exchanges. On return the compute stream waits for
/// all.
void run_zipped(Backend&, std::vector<Program const*> const&);

} // namespace trainfare::kernels
