// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/tensors.hpp"

#include <cmath>
#include <limits>
#include <numeric>

namespace trainfare::measure {

using namespace kernels;

namespace {

/// As on a GPU, whatever this back-end stores.
double bytes_of(Element e, std::int64_t rows, std::int64_t cols)
{
    double const each = e == Element::e4m3 ? 1 : e == Element::bf16 ? 2 : 4;
    return each * static_cast<double>(rows) * static_cast<double>(cols);
}

} // namespace

Tensor Maker::empty(Element e, std::int64_t rows, std::int64_t cols)
{
    held_ += bytes_of(e, rows, cols);
    ++seed_; // also of those that are not filled, so that numbering does not depend on the contents
    return backend.make(e, rows, cols);
}

Tensor Maker::zeros(Element e, std::int64_t rows, std::int64_t cols)
{
    auto t = empty(e, rows, cols);
    backend.fill(t, 0);
    return t;
}

Tensor Maker::normal(Element e, std::int64_t rows, std::int64_t cols, float deviation)
{
    auto t = empty(e, rows, cols);
    backend.normal(t, 0, deviation, seed_);
    return t;
}

Tensor Maker::integers(std::vector<std::int32_t> const& values)
{
    auto t = empty(Element::i32, 1, std::ssize(values));
    backend.upload(t, std::span<std::int32_t const>{values});
    return t;
}

Operand Maker::empty_quantised(Scaling scaling, std::int64_t rows, std::int64_t cols)
{
    ++seed_;
    auto q = make_quantised(backend, scaling, rows, cols);
    held_ += bytes_of(Element::e4m3, rows, cols) + bytes_of(Element::f32, q.scales.rows, q.scales.cols);
    return q;
}

Operand Maker::activations(std::int64_t rows, std::int64_t cols, bool transposed)
{
    double const before = held_;
    auto const x = normal(Element::bf16, rows, cols);
    auto row = empty_quantised(Scaling::vector128, rows, cols);
    double const first = held_;
    Operand turned;
    if (transposed) turned = empty_quantised(Scaling::vector128, cols, rows);
    backend.quantise(x, row, turned);
    held_ = transposed ? before + held_ - first : before + first - before - bytes_of(Element::bf16, rows, cols);
    return transposed ? turned : row;
}

Operand Maker::weights(int groups, std::int64_t n, std::int64_t k, bool transposed)
{
    double const before = held_;
    auto const w = normal(Element::bf16, groups * n, k, 0.02F);
    auto const blocks = empty_quantised(Scaling::block128, groups * n, k);
    auto const turned = empty_quantised(Scaling::block128, groups * k, n);
    auto const part = [](Operand const& x, std::int64_t first, std::int64_t count) {
        return Operand{x.values.row_range(first, count), x.scales.row_range(first / 128, (count + 127) / 128),
                       x.scaling};
    };
    for (std::int64_t g = 0; g < groups; ++g) // a block of scales never spans two experts
        backend.quantise_blocks(w.row_range(g * n, n), part(blocks, g * n, n), part(turned, g * k, k));
    held_ = before + bytes_of(Element::e4m3, groups * n, k);
    return transposed ? turned : blocks;
}

std::int64_t pick(std::uint64_t seed, std::int64_t i, std::int64_t end)
{
    std::uint64_t z =
        seed * 0xd1342543de82ef95U + (static_cast<std::uint64_t>(i) + 1) * 0x9e3779b97f4a7c15U; // splitmix64
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return static_cast<std::int64_t>((z ^ (z >> 31U)) % static_cast<std::uint64_t>(end));
}

std::vector<double> row_of(Backend& on, Operand const& x, std::int64_t row)
{
    auto values = on.download(x.values.row_range(row, 1));
    if (x.scaling == Scaling::none) return values;
    auto const scales =
        on.download(x.scaling == Scaling::vector128 ? x.scales.column_range(row, 1) : x.scales.row_range(row / 128, 1));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= scales[i / 128];
    return values;
}

std::vector<double> column_of(Backend& on, Tensor const& x, std::int64_t column)
{
    return on.download(x.column_range(column, 1));
}

std::vector<double> corner(Backend& on, Operand const& x, std::int64_t rows, std::int64_t cols)
{
    auto values = on.download(x.values.row_range(0, rows).column_range(0, cols));
    if (x.scaling == Scaling::none) return values;
    auto const down = (rows + 127) / 128, across = (cols + 127) / 128;
    bool const vectors = x.scaling == Scaling::vector128;
    auto const scales = on.download(vectors ? x.scales.row_range(0, across).column_range(0, rows)
                                            : x.scales.row_range(0, down).column_range(0, across));
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c)
            values[static_cast<std::size_t>(r * cols + c)] *=
                scales[static_cast<std::size_t>(vectors ? c / 128 * rows + r : r / 128 * across + c / 128)];
    return values;
}

void Difference::add(double out, double expected)
{
    any_ = true;
    finite_ = finite_ && std::isfinite(out) && std::isfinite(expected);
    difference_ += (out - expected) * (out - expected), size_ += expected * expected;
}

void Difference::add(std::vector<double> const& out, std::vector<double> const& expected)
{
    if (out.size() != expected.size()) finite_ = false;
    for (std::size_t i = 0; finite_ && i < out.size(); ++i) add(out[i], expected[i]);
}

double Difference::error() const
{
    if (!finite_ || !any_) return std::numeric_limits<double>::infinity();
    return std::sqrt(size_ > 0 ? difference_ / size_ : difference_);
}

double dot(std::vector<double> const& a, std::vector<double> const& b)
{
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

} // namespace trainfare::measure
