// SPDX-License-Identifier: Apache-2.0
//
// Number formats. A DType is what one stored element is; a Precision is a training recipe: what the inputs of
// the matrix products are, and at what scale granularity.
#pragma once

#include <optional>
#include <string_view>

#include "model/units.hpp"

namespace trainfare {

enum class DType { fp32, fp16, bf16, fp8, fp4 };

/// Names as in the published tables: fp8_tensor is one scale a tensor (or row), fp8_block 1x128 activations and
/// 128x128 weights (DeepSeek-V3, arXiv:2412.19437 s3.3), mxfp8 and nvfp4 hardware micro-scaling.
enum class Precision { fp32, fp16, bf16, fp8_tensor, fp8_block, mxfp8, nvfp4 };

constexpr Bytes size_of(DType t)
{
    switch (t) {
    case DType::fp32: return Bytes{4};
    case DType::fp16:
    case DType::bf16: return Bytes{2};
    case DType::fp8: return Bytes{1};
    case DType::fp4: return Bytes{0.5};
    }
    return Bytes{0};
}

/// Format of a matrix product's inputs under a recipe.
constexpr DType gemm_dtype(Precision p)
{
    switch (p) {
    case Precision::fp32: return DType::fp32;
    case Precision::fp16: return DType::fp16;
    case Precision::bf16: return DType::bf16;
    case Precision::fp8_tensor:
    case Precision::fp8_block:
    case Precision::mxfp8: return DType::fp8;
    case Precision::nvfp4: return DType::fp4;
    }
    return DType::bf16;
}

/// True where inputs must be quantised (and transposed copies kept) before a product.
constexpr bool is_quantised(Precision p)
{
    return p == Precision::fp8_tensor || p == Precision::fp8_block || p == Precision::mxfp8 || p == Precision::nvfp4;
}

/// Bytes of scale factors per element: fp8_block one fp32 per 128, mxfp8 one byte per 32, nvfp4 one byte per 16.
constexpr double scale_bytes_per_element(Precision p)
{
    switch (p) {
    case Precision::fp8_block: return 4.0 / 128;
    case Precision::mxfp8: return 1.0 / 32;
    case Precision::nvfp4: return 1.0 / 16;
    default: return 0;
    }
}

std::string_view name(Precision p);
std::string_view name(DType t);
std::optional<Precision> precision_from(std::string_view text);
std::optional<DType> dtype_from(std::string_view text);

} // namespace trainfare
