// SPDX-License-Identifier: Apache-2.0
//
// Every call of the CUDA runtime goes through here: an error that is not looked at shows up later, somewhere else.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "model/error.hpp"

namespace trainfare::kernels::cuda {

/// @throws InternalError naming the call.
inline void check(cudaError_t status, char const* what)
{
    if (status != cudaSuccess) throw InternalError(std::string{what} + ": " + cudaGetErrorString(status));
}

} // namespace trainfare::kernels::cuda
