// SPDX-License-Identifier: Apache-2.0
//
// What the parts of back-end `cuda` share: device, streams, memory, and the slots in which cuda/gemm.cpp and
// cuda/attention.cpp keep what must live as long as the back-end (handles, chosen algorithms, plans). Each owns the
// type behind its slot.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.hpp"
#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/check.hpp"

namespace trainfare::kernels::cuda {

class Pool;     // cuda/pool.hpp
struct Capture; // cuda/graph.hpp: what is being recorded

inline constexpr std::size_t stream_count = 3;

/// Plain data; free functions of cuda/*.cpp take this, since CudaBackend::State is private.
struct Runtime {
    int device = 0;
    int all_sms = 0;      // of the device
    int sm_limit = 0;     // 0: none
    std::array<cudaStream_t, stream_count> streams{}; // indexed by Stream
    Stream in_use = Stream::compute;
    std::shared_ptr<Pool> pool;
    std::array<Tensor, stream_count> scratch;         // one a stream; see CudaBackend::scratch
    Capture* capturing = nullptr;                     // not null inside capture(): nothing may wait then
    std::uint64_t recordings = 0;                     // made so far

    std::shared_ptr<void> gemm;      // cuda/gemm.cpp: cuBLASLt handle and the algorithms chosen so far
    std::shared_ptr<void> grouped;   // cuda/grouped_gemm.*
    std::shared_ptr<void> attention; // cuda/attention.cpp: cuDNN handle and plans
};

} // namespace trainfare::kernels::cuda

namespace trainfare::kernels {

/// A slot is filled on first use:
///     if (!state_->gemm) state_->gemm = std::make_shared<Gemm>();
///     auto& gemm = *static_cast<Gemm*>(state_->gemm.get());
/// Slots are emptied, after all streams have finished, before the streams and the memory go.
struct CudaBackend::State : cuda::Runtime {};

} // namespace trainfare::kernels
