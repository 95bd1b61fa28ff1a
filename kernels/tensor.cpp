// SPDX-License-Identifier: Apache-2.0
//
// Shapes that every back-end agrees on: where each expert's rows begin, and how large the scales of a quantised matrix
// are.
#include "kernels/tensor.hpp"

#include <string>
#include <utility>

#include "kernels/backend.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

std::int64_t rounded_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

} // namespace

Groups groups_from_counts(std::vector<std::int32_t> const& counts, std::int64_t alignment)
{
    if (alignment < 1)
        throw InternalError("groups_from_counts: alignment " + std::to_string(alignment) + " is below 1");
    Groups groups;
    groups.rows.reserve(counts.size());
    groups.starts.reserve(counts.size() + 1);
    groups.starts.push_back(0);
    for (auto const count : counts) {
        if (count < 0) throw InternalError("groups_from_counts: a group of " + std::to_string(count) + " rows");
        groups.rows.push_back(count);
        groups.starts.push_back(groups.starts.back() + rounded_up(count, alignment));
    }
    return groups;
}

Operand make_quantised(Backend& backend, Scaling scaling, std::int64_t rows, std::int64_t cols)
{
    auto const row_blocks = rounded_up(rows, 128) / 128, col_blocks = rounded_up(cols, 128) / 128;
    auto values = backend.make(Element::e4m3, rows, cols);
    switch (scaling) {
    case Scaling::vector128: return {std::move(values), backend.make(Element::f32, col_blocks, rows), scaling};
    case Scaling::block128:
        return {std::move(values), backend.make(Element::f32, row_blocks, rounded_up(col_blocks, 4)), scaling};
    case Scaling::none: break;
    }
    throw InternalError("make_quantised: a quantised operand has scales; use make() for a plain tensor");
}

} // namespace trainfare::kernels
