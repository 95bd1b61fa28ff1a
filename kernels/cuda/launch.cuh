// SPDX-License-Identifier: Apache-2.0
//
// What every .cu file of kernels/ops/ stands on: a checked launch, block-wide reductions, 16-byte loads, and conversions. Kernels
// use nothing else of CUDA that has state, so tests can run them on a CPU with another file of this name (tests/kernels/emulator).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "kernels/cuda/check.hpp"

namespace trainfare::kernels::cuda {

/// Queues kernel<<<grid, block, shared_bytes, stream>>>(arguments...). @p name is for the message when it cannot start.
template <class... Parameters, class... Arguments>
void launch(char const* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            Arguments&&... arguments)
{
    if (shared_bytes > 48 * 1024)
        check(cudaFuncSetAttribute(reinterpret_cast<void const*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared_bytes)),
              name);
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes, config.stream = stream;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...), name);
}

/// The block's dynamic shared memory, 16-byte aligned.
template <class T>
__device__ T* dynamic_shared()
{
    extern __shared__ __align__(16) unsigned char memory[];
    return reinterpret_cast<T*>(memory);
}

} // namespace trainfare::kernels::cuda

#include "kernels/cuda/device_functions.cuh"
