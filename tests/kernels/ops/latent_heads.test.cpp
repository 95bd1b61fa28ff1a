// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

struct Forward {
    Values q, k, v;
};

struct Backward {
    Values d_q, d_kv, d_k_rope;
};

struct Inputs {
    int rows = 0;
    LatentHeads h;
    Values q, kv, k_rope, dq, dk, dv;

    Inputs(int t, LatentHeads const& heads) : rows{t}, h{heads}
    {
        auto const n = [&](int cols, std::uint64_t seed) { return numbers(rows * cols, seed); };
        q = n(h.heads * (h.nope + h.rope), 1), kv = n(h.heads * (h.nope + h.v), 2), k_rope = n(h.rope, 3);
        dq = n(h.heads * (h.nope + h.rope), 4), dk = n(h.heads * (h.nope + h.rope), 5), dv = n(h.heads * h.v, 6);
    }
};

LatentHeads layout(int seq, int heads, int nope, int rope, int v)
{
    LatentHeads h;
    h.seq = seq, h.heads = heads, h.nope = nope, h.rope = rope, h.v = v;
    return h;
}

Forward forward(Backend& on, Inputs const& in)
{
    auto const& h = in.h;
    Tensor const q = tensor(on, Element::bf16, in.rows, h.heads * (h.nope + h.rope), in.q);
    Tensor const kv = tensor(on, Element::bf16, in.rows, h.heads * (h.nope + h.v), in.kv);
    Inside const shared = inside(on, Element::bf16, in.rows, h.rope, in.k_rope);
    Tensor const k = poisoned(on, Element::bf16, q.rows, q.cols),
                 v = poisoned(on, Element::bf16, in.rows, h.heads * h.v);
    on.latent_heads(h, q, kv, shared.view, k, v);
    return {on.download(q), on.download(k), on.download(v)};
}

Backward backward(Backend& on, Inputs const& in)
{
    auto const& h = in.h;
    Tensor const dq = tensor(on, Element::bf16, in.rows, h.heads * (h.nope + h.rope), in.dq);
    Tensor const dk = tensor(on, Element::bf16, in.rows, h.heads * (h.nope + h.rope), in.dk);
    Tensor const dv = tensor(on, Element::bf16, in.rows, h.heads * h.v, in.dv);
    Tensor const dkv = poisoned(on, Element::bf16, in.rows, h.heads * (h.nope + h.v));
    Inside const shared = inside(on, Element::bf16, in.rows, h.rope);
    on.latent_heads_backward(h, dq, dk, dv, dkv, shared.view);
    CHECK(shared.margins_untouched(on));
    return {on.download(dq), on.download(dkv), shared.values(on)};
}

/// As DeepSeek-V3's in small, more heads than a block takes at once, and two that fit no 16-byte access.
Inputs const cases[] = {{10, layout(5, 4, 16, 16, 8)},
                        {3, layout(3, 33, 8, 32, 16)},
                        {3, layout(3, 70, 128, 64, 128)},
                        {7, layout(4, 3, 5, 6, 3)},
                        {2, layout(2, 2, 0, 256, 1)}};

} // namespace

TEST_CASE("each head's key is its own part, then the shared part rotated; its value is the rest of kv")
{
    Inputs const in(2, layout(2, 2, 1, 2, 1));
    auto const out = forward(*reference(), in);
    CHECK(out.k[0] == in.kv[0]);     // row 0, head 0: [nope | rope rope]
    CHECK(out.k[1] == in.k_rope[0]); // position 0 does not turn
    CHECK(out.k[3] == in.kv[2]);     // head 1
    CHECK(out.k[5] == in.k_rope[1]);
    CHECK(out.v[1] == in.kv[3]);
    CHECK(out.k[7] == Approx(in.k_rope[2] * 0.540302 - in.k_rope[3] * 0.841471).epsilon(1e-5)); // row 1
    CHECK(out.k[10] == out.k[7]);                                                               // the same for head 1
    CHECK(out.q[7] == Approx(in.q[7] * 0.540302 - in.q[8] * 0.841471).epsilon(1e-5));
    CHECK(out.q[6] == in.q[6]);
}

TEST_CASE("latent_heads agrees with the double reference on every back-end", "[sanitize]")
{
    for (Inputs const& in : cases) {
        auto const expected = forward(*reference(), in);
        INFO(in.h.heads << " heads of " << in.h.nope << " + " << in.h.rope << ", " << in.h.v);
        on_every_backend([&](Backend& on) {
            auto const out = forward(on, in);
            CHECK(distance(out.q, expected.q) < 5e-3);
            CHECK(distance(out.k, expected.k) < 5e-3);
            CHECK(out.v == expected.v); // only moved
        });
    }
}

TEST_CASE("the gradients of latent_heads are the slopes of its outputs")
{
    Inputs const in(4, layout(4, 3, 2, 4, 3));
    auto const on = reference();
    auto const out = backward(*on, in);
    auto const slopes = [&](Values Inputs::*input) {
        auto const f = [&](Values const& at) {
            Inputs moved = in;
            moved.*input = at;
            auto const y = forward(*on, moved);
            return dot(y.q, in.dq) + dot(y.k, in.dk) + dot(y.v, in.dv);
        };
        return gradient(f, in.*input);
    };
    CHECK(distance(out.d_q, slopes(&Inputs::q)) < 1e-6);
    CHECK(distance(out.d_kv, slopes(&Inputs::kv)) < 1e-6);
    CHECK(distance(out.d_k_rope, slopes(&Inputs::k_rope)) < 1e-6);
}

TEST_CASE("latent_heads_backward agrees with the double reference on every back-end, with the same bits each time",
          "[sanitize]")
{
    for (Inputs const& in : cases) {
        auto const expected = backward(*reference(), in);
        INFO(in.h.heads << " heads of " << in.h.nope << " + " << in.h.rope << ", " << in.h.v);
        on_every_backend([&](Backend& on) {
            auto const out = backward(on, in), again = backward(on, in);
            CHECK(distance(out.d_q, expected.d_q) < 5e-3);
            CHECK(out.d_kv == expected.d_kv); // only moved
            CHECK(distance(out.d_k_rope, expected.d_k_rope) < 5e-3);
            CHECK(again.d_k_rope == out.d_k_rope);
        });
    }
}

TEST_CASE("latent_heads does nothing to no rows and refuses shapes that do not fit")
{
    on_every_backend([](Backend& on) {
        auto const h = layout(4, 2, 8, 16, 8);
        auto const make = [&](int rows, int cols) { return on.make(Element::bf16, rows, cols); };
        on.latent_heads(h, make(0, 48), make(0, 32), make(0, 16), make(0, 48), make(0, 16));
        on.latent_heads_backward(h, make(0, 48), make(0, 48), make(0, 16), make(0, 32), make(0, 16));
        CHECK_THROWS_AS(on.latent_heads(h, make(4, 48), make(4, 32), make(4, 8), make(4, 48), make(4, 16)),
                        InternalError);
        CHECK_THROWS_AS(on.latent_heads(h, make(4, 48), make(4, 32), make(3, 16), make(4, 48), make(4, 16)),
                        InternalError);
        CHECK_THROWS_AS(on.latent_heads_backward(h, make(4, 48), make(4, 32), make(4, 16), make(4, 32), make(4, 16)),
                        InternalError);
    });
}
