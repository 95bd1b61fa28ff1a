// SPDX-License-Identifier: Apache-2.0
//
// Shape rules of the operations that take contiguous tensors only: routing, embedding, loss, optimizer, reductions.
#pragma once

#include "kernels/ops/shapes.hpp"

namespace trainfare::kernels {

/// @throws InternalError "operation: rule" unless @p t is contiguous, of that element and shape.
inline void require_tensor(Tensor const& t, Element element, std::int64_t rows, std::int64_t cols,
                           char const* operation, char const* rule)
{
    require(is_shape(t, element, rows, cols) && t.contiguous(), operation, rule);
}

/// The same for a tensor whose shape does not matter, only how many elements it has.
inline void require_elements(Tensor const& t, Element element, std::int64_t count, char const* operation,
                             char const* rule)
{
    require(t.element == element && t.size() == count && t.contiguous(), operation, rule);
}

/// Rows begin at 16-byte boundaries and are whole 16-byte accesses: for tensors of any element in GPU memory.
inline bool in_wide_accesses(Tensor const& t)
{
    auto const bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements) * t.bytes_each; };
    return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0 && bytes(t.cols) % 16 == 0 &&
           (bytes(t.pitch) % 16 == 0 || t.rows <= 1);
}

} // namespace trainfare::kernels
