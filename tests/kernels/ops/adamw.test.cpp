// SPDX-License-Identifier: Apache-2.0
//
// AdamW: worked steps, agreement of back-ends over several steps, and that the weights are the rounded master.
#include <array>
#include <utility>

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

struct Parameters {
    Tensor step, scale, master, moment1, moment2, weights;

    Parameters(Backend& on, Element moments, Values const& start, double grad_scale)
        : step{tensor(on, 1, 1, {0})}, scale{tensor(on, Element::f32, 1, 1, {grad_scale})}
    {
        auto const n = static_cast<std::int64_t>(start.size());
        master = tensor(on, Element::f32, 1, n, start), weights = poisoned(on, Element::bf16, 1, n);
        moment1 = tensor(on, moments, 1, n, Values(start.size(), 0)),
        moment2 = tensor(on, moments, 1, n, Values(start.size(), 0));
    }

    void update(Backend& on, AdamW const& how, Values const& grad)
    {
        on.increment(step);
        on.adamw(how, step, scale, master, moment1, moment2, tensor(on, Element::f32, 1, master.cols, grad), weights);
    }
};

Values rounded(Values x)
{
    for (double& v : x) v = rounded_to_bf16(v);
    return x;
}

} // namespace

TEST_CASE("the first step goes by the learning rate against the gradient's sign, and decays")
{
    AdamW const how{0.1F, 0.9F, 0.95F, 0, 0.1F};
    on_every_backend([&](Backend& on) {
        Parameters p{on, Element::f32, {1, 1, 2, -1, 0}, 1};
        p.update(on, how, {0.5, -3, 1e-6, 1e6, 1});
        // w - 0.1 (sign(g) + 0.1 w)
        CHECK(distance(on.download(p.master), {0.89, 1.09, 1.88, -1.09, -0.1}) < 1e-6);
        CHECK(on.download(p.weights) == rounded(on.download(p.master)));
        CHECK(on.download(p.moment1)[0] == Approx(0.05));
        CHECK(on.download(p.moment2)[0] == Approx(0.0125));
        CHECK(on.download_ints(p.step) == std::vector<std::int32_t>{1});
    });
}

TEST_CASE("AdamW is alike on every back-end over many steps, for any number of parameters")
{
    AdamW const how{1e-2F, 0.9F, 0.999F, 1e-8F, 0.1F};
    for (std::int64_t n : {1, 3, 4, 257, 5000})
        for (auto moments : {Element::f32, Element::bf16}) {
            CAPTURE(n, moments == Element::bf16);
            auto const run = [&](Backend& on) {
                Parameters p{on, moments, numbers(n, 1), 0.5};
                for (std::uint64_t s = 0; s < 6; ++s) p.update(on, how, numbers(n, 10 + s));
                CHECK(on.download(p.weights) ==
                      (on.name() == "ref" ? on.download(p.master) : rounded(on.download(p.master))));
                return std::array{on.download(p.master), on.download(p.moment1), on.download(p.moment2)};
            };
            auto const expected = run(*reference());
            double const limit = moments == Element::f32 ? 1e-5 : 1e-2;
            on_every_backend([&](Backend& on) {
                auto const out = run(on);
                CHECK(distance(out[0], expected[0]) < limit);
                CHECK(distance(out[1], expected[1]) < limit);
                CHECK(distance(out[2], expected[2]) < limit);
            });
        }
}

TEST_CASE("the scale multiplies the gradient")
{
    AdamW const how{};
    on_every_backend([&](Backend& on) {
        Parameters a{on, Element::f32, numbers(100, 1), 0.25}, b{on, Element::f32, numbers(100, 1), 1};
        auto const grad = numbers(100, 2);
        Values quarter = grad;
        for (double& g : quarter) g *= 0.25;
        a.update(on, how, grad);
        b.update(on, how, quarter);
        CHECK(on.download(a.master) == on.download(b.master));
        CHECK(on.download(a.moment2) == on.download(b.moment2));
    });
}

TEST_CASE("a part of the parameters that begins anywhere is updated as in the whole", "[sanitize]")
{
    AdamW const how{};
    on_every_backend([&](Backend& on) {
        auto const start = numbers(23, 1), grad = numbers(23, 2);
        Parameters whole{on, Element::bf16, start, 1}, parts{on, Element::bf16, start, 1};
        whole.update(on, how, grad);
        on.increment(parts.step);
        Tensor const g = tensor(on, Element::f32, 1, 23, grad);
        for (auto [first, count] : {std::pair{0, 5}, std::pair{5, 0}, std::pair{5, 17}, std::pair{22, 1}}) {
            auto const cut = [first = first, count = count](Tensor const& t) {
                return t.reshaped(23, 1).row_range(first, count);
            };
            on.adamw(how, parts.step, parts.scale, cut(parts.master), cut(parts.moment1), cut(parts.moment2), cut(g),
                     cut(parts.weights));
        }
        CHECK(on.download(parts.master) == on.download(whole.master));
        CHECK(on.download(parts.moment1) == on.download(whole.moment1));
        CHECK(on.download(parts.weights) == on.download(whole.weights));
    });
}

TEST_CASE("AdamW refuses tensors that do not belong together")
{
    on_every_backend([](Backend& on) {
        Parameters p{on, Element::f32, numbers(4, 1), 1};
        Tensor const few = tensor(on, Element::f32, 1, 3, numbers(3, 1));
        CHECK_THROWS_AS(on.adamw({}, p.step, p.scale, p.master, p.moment1, p.moment2, few, p.weights),
                        trainfare::InternalError);
        p.moment2 = on.make(Element::bf16, 1, 4);
        CHECK_THROWS_AS(on.adamw({}, p.step, p.scale, p.master, p.moment1, p.moment2, p.master, p.weights),
                        trainfare::InternalError);
    });
}
