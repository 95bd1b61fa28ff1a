// SPDX-License-Identifier: Apache-2.0
//
// Matrix products, dense and grouped. Sampled entries are recomputed in double from rows and columns read back.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "calibrate/run/tensors.hpp"
#include "model/routing.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

bool quantised(Point const& p)
{
    if (p.op.precision == Precision::fp8_block) return true;
    if (p.op.precision == Precision::bf16) return false;
    throw Unsupported(fmt::format("products in {} (the kernels know bf16 and fp8_block)", name(p.op.precision)));
}

/// Sums over fp8 go in whole blocks of 128: a step pads the dimension (DeepSeek-V3's fused latents: 2112 -> 2176).
std::int64_t padded(std::int64_t k, bool fp8) { return fp8 ? (k + 127) / 128 * 128 : k; }

struct Operands {
    Operand a, b;
    Form form = Form::nt;
};

/// Entry (i, j) of one product; rows of a and b from @p a0 and @p b0 (groups).
double entry(Backend& on, Operands const& x, std::int64_t i, std::int64_t j, std::int64_t a0, std::int64_t a_rows,
             std::int64_t b0, std::int64_t b_rows)
{
    switch (x.form) {
    case Form::nt: return dot(row_of(on, x.a, a0 + i), row_of(on, x.b, b0 + j));
    case Form::nn: return dot(row_of(on, x.a, a0 + i), column_of(on, x.b.values.row_range(b0, b_rows), j));
    case Form::tn:
        return dot(column_of(on, x.a.values.row_range(a0, a_rows), i),
                   column_of(on, x.b.values.row_range(b0, b_rows), j));
    }
    return 0;
}

/// Rows of each expert: mean @p rows, spread by @p load_cv, the sum as without spread.
std::vector<std::int32_t> loads(int groups, std::int64_t rows, double load_cv)
{
    Experts experts;
    experts.count = groups, experts.top_k = 1;
    auto const relative = rank_loads(experts, groups, load_cv);
    std::vector<std::int32_t> out;
    std::int64_t left = rows * groups;
    for (double const load : relative) {
        auto const n = std::min<std::int64_t>(left, std::llround(load * static_cast<double>(rows)));
        out.push_back(static_cast<std::int32_t>(n));
        left -= n;
    }
    out.front() += static_cast<std::int32_t>(left);
    return out;
}

} // namespace

Instance product(Maker& make, Point const& p)
{
    bool const fp8 = quantised(p), weights = p.op.pass == Pass::wgrad;
    std::int64_t const m = p.op.m, n = p.op.n, k = padded(p.op.k, fp8);
    Operands x;
    if (weights && fp8) {
        x = {make.activations(k, m, true), make.activations(k, n, true), Form::nt};
    } else if (weights) {
        x = {make.bf16(k, m), make.bf16(k, n), Form::tn};
    } else if (fp8) {
        x = {make.activations(m, k), make.weights(1, n, k), Form::nt};
    } else if (p.op.pass == Pass::dgrad) {
        x = {make.bf16(m, k), make.normal(Element::bf16, k, n, 0.02F), Form::nn};
    } else {
        x = {make.bf16(m, k), make.normal(Element::bf16, n, k, 0.02F), Form::nt};
    }
    bool const wide = weights || (p.op.kind == OpKind::router && p.op.pass == Pass::forward);
    auto const c = make.zeros(wide ? Element::f32 : Element::bf16, m, n);
    auto& on = make.backend;
    Instance out;
    out.run = [=, &on] { on.gemm(c, x.a, x.b, x.form, weights); };
    out.check = [=, &on] {
        on.gemm(c, x.a, x.b, x.form, weights);
        Difference d;
        for (int s = 0; s < 64; ++s) {
            auto const i = pick(1, s / 8, m), j = pick(2, s % 8, n);
            d.add(on.download(c.row_range(i, 1).column_range(j, 1)).front(), entry(on, x, i, j, 0, k, 0, k));
        }
        return d.error();
    };
    out.moved = p.op.bytes.value();
    out.held = make.held();
    return out;
}

Instance grouped_product(Maker& make, Point const& p)
{
    bool const fp8 = quantised(p), weights = p.op.pass == Pass::wgrad;
    int const count = p.op.groups;
    auto const groups = groups_from_counts(loads(count, weights ? p.op.k : p.op.m, p.load_cv), fp8 ? 128 : 16);
    std::int64_t const rows = groups.padded_rows(), m = p.op.m, n = p.op.n, k = p.op.k;
    auto& on = make.backend;
    // Padding rows are zero. Random rows are made first and the padding cleared, then quantised.
    auto const padded_rows = [&](std::int64_t width) {
        auto t = make.bf16(rows, width);
        for (std::size_t g = 0; g < groups.count(); ++g) {
            auto const end = groups.starts[g] + groups.rows[g];
            if (end < groups.starts[g + 1]) on.fill(t.row_range(end, groups.starts[g + 1] - end), 0);
        }
        return t;
    };
    auto const activations = [&](std::int64_t width) -> Operand {
        auto const t = padded_rows(width);
        if (!fp8) return t;
        auto row = make.empty_quantised(Scaling::vector128, rows, width);
        Operand turned;
        if (weights) turned = make.empty_quantised(Scaling::vector128, width, rows);
        on.quantise(t, row, turned);
        return weights ? turned : row;
    };
    Operands x;
    Tensor c;
    if (weights) {
        x = {activations(m), activations(n), Form::tn};
        c = make.zeros(Element::f32, count * m, n);
    } else if (fp8) {
        x = {activations(k), make.weights(count, n, k), Form::nt};
        c = make.zeros(Element::bf16, rows, n);
    } else if (p.op.pass == Pass::dgrad) {
        x = {activations(k), make.normal(Element::bf16, count * k, n, 0.02F), Form::nn};
        c = make.zeros(Element::bf16, rows, n);
    } else {
        x = {activations(k), make.normal(Element::bf16, count * n, k, 0.02F), Form::nt};
        c = make.zeros(Element::bf16, rows, n);
    }
    Instance out;
    out.run = [=, &on] { on.grouped_gemm(c, x.a, x.b, x.form, groups, weights); };
    out.check = [=, &on] {
        on.grouped_gemm(c, x.a, x.b, x.form, groups, weights);
        Difference d;
        for (int s = 0; s < 32; ++s) {
            auto const g = s / 8 % count; // up to four groups
            auto const at = static_cast<std::size_t>(g);
            auto const first = groups.starts[at], its = groups.rows[at];
            if (its == 0) continue;
            auto const i = pick(1, s / 4, weights ? m : its), j = pick(2, s % 4, n);
            double expected = 0;
            if (!weights)
                expected = entry(on, x, i, j, first, its, x.form == Form::nn ? g * k : g * n, k);
            else if (!fp8)
                expected = entry(on, x, i, j, first, its, first, its);
            else // already transposed: rows of the group are columns
                for (auto [a, b, r] = std::tuple{row_of(on, x.a, i), row_of(on, x.b, j), std::int64_t{0}}; r < its; ++r)
                    expected += a[static_cast<std::size_t>(first + r)] * b[static_cast<std::size_t>(first + r)];
            auto const row = weights ? g * m + i : first + i;
            d.add(on.download(c.row_range(row, 1).column_range(j, 1)).front(), expected);
        }
        return d.error();
    };
    out.moved = p.op.bytes.value();
    out.held = make.held();
    return out;
}

} // namespace trainfare::measure
