// SPDX-License-Identifier: Apache-2.0
//
// The chunked head.
#include "kernels/step/head.hpp"

#include <algorithm>

namespace trainfare::kernels {

Tensor Head::forward(Tensor const& y, Tensor const& targets, float grad_scale, Tensor const& loss) const
{
    auto d_y = context_.bf16(y.rows, y.cols);
    auto const losses = context_.f32(1, y.rows);
    for (std::int64_t first = 0; first < y.rows; first += context_.config.head_rows) {
        auto const rows = std::min<std::int64_t>(context_.config.head_rows, y.rows - first);
        auto const logits = context_.bf16(rows, vocab_);
        linear_.forward(y.row_range(first, rows), logits, false);
        context_.backend.cross_entropy(logits, slice(targets, first, rows), grad_scale, slice(losses, first, rows));
        linear_.backward({logits, {}}, y.row_range(first, rows), d_y.row_range(first, rows), false);
    }
    context_.backend.sum(losses, loss, false);
    return d_y;
}

} // namespace trainfare::kernels
