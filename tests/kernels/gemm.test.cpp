// SPDX-License-Identifier: Apache-2.0
//
// One matrix product, plain and quantised, against the obvious triple loop.
#include "tests/kernels/products.hpp"

#include "model/error.hpp"

namespace trainfare::kernels::test {

namespace {

struct Inputs {
    Matrix a, b;
};

/// Operands of c[m, n] as they lie in memory.
Inputs inputs(Form form, std::int64_t m, std::int64_t n, std::int64_t depth)
{
    bool const a_down = form == Form::tn, b_across = form == Form::nt;
    return {random_matrix(a_down ? depth : m, a_down ? m : depth, 1),
            random_matrix(b_across ? n : depth, b_across ? depth : n, 2)};
}

Matrix gemm(Backend& on, Element in, Element out, Form form, Inputs const& x, Matrix const* onto = nullptr)
{
    std::int64_t const m = form == Form::tn ? x.a.cols : x.a.rows, n = form == Form::nt ? x.b.rows : x.b.cols;
    Tensor const c = onto != nullptr ? tensor(on, out, *onto) : poisoned(on, out, m, n);
    on.gemm(c, tensor(on, in, x.a), tensor(on, in, x.b), form, onto != nullptr);
    return {m, n, on.download(c)};
}

constexpr Form forms[] = {Form::nt, Form::nn, Form::tn};

} // namespace

TEST_CASE("a product is the sum over the inner dimension, in every form and on every back-end")
{
    for (Form const form : forms)
        for (auto const [m, n, depth] : {std::array{1, 1, 1}, {2, 3, 5}, {64, 48, 80}, {67, 29, 131}}) {
            Inputs const x = inputs(form, m, n, depth);
            Values const expected = product(form, x.a, x.b).values;
            INFO("form " << static_cast<int>(form) << ", " << m << " x " << n << " x " << depth);
            CHECK(distance(gemm(*reference(), Element::bf16, Element::bf16, form, x).values, expected) < 1e-13);
            on_every_backend([&](Backend& on) {
                CHECK(distance(gemm(on, Element::bf16, Element::bf16, form, x).values, expected) < 1e-2);
                CHECK(distance(gemm(on, Element::bf16, Element::f32, form, x).values, expected) < 1e-5);
                CHECK(distance(gemm(on, Element::f32, Element::f32, form, x).values, expected) < 1e-5);
            });
        }
}

TEST_CASE("an accumulating product adds to what is there")
{
    for (Form const form : forms) {
        Inputs const x = inputs(form, 40, 24, 56);
        Matrix const before = random_matrix(40, 24, 3);
        Values const expected = (product(form, x.a, x.b) + before).values;
        CHECK(distance(gemm(*reference(), Element::bf16, Element::f32, form, x, &before).values, expected) < 1e-13);
        on_every_backend([&](Backend& on) {
            CHECK(distance(gemm(on, Element::bf16, Element::f32, form, x, &before).values, expected) < 1e-5);
            CHECK(distance(gemm(on, Element::bf16, Element::bf16, form, x, &before).values, expected) < 1e-2);
        });
    }
}

TEST_CASE("inputs and result of a product may be columns of wider tensors, and nothing beside them is touched")
{
    for (Form const form : forms) {
        Inputs const x = inputs(form, 40, 24, 56);
        Values const expected = product(form, x.a, x.b).values;
        on_every_backend([&](Backend& on) {
            Inside const a = inside(on, Element::bf16, x.a.rows, x.a.cols, x.a.values);
            Inside const b = inside(on, Element::bf16, x.b.rows, x.b.cols, x.b.values);
            Inside const c = inside(on, Element::bf16, 40, 24);
            on.gemm(c.view, a.view, b.view, form, false);
            CHECK(distance(c.values(on), expected) < 1e-2);
            CHECK(c.margins_untouched(on));
        });
    }
}

TEST_CASE("a product without rows does nothing; one without depth is zero, or leaves what it would add to")
{
    on_every_backend([](Backend& on) {
        Tensor const none = on.make(Element::bf16, 0, 8), weights = tensor(on, Element::bf16, random_matrix(16, 8, 1));
        on.gemm(on.make(Element::bf16, 0, 16), none, weights, Form::nt, false);
        Tensor const c = poisoned(on, Element::f32, 8, 8);
        on.gemm(c, none, none, Form::tn, false);
        CHECK(on.download(c) == Values(64, 0.0));
        put(on, c, Values(64, 2.5));
        on.gemm(c, none, none, Form::tn, true);
        CHECK(on.download(c) == Values(64, 2.5));
    });
}

TEST_CASE(
    "quantised operands give the product of the numbers they stand for, and nearly that of the numbers they came from")
{
    using S = Scaling;
    for (auto const& [a_scaling, b_scaling] :
         {std::pair{S::vector128, S::block128}, {S::block128, S::vector128}, {S::vector128, S::vector128}})
        for (auto const [m, n, depth] : {std::array{128, 256, 512}, {48, 80, 144}}) {
            Inputs const x = inputs(Form::nt, m, n, depth);
            Values const unquantised = product(Form::nt, x.a, x.b).values;
            INFO(m << " x " << n << " x " << depth << ", scalings " << static_cast<int>(a_scaling) << ", "
                   << static_cast<int>(b_scaling));
            on_every_backend([&](Backend& on) {
                Operand const a = quantised(on, a_scaling, x.a), b = quantised(on, b_scaling, x.b);
                Values const exact =
                    product(Form::nt, {m, depth, dequantised(on, a)}, {n, depth, dequantised(on, b)}).values;
                for (Element const out : {Element::bf16, Element::f32}) {
                    Tensor const c = poisoned(on, out, m, n);
                    on.gemm(c, a, b, Form::nt, false);
                    CHECK(distance(on.download(c), exact) <
                          (out == Element::f32 ? 4e-3 : 1e-2)); // e4m3 products are not summed in full fp32
                    CHECK(distance(on.download(c), unquantised) < 4e-2);
                }
                Tensor const sum = tensor(on, Element::f32, m, n, exact);
                on.gemm(sum, a, b, Form::nt, true);
                CHECK(distance(on.download(sum), (Matrix{m, n, exact} + Matrix{m, n, exact}).values) < 4e-3);
            });
        }
}

TEST_CASE("blocks that differ a thousandfold keep their own scales")
{
    Matrix a = random_matrix(128, 256, 1);
    for (std::size_t i = 0; i < a.values.size(); ++i)
        if (i % 256 >= 128) a.values[i] = rounded_to_bf16(a.values[i] / 1024);
    Matrix const right{256, 128, Values(256 * 128, 1.0)}; // sums of a row, first half and second half
    Matrix chosen = right.transposed();
    for (std::size_t i = 0; i < chosen.values.size(); ++i) chosen.values[i] = i % 256 >= 128 ? 1.0 : 0.0;
    Values const expected = product(Form::nt, a, chosen).values;
    on_every_backend([&](Backend& on) {
        Tensor const c = poisoned(on, Element::f32, 128, 128);
        on.gemm(c, quantised(on, Scaling::vector128, a), quantised(on, Scaling::block128, chosen), Form::nt, false);
        CHECK(distance(on.download(c), expected) < 4e-2);
    });
}

TEST_CASE("tensors that do not fit together are an internal error that names them")
{
    on_every_backend([](Backend& on) {
        auto const bf16 = [&](std::int64_t rows, std::int64_t cols) { return on.make(Element::bf16, rows, cols); };
        auto const gemm = [&](Tensor const& c, Operand const& a, Operand const& b, Form form) {
            on.gemm(c, a, b, form, false);
        };
        CHECK_THROWS_AS(gemm(bf16(4, 6), bf16(4, 8), bf16(6, 9), Form::nt), InternalError);
        CHECK_THROWS_AS(gemm(bf16(4, 7), bf16(4, 8), bf16(6, 8), Form::nt), InternalError);
        CHECK_THROWS_AS(gemm(bf16(4, 6), bf16(4, 8), on.make(Element::f32, 6, 8), Form::nt), InternalError);
        CHECK_THROWS_AS(gemm(on.make(Element::i32, 4, 6), bf16(4, 8), bf16(6, 8), Form::nt), InternalError);
        Operand const quantised = make_quantised(on, Scaling::vector128, 128, 128);
        CHECK_THROWS_AS(gemm(bf16(128, 128), quantised, quantised, Form::nn), InternalError);
        CHECK_THROWS_AS(gemm(bf16(128, 128), quantised, bf16(128, 128), Form::nt), InternalError);
        try {
            gemm(bf16(4, 6), bf16(4, 8), bf16(6, 9), Form::nt);
        } catch (InternalError const& error) {
            CHECK(std::string{error.what()}.find("gemm nt: bf16 [4, 6] = bf16 [4, 8] x bf16 [6, 9]") == 0);
        }
    });
}

} // namespace trainfare::kernels::test
