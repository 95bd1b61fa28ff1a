// SPDX-License-Identifier: Apache-2.0
//
// One matrix product by cuBLASLt, for gemm and for each group of grouped_gemm.
#pragma once

#include <cstddef>

#include "kernels/cuda/state.hpp"

namespace trainfare::kernels::cuda {

/// c = a b, or c += a b. The tensors fit together (kernels/product.hpp).
struct Product {
    Tensor c;
    Operand a, b;
    Form form = Form::nt;
    bool accumulate = false;
};

/// Memory for work on the stream in use.
struct Workspace {
    void* data = nullptr;
    std::size_t bytes = 0;
};

/// What NVIDIA recommends on Hopper (cuBLAS documentation, cublasSetWorkspace).
inline constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

/// Queues the product on the stream in use. @throws Unsupported where cuBLASLt has no algorithm for it.
void multiply(CudaBackend&, Runtime&, Product const&, Workspace);

/// Queues zeros for every element of @p c, which may be a column range.
void clear(CudaBackend&, Tensor const& c);

} // namespace trainfare::kernels::cuda
