// SPDX-License-Identifier: Apache-2.0
//
// Heads of multi-head latent attention on a host (arXiv:2405.04434 eq. 14-17): each head's key is its own part without
// rotation followed by the one rotated part that all heads share; the values lie behind the keys' parts in kv.
// Backward, the gradient of the shared part is the sum over heads, turned back.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/host/backend.hpp"
#include "kernels/ops/rotary.hpp"

namespace trainfare::kernels {
namespace {

template <class Real>
Real* at(Tensor const& t, std::int64_t row, std::int64_t col)
{
    return reals<Real>(t) + row * t.pitch + col;
}

/// Copies the parts of every head that are not rotated: kv -> k, v, or back.
template <class Real>
void move_parts(LatentHeads const& h, std::int64_t row, Tensor const& kv, Tensor const& k, Tensor const& v, bool back)
{
    auto const move = [&](Real* joint, Real* part, int count) {
        if (back)
            std::copy_n(part, count, joint);
        else
            std::copy_n(joint, count, part);
    };
    for (std::int64_t head = 0; head < h.heads; ++head) {
        Real* const joint = at<Real>(kv, row, head * (h.nope + h.v));
        move(joint, at<Real>(k, row, head * (h.nope + h.rope)), h.nope);
        move(joint + h.nope, at<Real>(v, row, head * h.v), h.v);
    }
}

/// The columns of @p x that rotate: [T, rope] of head @p head.
Tensor rotated_columns(LatentHeads const& h, Tensor const& x, std::int64_t head)
{
    return x.column_range(head * (h.nope + h.rope) + h.nope, h.rope);
}

Rope rope_of(LatentHeads const& h, int heads, int first)
{
    return {.seq = h.seq, .heads = heads, .width = first + h.rope, .first = first, .dim = h.rope, .base = h.base};
}

} // namespace

template <class Real>
void HostBackend<Real>::latent_heads(LatentHeads const& h, Tensor const& q, Tensor const& kv, Tensor const& k_rope,
                                     Tensor const& k, Tensor const& v)
{
    check_latent_heads(h, q, kv, k_rope, k, v, "latent_heads");
    rope(rope_of(h, h.heads, h.nope), q, false);
    for (std::int64_t row = 0; row < q.rows; ++row) {
        move_parts<Real>(h, row, kv, k, v, false);
        for (std::int64_t head = 0; head < h.heads; ++head)
            std::copy_n(at<Real>(k_rope, row, 0), h.rope, at<Real>(rotated_columns(h, k, head), row, 0));
    }
    rope(rope_of(h, h.heads, h.nope), k, false);
}

template <class Real>
void HostBackend<Real>::latent_heads_backward(LatentHeads const& h, Tensor const& d_q, Tensor const& d_k,
                                              Tensor const& d_v, Tensor const& d_kv, Tensor const& d_k_rope)
{
    check_latent_heads(h, d_q, d_kv, d_k_rope, d_k, d_v, "latent_heads_backward");
    rope(rope_of(h, h.heads, h.nope), d_q, true);
    for (std::int64_t row = 0; row < d_q.rows; ++row) {
        move_parts<Real>(h, row, d_kv, d_k, d_v, true);
        for (int pair = 0; pair < h.rope / 2; ++pair) {
            Real low = 0, high = 0;
            for (std::int64_t head = 0; head < h.heads; ++head) {
                Real const* const from = at<Real>(rotated_columns(h, d_k, head), row, pair);
                low += from[0], high += from[h.rope / 2];
            }
            double const angle =
                static_cast<double>(row % h.seq) * rotary_frequency(static_cast<double>(h.base), h.rope, pair);
            auto const cosine = static_cast<Real>(std::cos(angle)), sine = static_cast<Real>(std::sin(angle));
            *at<Real>(d_k_rope, row, pair) = stored<Real>(Element::bf16, low * cosine + high * sine);
            *at<Real>(d_k_rope, row, pair + h.rope / 2) = stored<Real>(Element::bf16, high * cosine - low * sine);
        }
    }
}

#define TRAINFARE_INSTANTIATE(Real)                                                                                    \
    template void HostBackend<Real>::latent_heads(LatentHeads const&, Tensor const&, Tensor const&, Tensor const&,     \
                                                  Tensor const&, Tensor const&);                                       \
    template void HostBackend<Real>::latent_heads_backward(LatentHeads const&, Tensor const&, Tensor const&,           \
                                                           Tensor const&, Tensor const&, Tensor const&);
TRAINFARE_INSTANTIATE(float)
TRAINFARE_INSTANTIATE(double)
#undef TRAINFARE_INSTANTIATE

} // namespace trainfare::kernels
