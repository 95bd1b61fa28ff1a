// SPDX-License-Identifier: Apache-2.0
//
// Products the slow and obvious way, for the tests of gemm and grouped_gemm.
#pragma once

#include "tests/kernels/backends.hpp"

namespace trainfare::kernels::test {

/// Numbers of a matrix, row by row.
struct Matrix {
    std::int64_t rows = 0, cols = 0;
    Values values;

    [[nodiscard]] double at(std::int64_t r, std::int64_t c) const
    {
        return values.at(static_cast<std::size_t>(r * cols + c));
    }
    [[nodiscard]] Matrix transposed() const
    {
        Matrix out{cols, rows, {}};
        for (std::int64_t c = 0; c < cols; ++c)
            for (std::int64_t r = 0; r < rows; ++r) out.values.push_back(at(r, c));
        return out;
    }
    [[nodiscard]] Matrix row_range(std::int64_t first, std::int64_t count) const
    {
        return {count, cols, Values(values.begin() + first * cols, values.begin() + (first + count) * cols)};
    }
};

inline Matrix random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed)
{
    return {rows, cols, numbers(rows * cols, seed)};
}

inline Matrix operator*(Matrix const& a, Matrix const& b)
{
    Matrix out{a.rows, b.cols, Values(static_cast<std::size_t>(a.rows * b.cols))};
    for (std::int64_t i = 0; i < a.rows; ++i)
        for (std::int64_t p = 0; p < a.cols; ++p)
            for (std::int64_t j = 0; j < b.cols; ++j)
                out.values[static_cast<std::size_t>(i * b.cols + j)] += a.at(i, p) * b.at(p, j);
    return out;
}

inline Matrix operator+(Matrix a, Matrix const& b)
{
    for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values.at(i);
    return a;
}

/// a b for operands as they lie in memory in that form.
inline Matrix product(Form form, Matrix const& a, Matrix const& b)
{
    return (form == Form::tn ? a.transposed() : a) * (form == Form::nt ? b.transposed() : b);
}

inline Tensor tensor(Backend& on, Element element, Matrix const& m)
{
    return tensor(on, element, m.rows, m.cols, m.values);
}

/// bf16 numbers quantised as asked.
inline Operand quantised(Backend& on, Scaling scaling, Matrix const& m)
{
    Tensor const plain = tensor(on, Element::bf16, m);
    Operand const out = make_quantised(on, scaling, m.rows, m.cols);
    if (scaling == Scaling::vector128)
        on.quantise(plain, out, {});
    else
        on.quantise_blocks(plain, out, {});
    return out;
}

/// How far a result may be from exact arithmetic on the same inputs.
inline double tolerance(Element result) { return result == Element::f32 ? 1e-5 : 1e-2; }

} // namespace trainfare::kernels::test
