// SPDX-License-Identifier: Apache-2.0
//
// One interface over four ways to multiply: bf16 or fp8, one matrix or one per expert.
#include "kernels/step/linear.hpp"

namespace trainfare::kernels {
namespace {

/// Rows of block128 weights; their scales are one row per 128.
Operand block_rows(Operand const& w, std::int64_t first, std::int64_t count)
{
    return {w.values.row_range(first, count), w.scales.row_range(first / 128, (count + 127) / 128), w.scaling};
}

} // namespace

void Linear::prepare()
{
    if (!fp8()) return;
    auto const n = parameter_.rows_each(), k = parameter_.cols;
    auto const groups = parameter_.rows / n;
    if (blocks_.values.empty()) {
        blocks_ = make_quantised(context_.backend, Scaling::block128, groups * n, k);
        blocks_transposed_ = make_quantised(context_.backend, Scaling::block128, groups * k, n);
    }
    for (std::int64_t g = 0; g < groups; ++g)
        context_.backend.quantise_blocks(parameter_.weight.row_range(g * n, n), block_rows(blocks_, g * n, n),
                                         block_rows(blocks_transposed_, g * k, k));
}

Operand Linear::input(Tensor const& x) const
{
    if (!fp8()) return x;
    auto q = context_.quantised(x.rows, x.cols);
    context_.backend.quantise(x, q, {});
    return q;
}

OutputGradient Linear::output_gradient(Tensor const& d_y) const
{
    if (!fp8()) return {d_y, {}};
    OutputGradient g{context_.quantised(d_y.rows, d_y.cols), context_.quantised(d_y.cols, d_y.rows)};
    context_.backend.quantise(d_y, g.row, g.transposed);
    return g;
}

OutputGradient Linear::output_gradient(Operand const& d_y) const
{
    if (d_y.scaling == Scaling::none) return output_gradient(d_y.values);
    return {d_y, transposed(d_y)};
}

Operand Linear::transposed(Operand const& x) const
{
    auto t = context_.quantised(x.values.cols, x.values.rows);
    context_.backend.transpose_quantised(x, t);
    return t;
}

void Linear::product(Tensor const& c, Operand const& a, Operand const& b, Form form, bool accumulate,
                     Groups const* groups) const
{
    if (groups)
        context_.backend.grouped_gemm(c, a, b, form, *groups, accumulate);
    else
        context_.backend.gemm(c, a, b, form, accumulate);
}

void Linear::forward(Operand const& x, Tensor const& y, bool accumulate, Groups const* groups) const
{
    product(y, x, fp8() ? blocks_ : Operand{parameter_.weight}, Form::nt, accumulate, groups);
}

void Linear::backward(OutputGradient const& d_y, Operand const& x, Tensor const& d_x, bool accumulate,
                      Groups const* groups) const
{
    if (!fp8()) {
        product(d_x, d_y.row, parameter_.weight, Form::nn, accumulate, groups);
        product(parameter_.gradient, d_y.row, x, Form::tn, true, groups);
        return;
    }
    // Hopper sums fp8 along rows only: the transposed weights stand for nn, transposed activations for tn.
    product(d_x, d_y.row, blocks_transposed_, Form::nt, accumulate, groups);
    product(parameter_.gradient, d_y.transposed, transposed(x), groups ? Form::tn : Form::nt, true, groups);
}

} // namespace trainfare::kernels
