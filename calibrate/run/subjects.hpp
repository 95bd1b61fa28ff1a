// SPDX-License-Identifier: Apache-2.0
//
// A point as something that can be run: tensors, a function that queues the operation, and a check of what it computed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "calibrate/run/points.hpp"
#include "kernels/backend.hpp"

namespace trainfare::measure {

/// Buffers of one run. Rotating over several of them keeps inputs out of the L2 cache, as in a step, where much else
/// runs in between.
struct Instance {
    std::function<void()> run; // queues the operation once; owns its tensors
    std::function<double()>
        check;        // run() once on fresh buffers, then the error of a sample of the result, relative to its size
    double moved = 0; // bytes that one run moves, each input read once and each output written once
    double held = 0;  // bytes of memory
    enum class Timing : std::uint8_t { automatic, stream, graph } timing = Timing::automatic;
};

struct Subject {
    std::vector<Instance> instances; // at least one
    double tolerance = 0;            // of Instance::check
    std::string impl;                // library: cublaslt, cutlass, cudnn; own; host
    std::string note;                // how the sizes that run differ from those asked for
};

struct SubjectOptions {
    double l2_bytes = 50e6;    // instances are made until they fill four times this ...
    double memory_bytes = 1e9; // ... or this
    std::uint64_t seed = 1;
};

/// @throws kernels::Unsupported where no back-end operation does this; InputError or std::bad_alloc where memory is
/// short.
Subject make_subject(kernels::Backend&, Point const&, SubjectOptions const&);

} // namespace trainfare::measure
