// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt's C handles as values that destroy themselves, and its attributes with their types.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/tensor.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::cuda::lt {

/// @throws InternalError naming the call.
inline void check(cublasStatus_t status, char const* what)
{
    if (status != CUBLAS_STATUS_SUCCESS)
        throw InternalError(std::string{what} + ": " + cublasLtGetStatusString(status));
}

template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Destroy {
    using pointer = Handle;
    void operator()(Handle handle) const { static_cast<void>(destroy(handle)); }
};
template <class Handle, cublasStatus_t (*destroy)(Handle)>
using Owned = std::unique_ptr<Handle, Destroy<Handle, destroy>>;

using Library = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

inline Library make_library()
{
    cublasLtHandle_t created = nullptr;
    check(cublasLtCreate(&created), "cublasLtCreate");
    return Library{created};
}

/// fp32 sums and fp32 alpha and beta.
inline Operation make_operation()
{
    cublasLtMatmulDesc_t created = nullptr;
    check(cublasLtMatmulDescCreate(&created, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    return Operation{created};
}

inline Preference make_preference()
{
    cublasLtMatmulPreference_t created = nullptr;
    check(cublasLtMatmulPreferenceCreate(&created), "cublasLtMatmulPreferenceCreate");
    return Preference{created};
}

inline cudaDataType_t type_of(Element element)
{
    switch (element) {
    case Element::f32: return CUDA_R_32F;
    case Element::bf16: return CUDA_R_16BF;
    case Element::e4m3: return CUDA_R_8F_E4M3;
    case Element::i32: break;
    }
    throw InternalError("cuBLASLt: no products of integers");
}

/// A row-major [rows, cols] matrix as the [cols, rows] one that cuBLASLt, which thinks in columns, sees in the same
/// memory.
inline Layout make_layout(Tensor const& t)
{
    cublasLtMatrixLayout_t created = nullptr;
    check(cublasLtMatrixLayoutCreate(&created, type_of(t.element), static_cast<std::uint64_t>(t.cols),
                                     static_cast<std::uint64_t>(t.rows), t.pitch),
          "cublasLtMatrixLayoutCreate");
    return Layout{created};
}

/// @p value must have the type that cublasLt.h states for the attribute; the library checks its size.
template <class Value>
void set(Operation const& operation, cublasLtMatmulDescAttributes_t which, Value const& value)
{
    check(cublasLtMatmulDescSetAttribute(operation.get(), which, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
}

template <class Value>
void set(Preference const& preference, cublasLtMatmulPreferenceAttributes_t which, Value const& value)
{
    check(cublasLtMatmulPreferenceSetAttribute(preference.get(), which, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
}

} // namespace trainfare::kernels::cuda::lt
