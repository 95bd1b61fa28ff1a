// SPDX-License-Identifier: Apache-2.0
//
// Attention. A few rows are recomputed in double: of the forward and of d_q early rows, which see few keys; of d_k and
// d_v late rows, which few queries see.
#include <cmath>

#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

using Row = std::vector<double>;

struct Tensors {
    AttentionShape shape;
    Tensor q, k, v, o, log_sum, d_o, d_q, d_k, d_v;

    [[nodiscard]] int kv_head(int head) const { return head / (shape.heads / shape.kv_heads); }
};

/// Columns of one head of rows [first, first + count), each a vector.
std::vector<Row> head_rows(Backend& on, Tensor const& t, int head, int width, std::int64_t first, std::int64_t count)
{
    auto const all = on.download(t.row_range(first, count).column_range(std::int64_t{head} * width, width));
    std::vector<Row> out;
    for (std::int64_t r = 0; r < count; ++r) out.emplace_back(all.begin() + r * width, all.begin() + (r + 1) * width);
    return out;
}

/// Probabilities with which query @p q meets each of the keys.
Row probabilities(Row const& q, std::vector<Row> const& keys, std::size_t count, double scale)
{
    Row p(count);
    double most = -INFINITY, sum = 0;
    for (std::size_t s = 0; s < count; ++s) p[s] = scale * dot(q, keys[s]), most = std::max(most, p[s]);
    for (auto& x : p) sum += x = std::exp(x - most);
    for (auto& x : p) x /= sum;
    return p;
}

void check_early(Backend& on, Tensors const& x, bool backward, int head, Difference& d)
{
    auto const& s = x.shape;
    std::int64_t const rows = std::min(s.seq, 128);
    auto const q = head_rows(on, x.q, head, s.qk_dim, 0, rows),
               k = head_rows(on, x.k, x.kv_head(head), s.qk_dim, 0, rows),
               v = head_rows(on, x.v, x.kv_head(head), s.v_dim, 0, rows),
               o = head_rows(on, x.o, head, s.v_dim, 0, rows);
    auto const d_o = backward ? head_rows(on, x.d_o, head, s.v_dim, 0, rows) : o;
    auto const d_q = backward ? head_rows(on, x.d_q, head, s.qk_dim, 0, rows) : q;
    for (auto const t : {std::int64_t{0}, rows / 3, rows - 1}) {
        auto const at = static_cast<std::size_t>(t), keys = at + 1;
        auto const p = probabilities(q[at], k, keys, s.scale);
        Row sum(static_cast<std::size_t>(s.v_dim), 0), gradient(static_cast<std::size_t>(s.qk_dim), 0);
        for (std::size_t j = 0; j < keys; ++j)
            for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += p[j] * v[j][c];
        if (!backward) {
            d.add(o[at], sum);
            continue;
        }
        if (keys == 1) continue; // the gradient of a sole probability is zero: nothing to be relative to
        double const mean = dot(d_o[at], sum);
        for (std::size_t j = 0; j < keys; ++j)
            for (std::size_t c = 0; c < gradient.size(); ++c)
                gradient[c] += s.scale * p[j] * (dot(d_o[at], v[j]) - mean) * k[j][c];
        d.add(d_q[at], gradient);
    }
}

void check_late(Backend& on, Tensors const& x, int kv_head, Difference& d)
{
    auto const& s = x.shape;
    std::int64_t const rows = std::min(s.seq, 32), first = s.seq - rows;
    auto const k = head_rows(on, x.k, kv_head, s.qk_dim, first, rows),
               v = head_rows(on, x.v, kv_head, s.v_dim, first, rows);
    auto const d_k = head_rows(on, x.d_k, kv_head, s.qk_dim, first, rows),
               d_v = head_rows(on, x.d_v, kv_head, s.v_dim, first, rows);
    auto const key = static_cast<std::size_t>(rows / 2);
    Row k_sum(static_cast<std::size_t>(s.qk_dim), 0), v_sum(static_cast<std::size_t>(s.v_dim), 0);
    int const shared = s.heads / s.kv_heads;
    for (int head = kv_head * shared; head < (kv_head + 1) * shared; ++head) {
        auto const q = head_rows(on, x.q, head, s.qk_dim, first, rows),
                   o = head_rows(on, x.o, head, s.v_dim, first, rows),
                   d_o = head_rows(on, x.d_o, head, s.v_dim, first, rows);
        auto const log_sum =
            on.download(x.log_sum.row_range(head, 1).column_range(first, rows)); // of the first sequence
        for (auto t = key; t < static_cast<std::size_t>(rows); ++t) {
            double const p = std::exp(s.scale * dot(q[t], k[key]) - log_sum[t]);
            double const slope = s.scale * p * (dot(d_o[t], v[key]) - dot(d_o[t], o[t]));
            for (std::size_t c = 0; c < v_sum.size(); ++c) v_sum[c] += p * d_o[t][c];
            for (std::size_t c = 0; c < k_sum.size(); ++c) k_sum[c] += slope * q[t][c];
        }
    }
    d.add(d_k[key], k_sum);
    d.add(d_v[key], v_sum);
}

} // namespace

Instance attention(Maker& make, Point const& p)
{
    Tensors x;
    auto& s = x.shape;
    s.batch = static_cast<int>(p.op.batch), s.seq = static_cast<int>(p.op.seq);
    s.heads = p.op.heads, s.kv_heads = p.op.kv_heads, s.qk_dim = p.op.qk_dim, s.v_dim = p.op.v_dim;
    s.deterministic = p.variant.empty();
    s.scale = static_cast<float>(1 / std::sqrt(s.qk_dim));
    std::int64_t const rows = std::int64_t{s.batch} * s.seq;
    x.q = make.bf16(rows, std::int64_t{s.heads} * s.qk_dim);
    x.k = make.bf16(rows, std::int64_t{s.kv_heads} * s.qk_dim);
    x.v = make.bf16(rows, std::int64_t{s.kv_heads} * s.v_dim);
    x.o = make.empty(Element::bf16, rows, std::int64_t{s.heads} * s.v_dim);
    x.log_sum = make.empty(Element::f32, std::int64_t{s.heads} * s.batch, s.seq);
    auto& on = make.backend;
    bool const backward = p.op.pass == Pass::dgrad;
    if (backward) {
        x.d_o = make.bf16(rows, x.o.cols);
        x.d_q = make.empty(Element::bf16, rows, x.q.cols);
        x.d_k = make.empty(Element::bf16, rows, x.k.cols);
        x.d_v = make.empty(Element::bf16, rows, x.v.cols);
        on.attention(s, x.q, x.k, x.v, x.o, x.log_sum);
    }
    Instance out;
    out.run = [=, &on] {
        if (backward)
            on.attention_backward(x.shape, x.d_o, x.q, x.k, x.v, x.o, x.log_sum, x.d_q, x.d_k, x.d_v);
        else
            on.attention(x.shape, x.q, x.k, x.v, x.o, x.log_sum);
    };
    out.check = [=, &on, run = out.run] {
        run();
        Difference d;
        for (int const head : {0, x.shape.heads - 1}) check_early(on, x, backward, head, d);
        if (backward) check_late(on, x, x.shape.kv_heads - 1, d);
        return d.error();
    };
    out.moved = p.op.bytes.value();
    out.held = make.held();
    return out;
}

} // namespace trainfare::measure
