// SPDX-License-Identifier: Apache-2.0
//
// Gradient of an embedding on a host: each token's gradient is added to its row, in the order of tokens.
#include "kernels/ops/embedding.hpp"

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

template <class Real>
void HostBackend<Real>::embedding_backward(Tensor const& d_y, Tensor const& ids, Tensor const& d_table)
{
    check_embedding_backward(d_y, ids, d_table);
    for (std::int64_t t = 0; t < d_y.rows; ++t) {
        auto const id = ints(ids)[t];
        require(id >= 0 && id < d_table.rows, "embedding_backward", "an id is not in the table");
        Real const* const from = reals<Real>(d_y.row_range(t, 1));
        Real* const to = reals<Real>(d_table.row_range(id, 1));
        for (std::int64_t c = 0; c < d_y.cols; ++c) to[c] += from[c];
    }
}

template void HostBackend<float>::embedding_backward(Tensor const&, Tensor const&, Tensor const&);
template void HostBackend<double>::embedding_backward(Tensor const&, Tensor const&, Tensor const&);

} // namespace trainfare::kernels
