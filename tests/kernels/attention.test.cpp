// SPDX-License-Identifier: Apache-2.0
//
// Attention against its formula, its gradients against slopes, and every back-end against the reference.
#include "tests/kernels/backends.hpp"

#include "model/error.hpp"

namespace trainfare::kernels::test {

namespace {

AttentionShape shape_of(int batch, int seq, int heads, int kv_heads, int qk_dim, int v_dim, bool causal)
{
    return {batch, seq, heads, kv_heads, qk_dim, v_dim, causal, 1 / std::sqrt(static_cast<float>(qk_dim))};
}

/// Numbers of the inputs, and of the gradient that comes back.
struct Inputs {
    Values q, k, v, d_o;
};

std::int64_t rows_of(AttentionShape const& s) { return std::int64_t{s.batch} * s.seq; }

Inputs inputs(AttentionShape const& s)
{
    return {numbers(rows_of(s) * s.heads * s.qk_dim, 1), numbers(rows_of(s) * s.kv_heads * s.qk_dim, 2),
            numbers(rows_of(s) * s.kv_heads * s.v_dim, 3), numbers(rows_of(s) * s.heads * s.v_dim, 4)};
}

struct Results {
    Values o, log_sum, d_q, d_k, d_v;
};

/// softmax(scale q k) v, one element at a time.
Results by_formula(AttentionShape const& s, Inputs const& x)
{
    Results out{Values(x.d_o.size()), Values(static_cast<std::size_t>(rows_of(s) * s.heads)), {}, {}, {}};
    auto const at = [&](Values const& t, int heads, int dim, int b, int i, int head, int c) {
        return t.at(static_cast<std::size_t>(((b * s.seq + i) * heads + head) * dim + c));
    };
    for (int b = 0; b < s.batch; ++b)
        for (int head = 0; head < s.heads; ++head)
            for (int i = 0; i < s.seq; ++i) {
                int const kv = head * s.kv_heads / s.heads, keys = s.causal ? i + 1 : s.seq;
                Values weights;
                double sum = 0;
                for (int j = 0; j < keys; ++j) {
                    double score = 0;
                    for (int c = 0; c < s.qk_dim; ++c)
                        score += at(x.q, s.heads, s.qk_dim, b, i, head, c) * at(x.k, s.kv_heads, s.qk_dim, b, j, kv, c);
                    weights.push_back(std::exp(static_cast<double>(s.scale) * score));
                    sum += weights.back();
                }
                out.log_sum[static_cast<std::size_t>((b * s.heads + head) * s.seq + i)] = std::log(sum);
                for (int c = 0; c < s.v_dim; ++c)
                    for (int j = 0; j < keys; ++j)
                        out.o[static_cast<std::size_t>(((b * s.seq + i) * s.heads + head) * s.v_dim + c)] +=
                            weights[static_cast<std::size_t>(j)] / sum * at(x.v, s.kv_heads, s.v_dim, b, j, kv, c);
            }
    return out;
}

Results run(Backend& on, AttentionShape const& s, Inputs const& x, bool backward)
{
    std::int64_t const rows = rows_of(s), q_width = s.heads * s.qk_dim, k_width = s.kv_heads * s.qk_dim,
                       v_width = s.kv_heads * s.v_dim, o_width = s.heads * s.v_dim;
    auto const bf16 = [&](std::int64_t width, Values const& values) {
        return tensor(on, Element::bf16, rows, width, values);
    };
    Tensor const q = bf16(q_width, x.q), k = bf16(k_width, x.k), v = bf16(v_width, x.v), d_o = bf16(o_width, x.d_o);
    Tensor const o = poisoned(on, Element::bf16, rows, o_width),
                 log_sum = poisoned(on, Element::f32, s.heads * s.batch, s.seq);
    on.attention(s, q, k, v, o, log_sum);
    Results out{on.download(o), on.download(log_sum), {}, {}, {}};
    if (!backward) return out;
    Tensor const d_q = poisoned(on, Element::bf16, rows, q_width), d_k = poisoned(on, Element::bf16, rows, k_width),
                 d_v = poisoned(on, Element::bf16, rows, v_width);
    on.attention_backward(s, d_o, q, k, v, o, log_sum, d_q, d_k, d_v);
    out.d_q = on.download(d_q), out.d_k = on.download(d_k), out.d_v = on.download(d_v);
    return out;
}

} // namespace

TEST_CASE("attention is the formula: causal or not, shared heads or not, in blocks or not")
{
    for (bool const causal : {true, false})
        for (AttentionShape const& s : {shape_of(1, 1, 1, 1, 3, 2, causal), shape_of(2, 5, 4, 2, 6, 3, causal),
                                        shape_of(1, 64, 2, 2, 4, 4, causal), shape_of(2, 131, 6, 2, 5, 7, causal)}) {
            Inputs const x = inputs(s);
            Results const expected = by_formula(s, x), out = run(*reference(), s, x, false);
            INFO("causal " << causal << ", sequences of " << s.seq);
            CHECK(distance(out.o, expected.o) < 1e-13);
            CHECK(distance(out.log_sum, expected.log_sum) < 1e-13);
        }
}

TEST_CASE("the backward pass of attention gives the slopes of the forward pass")
{
    for (bool const causal : {true, false})
        for (AttentionShape const& s : {shape_of(1, 3, 2, 2, 3, 2, causal), shape_of(2, 4, 4, 2, 2, 3, causal)}) {
            Inputs const x = inputs(s);
            auto const exact = reference();
            Results const out = run(*exact, s, x, true);
            auto const slope = [&](Values Inputs::*which) {
                return gradient(
                    [&](Values const& values) {
                        Inputs moved = x;
                        moved.*which = values;
                        return dot(run(*exact, s, moved, false).o, x.d_o);
                    },
                    x.*which);
            };
            CHECK(distance(out.d_q, slope(&Inputs::q)) < 1e-6);
            CHECK(distance(out.d_k, slope(&Inputs::k)) < 1e-6);
            CHECK(distance(out.d_v, slope(&Inputs::v)) < 1e-6);
        }
}

TEST_CASE("attention and its gradients agree on every back-end")
{
    for (AttentionShape const& s : {shape_of(2, 128, 4, 4, 192, 128, true), shape_of(1, 200, 4, 2, 64, 64, true),
                                    shape_of(1, 96, 2, 2, 64, 64, false)}) {
        Inputs const x = inputs(s);
        Results const expected = run(*reference(), s, x, true);
        INFO("sequences of " << s.seq << ", widths " << s.qk_dim << " and " << s.v_dim);
        on_every_backend([&](Backend& on) {
            Results const out = run(on, s, x, true);
            CHECK(distance(out.o, expected.o) < 1e-2);
            CHECK(distance(out.log_sum, expected.log_sum) < 1e-4);
            CHECK(distance(out.d_q, expected.d_q) < 1e-2);
            CHECK(distance(out.d_k, expected.d_k) < 1e-2);
            CHECK(distance(out.d_v, expected.d_v) < 1e-2);
        });
    }
}

TEST_CASE("attention reads columns of wider tensors and writes its gradients into such columns", "[sanitize][library]")
{
    AttentionShape const s = shape_of(1, 128, 2, 2, 64, 64, true);
    Inputs const x = inputs(s);
    Results const expected = run(*reference(), s, x, true);
    on_every_backend([&](Backend& on) {
        Inside const q = inside(on, Element::bf16, 128, 128, x.q), k = inside(on, Element::bf16, 128, 128, x.k),
                     v = inside(on, Element::bf16, 128, 128, x.v);
        Tensor const o = poisoned(on, Element::bf16, 128, 128), log_sum = poisoned(on, Element::f32, 2, 128);
        on.attention(s, q.view, k.view, v.view, o, log_sum);
        CHECK(distance(on.download(o), expected.o) < 1e-2);
        Inside const d_q = inside(on, Element::bf16, 128, 128), d_k = inside(on, Element::bf16, 128, 128),
                     d_v = inside(on, Element::bf16, 128, 128);
        on.attention_backward(s, tensor(on, Element::bf16, 128, 128, x.d_o), q.view, k.view, v.view, o, log_sum,
                              d_q.view, d_k.view, d_v.view);
        CHECK(distance(d_q.values(on), expected.d_q) < 1e-2);
        CHECK(distance(d_k.values(on), expected.d_k) < 1e-2);
        CHECK(distance(d_v.values(on), expected.d_v) < 1e-2);
        CHECK(d_q.margins_untouched(on));
        CHECK(d_k.margins_untouched(on));
        CHECK(d_v.margins_untouched(on));
    });
}

TEST_CASE("scores of a thousand do not overflow")
{
    AttentionShape s = shape_of(1, 8, 1, 1, 64, 64, true);
    s.scale = 100;
    Inputs const x = inputs(s);
    Results const expected = run(*reference(), s, x, false);
    on_every_backend([&](Backend& on) { CHECK(distance(run(on, s, x, false).o, expected.o) < 1e-2); });
}

TEST_CASE("tensors that do not fit an attention are an internal error")
{
    auto const on = reference();
    AttentionShape const s = shape_of(1, 8, 4, 2, 16, 16, true);
    auto const attention = [&](AttentionShape const& shape, std::int64_t k_width) {
        auto const bf16 = [&](std::int64_t width) { return on->make(Element::bf16, 8, width); };
        on->attention(shape, bf16(64), bf16(k_width), bf16(32), bf16(64), on->make(Element::f32, 4, 8));
    };
    CHECK_NOTHROW(attention(s, 32));
    CHECK_THROWS_AS(attention(s, 64), InternalError);
    CHECK_THROWS_AS(attention(shape_of(1, 8, 4, 3, 16, 16, true), 48), InternalError);
}

} // namespace trainfare::kernels::test
