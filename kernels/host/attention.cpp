// SPDX-License-Identifier: Apache-2.0
//
// Attention of the host back-ends, in blocks of query rows so that long sequences need no square of memory and a causal
// mask skips what nobody looks at. The backward pass makes the probabilities again out of log_sum, as GPUs do
// (FlashAttention-2, arXiv:2307.08691, algorithm 2): P = exp(scale q k - log_sum), dS = P (dP - sum(dO O)) scale.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "kernels/host/backend.hpp"
#include "kernels/host/matrix.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {

namespace {

using host::View;

constexpr std::int64_t block_rows = 64;

/// One tensor's columns of one head in the rows of one sequence.
template <class Real>
struct Head {
    Real* data;
    std::int64_t pitch, width;

    [[nodiscard]] View<Real> from(std::int64_t row) const { return {data + row * pitch, pitch, 1}; }
};

template <class Real>
Head<Real> head_of(Tensor const& t, AttentionShape const& shape, std::int64_t sequence, std::int64_t head,
                   std::int64_t width)
{
    return {reals<Real>(t) + sequence * shape.seq * t.pitch + head * width, t.pitch, width};
}

void require(Tensor const& t, char const* which, std::int64_t rows, std::int64_t cols, Element element = Element::bf16)
{
    if (t.element != element || t.rows != rows || t.cols != cols)
        throw InternalError(fmt::format("attention: {} is [{}, {}] of element {}; it must be [{}, {}] of element {}",
                                        which, t.rows, t.cols, static_cast<int>(t.element), rows, cols,
                                        static_cast<int>(element)));
}

void check(AttentionShape const& s, Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& o,
           Tensor const& log_sum)
{
    if (s.kv_heads < 1 || s.heads % s.kv_heads != 0)
        throw InternalError(fmt::format("attention: {} heads cannot share {} key heads evenly", s.heads, s.kv_heads));
    std::int64_t const rows = std::int64_t{s.batch} * s.seq;
    require(q, "q", rows, std::int64_t{s.heads} * s.qk_dim);
    require(k, "k", rows, std::int64_t{s.kv_heads} * s.qk_dim);
    require(v, "v", rows, std::int64_t{s.kv_heads} * s.v_dim);
    require(o, "o", rows, std::int64_t{s.heads} * s.v_dim);
    require(log_sum, "log_sum", std::int64_t{s.heads} * s.batch, s.seq, Element::f32);
}

/// Rows [first, first + rows) of the queries and the keys that the last of them may look at.
struct Block {
    std::int64_t first, rows, keys;
};

std::vector<Block> blocks_of(AttentionShape const& shape)
{
    std::vector<Block> out;
    for (std::int64_t first = 0; first < shape.seq; first += block_rows) {
        std::int64_t const rows = std::min<std::int64_t>(block_rows, shape.seq - first);
        out.push_back({first, rows, shape.causal ? first + rows : shape.seq});
    }
    return out;
}

/// Keys that row @p i of a block may look at.
std::int64_t visible(AttentionShape const& shape, Block const& block, std::int64_t i)
{
    return shape.causal ? block.first + i + 1 : block.keys;
}

template <class Real>
void assign(Real& out, Real sum)
{
    out = sum;
}

template <class Real>
std::vector<Real> scores_of(AttentionShape const& shape, Block const& block, Head<Real> const& q, Head<Real> const& k)
{
    std::vector<Real> scores(static_cast<std::size_t>(block.rows * block.keys));
    host::multiply(q.from(block.first), k.from(0).transposed(), block.rows, block.keys, q.width, scores.data(),
                   block.keys, [&](Real& out, Real sum) { out = static_cast<Real>(shape.scale) * sum; });
    return scores;
}

/// exp(scores - log of the sum of exp(scores)) in place, zeros behind the mask; that logarithm goes to @p log_sum.
template <class Real>
void softmax(AttentionShape const& shape, Block const& block, std::vector<Real>& scores, Real* log_sum)
{
    for (std::int64_t i = 0; i < block.rows; ++i) {
        Real* const row = scores.data() + i * block.keys;
        std::int64_t const seen = visible(shape, block, i);
        Real const largest = *std::max_element(row, row + seen);
        Real sum = 0;
        for (std::int64_t j = 0; j < seen; ++j) sum += row[j] = std::exp(row[j] - largest);
        for (std::int64_t j = 0; j < seen; ++j) row[j] /= sum;
        std::fill(row + seen, row + block.keys, Real{0});
        log_sum[block.first + i] = largest + std::log(sum);
    }
}

/// Scores become probabilities, their gradients in @p d become gradients of the scores.
template <class Real>
void softmax_backward(AttentionShape const& shape, Block const& block, Head<Real> const& d_o, Head<Real> const& o,
                      Real const* log_sum, std::vector<Real>& scores, std::vector<Real>& d)
{
    for (std::int64_t i = 0; i < block.rows; ++i) {
        std::int64_t const row = block.first + i, seen = visible(shape, block, i);
        Real const *const out = o.from(row).data, *const d_out = d_o.from(row).data;
        Real mean = 0;
        for (std::int64_t c = 0; c < o.width; ++c) mean += out[c] * d_out[c];
        Real *const p = scores.data() + i * block.keys, *const d_row = d.data() + i * block.keys;
        for (std::int64_t j = 0; j < seen; ++j) {
            p[j] = std::exp(p[j] - log_sum[row]);
            d_row[j] = p[j] * (d_row[j] - mean) * static_cast<Real>(shape.scale);
        }
        std::fill(p + seen, p + block.keys, Real{0});
        std::fill(d_row + seen, d_row + block.keys, Real{0});
    }
}

/// Sums that are rounded once, when all heads of a group have been added.
template <class Real>
struct Sums {
    std::int64_t width;
    std::vector<Real> values;

    Sums(std::int64_t rows, std::int64_t cols) : width{cols}, values(static_cast<std::size_t>(rows * cols)) {}

    /// += a b, from row 0 on.
    void add(View<Real> a, View<Real> b, std::int64_t rows, std::int64_t depth)
    {
        host::multiply(a, b, rows, width, depth, values.data(), width, [](Real& out, Real sum) { out += sum; });
    }

    void store(Head<Real> const& to, Element element) const
    {
        auto const count = static_cast<std::int64_t>(values.size());
        for (std::int64_t i = 0; i < count; ++i)
            to.data[i / width * to.pitch + i % width] = stored(element, values[static_cast<std::size_t>(i)]);
    }
};

} // namespace

template <class Real>
void HostBackend<Real>::attention(AttentionShape const& shape, Tensor const& q, Tensor const& k, Tensor const& v,
                                  Tensor const& o, Tensor const& log_sum)
{
    check(shape, q, k, v, o, log_sum);
    for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence)
        for (std::int64_t head = 0; head < shape.heads; ++head) {
            std::int64_t const kv_head = head / (shape.heads / shape.kv_heads);
            auto const queries = head_of<Real>(q, shape, sequence, head, shape.qk_dim);
            auto const keys = head_of<Real>(k, shape, sequence, kv_head, shape.qk_dim);
            auto const values = head_of<Real>(v, shape, sequence, kv_head, shape.v_dim);
            auto const out = head_of<Real>(o, shape, sequence, head, shape.v_dim);
            Real* const sums = reals<Real>(log_sum.row_range(sequence * shape.heads + head, 1));
            for (Block const& block : blocks_of(shape)) {
                std::vector<Real> scores = scores_of(shape, block, queries, keys);
                softmax(shape, block, scores, sums);
                host::multiply(View<Real>{scores.data(), block.keys, 1}, values.from(0), block.rows, out.width,
                               block.keys, out.data + block.first * out.pitch, out.pitch,
                               [&](Real& to, Real sum) { to = stored(o.element, sum); });
            }
        }
}

template <class Real>
void HostBackend<Real>::attention_backward(AttentionShape const& shape, Tensor const& d_o, Tensor const& q,
                                           Tensor const& k, Tensor const& v, Tensor const& o, Tensor const& log_sum,
                                           Tensor const& d_q, Tensor const& d_k, Tensor const& d_v)
{
    check(shape, q, k, v, o, log_sum);
    check(shape, d_q, d_k, d_v, d_o, log_sum);
    std::int64_t const share = shape.heads / shape.kv_heads;
    for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence)
        for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
            auto const keys = head_of<Real>(k, shape, sequence, kv_head, shape.qk_dim);
            auto const values = head_of<Real>(v, shape, sequence, kv_head, shape.v_dim);
            Sums<Real> d_keys{shape.seq, shape.qk_dim}, d_values{shape.seq, shape.v_dim};
            for (std::int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head) {
                auto const queries = head_of<Real>(q, shape, sequence, head, shape.qk_dim);
                auto const out = head_of<Real>(o, shape, sequence, head, shape.v_dim);
                auto const d_out = head_of<Real>(d_o, shape, sequence, head, shape.v_dim);
                auto const d_queries = head_of<Real>(d_q, shape, sequence, head, shape.qk_dim);
                Real const* const sums = reals<Real>(log_sum.row_range(sequence * shape.heads + head, 1));
                for (Block const& block : blocks_of(shape)) {
                    std::vector<Real> p = scores_of(shape, block, queries, keys), d(p.size());
                    host::multiply(d_out.from(block.first), values.from(0).transposed(), block.rows, block.keys,
                                   values.width, d.data(), block.keys, assign<Real>);
                    softmax_backward(shape, block, d_out, out, sums, p, d);
                    View<Real> const p_view{p.data(), block.keys, 1}, d_view{d.data(), block.keys, 1};
                    d_values.add(p_view.transposed(), d_out.from(block.first), block.keys, block.rows);
                    d_keys.add(d_view.transposed(), queries.from(block.first), block.keys, block.rows);
                    host::multiply(d_view, keys.from(0), block.rows, d_queries.width, block.keys,
                                   d_queries.data + block.first * d_queries.pitch, d_queries.pitch,
                                   [&](Real& to, Real sum) { to = stored(d_q.element, sum); });
                }
            }
            d_keys.store(head_of<Real>(d_k, shape, sequence, kv_head, shape.qk_dim), d_k.element);
            d_values.store(head_of<Real>(d_v, shape, sequence, kv_head, shape.v_dim), d_v.element);
        }
}

template void HostBackend<float>::attention(AttentionShape const&, Tensor const&, Tensor const&, Tensor const&,
                                            Tensor const&, Tensor const&);
template void HostBackend<double>::attention(AttentionShape const&, Tensor const&, Tensor const&, Tensor const&,
                                             Tensor const&, Tensor const&);
template void HostBackend<float>::attention_backward(AttentionShape const&, Tensor const&, Tensor const&, Tensor const&,
                                                     Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                                     Tensor const&, Tensor const&);
template void HostBackend<double>::attention_backward(AttentionShape const&, Tensor const&, Tensor const&,
                                                      Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                                      Tensor const&, Tensor const&, Tensor const&);

} // namespace trainfare::kernels
