// SPDX-License-Identifier: Apache-2.0
//
// Quantised grouped products in one launch by CUTLASS. Optional: without it (CMake: TRAINFARE_CUTLASS) cutlass_can says
// no.
#pragma once

#include "kernels/cuda/backend.hpp"
#include "kernels/product.hpp"

namespace trainfare::kernels::cuda {

#if defined(TRAINFARE_CUTLASS)

constexpr bool cutlass_built_in() { return true; }

/// For Form::nt: c bf16, a vector128, b block128, sizes that the kernel can do.
bool cutlass_can(Tensor const& c, Operand const& a, Operand const& b, ProductSize const&, Groups const&);

/// Queues the products on the stream in use.
void cutlass_grouped_gemm(CudaBackend&, Tensor const& c, Operand const& a, Operand const& b, ProductSize const&,
                          Groups const&);

#else

constexpr bool cutlass_built_in() { return false; }
inline bool cutlass_can(Tensor const&, Operand const&, Operand const&, ProductSize const&, Groups const&)
{
    return false;
}
inline void cutlass_grouped_gemm(CudaBackend&, Tensor const&, Operand const&, Operand const&, ProductSize const&,
                                 Groups const&)
{
}

#endif

} // namespace trainfare::kernels::cuda
