// SPDX-License-Identifier: Apache-2.0
#include "kernels/step/linear.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/step/tiny.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

struct Products {
    std::vector<double> y, d_x, d_w;
};

/// Forward and backward of a [128 -> 256] matrix on 128 rows, or of two of [128 -> 256] experts with 100 and 0 rows.
Products products(Precision precision, bool reference, bool experts)
{
    auto c = blocks_config();
    c.precision = precision;
    auto const backend = make_host_backend(reference);
    auto const solo = make_solo_communicator(*backend);
    Context const context{*backend, c, *solo, *solo};
    Parameters parameters{*backend, c, *solo, *solo};
    parameters.next_bucket();
    auto const& w = experts ? parameters.experts("w.*", 2, 0, 256, 128) : parameters.matrix("w", 256, 128);
    Linear linear{context, w};
    parameters.allocate();
    linear.prepare();

    auto const groups = groups_from_counts({100, 0}, 128);
    std::int64_t const rows = experts ? groups.padded_rows() : 128, real = experts ? 100 : rows;
    auto const x = context.bf16(rows, w.cols), y = context.bf16(rows, 256), d_y = context.bf16(rows, 256),
               d_x = context.bf16(rows, w.cols);
    for (auto const& t : {x, y, d_y, d_x}) backend->fill(t, 0);
    backend->normal(x.row_range(0, real), 0, 1, 1);
    backend->normal(d_y.row_range(0, real), 0, 1, 2);
    auto const* const g = experts ? &groups : nullptr;
    auto const in = linear.input(x);
    linear.forward(in, y, false, g);
    linear.backward(linear.output_gradient(d_y), in, d_x, false, g);
    linear.backward(linear.output_gradient(d_y), in, d_x, false, g); // the gradient of the weights adds up
    return {backend->download(y.row_range(0, real)), backend->download(d_x.row_range(0, real)),
            backend->download(w.gradient)};
}

} // namespace

TEST_CASE("all three products of a layer agree between bf16 and fp8, for one matrix and for experts", "[step]")
{
    for (bool const experts : {false, true}) {
        auto const exact = products(Precision::bf16, true, experts);
        auto const check = [&](Products const& p, double bound) {
            CAPTURE(experts, bound);
            CHECK(relative_distance(p.y, exact.y) < bound);
            CHECK(relative_distance(p.d_x, exact.d_x) < bound);
            CHECK(relative_distance(p.d_w, exact.d_w) < bound);
        };
        check(products(Precision::fp8_block, true, experts), 1e-12);
        check(products(Precision::bf16, false, experts), 1e-2);
        check(products(Precision::fp8_block, false, experts), 5e-2); // weight gradients see x rounded twice
    }
}
