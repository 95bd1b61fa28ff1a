// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the host back-ends. Quantised inputs are first turned into the numbers they stand for.
#include "kernels/host/backend.hpp"
#include "kernels/host/matrix.hpp"
#include "kernels/product.hpp"

namespace trainfare::kernels {

namespace {

using host::View;

/// An operand as plain numbers: its own memory, or a copy where it is quantised.
template <class Real>
class Plain {
public:
    explicit Plain(Operand const& x) : view_{reals<Real>(x.values), x.values.pitch, 1}
    {
        if (x.scaling == Scaling::none) return;
        std::int64_t const rows = x.values.rows, cols = x.values.cols;
        copy_.resize(static_cast<std::size_t>(rows * cols));
        Real const* const scales = reals<Real>(x.scales);
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < cols; ++c) {
                std::int64_t const scale =
                    x.scaling == Scaling::vector128 ? c / 128 * x.scales.pitch + r : r / 128 * x.scales.pitch + c / 128;
                copy_[static_cast<std::size_t>(r * cols + c)] = view_.data[r * view_.row + c] * scales[scale];
            }
        view_ = {copy_.data(), cols, 1};
    }

    /// From row @p row and column @p col on.
    [[nodiscard]] View<Real> from(std::int64_t row, std::int64_t col) const
    {
        return {view_.data + row * view_.row + col, view_.row, view_.col};
    }

private:
    View<Real> view_;
    std::vector<Real> copy_;
};

template <class Real>
void product(Tensor const& c, View<Real> a, View<Real> b, std::int64_t depth, bool accumulate)
{
    host::multiply(a, b, c.rows, c.cols, depth, reals<Real>(c), c.pitch,
                   [&](Real& out, Real sum) { out = stored(c.element, accumulate ? out + sum : sum); });
}

} // namespace

template <class Real>
void HostBackend<Real>::gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, bool accumulate)
{
    ProductSize const size = product_size(c, a, b, form);
    Plain<Real> const left{a}, right{b};
    View<Real> const x = left.from(0, 0), y = right.from(0, 0);
    product(c, form == Form::tn ? x.transposed() : x, form == Form::nt ? y.transposed() : y, size.depth, accumulate);
}

template <class Real>
void HostBackend<Real>::grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, Form form,
                                     Groups const& groups, bool accumulate)
{
    ProductSize const size = grouped_size(c, a, b, form, groups);
    Plain<Real> const left{a}, right{b};
    bool const quantised = a.scaling != Scaling::none;
    for (GroupRows const g : padded_groups(groups)) {
        Tensor const rows = c.row_range(g.first, g.count);
        if (form == Form::nt)
            product(rows, left.from(g.first, 0), right.from(g.index * size.n, 0).transposed(), size.depth, accumulate);
        else if (form == Form::nn)
            product(rows, left.from(g.first, 0), right.from(g.index * size.depth, 0), size.depth, accumulate);
        else {
            View<Real> const x = quantised ? left.from(0, g.first) : left.from(g.first, 0).transposed();
            View<Real> const y = quantised ? right.from(0, g.first).transposed() : right.from(g.first, 0);
            product(c.row_range(g.index * size.m, size.m), x, y, g.count, accumulate);
        }
    }
}

template void HostBackend<float>::gemm(Tensor const&, Operand const&, Operand const&, Form, bool);
template void HostBackend<double>::gemm(Tensor const&, Operand const&, Operand const&, Form, bool);
template void HostBackend<float>::grouped_gemm(Tensor const&, Operand const&, Operand const&, Form, Groups const&,
                                               bool);
template void HostBackend<double>::grouped_gemm(Tensor const&, Operand const&, Operand const&, Form, Groups const&,
                                                bool);

} // namespace trainfare::kernels
