// SPDX-License-Identifier: Apache-2.0
//
// Private to subjects*.cpp: tensors with reproducible random contents, counted; and comparing what came out.
#pragma once

#include <cstdint>
#include <vector>

#include "calibrate/run/subjects.hpp"
#include "kernels/backend.hpp"

namespace trainfare::measure {

/// Makes the tensors of one instance. Contents are normal numbers, never zeros: power, and with it the clock, depends
/// on them. The n-th tensor made has the same contents on every back-end, row for row, also when it has fewer rows.
class Maker {
public:
    Maker(kernels::Backend& on, std::uint64_t seed) : backend{on}, seed_{seed * 1000} {}

    kernels::Tensor empty(kernels::Element, std::int64_t rows, std::int64_t cols);
    kernels::Tensor zeros(kernels::Element, std::int64_t rows, std::int64_t cols);
    kernels::Tensor normal(kernels::Element, std::int64_t rows, std::int64_t cols, float deviation = 1);
    kernels::Tensor integers(std::vector<std::int32_t> const&); // [1, n]
    kernels::Tensor bf16(std::int64_t rows, std::int64_t cols) { return normal(kernels::Element::bf16, rows, cols); }

    kernels::Operand empty_quantised(kernels::Scaling, std::int64_t rows, std::int64_t cols);
    /// vector128 of random [rows, cols]; transposed: [cols, rows] instead.
    kernels::Operand activations(std::int64_t rows, std::int64_t cols, bool transposed = false);
    /// block128 of @p groups random matrices [n, k], one under another; transposed: [k, n] each.
    kernels::Operand weights(int groups, std::int64_t n, std::int64_t k, bool transposed = false);

    [[nodiscard]] double held() const { return held_; }

    kernels::Backend& backend;

private:
    double held_ = 0;
    std::uint64_t seed_;
};

/// A number in [0, end) that depends on (seed, i) alone.
std::int64_t pick(std::uint64_t seed, std::int64_t i, std::int64_t end);

/// Row or column of an operand as the numbers it stands for.
std::vector<double> row_of(kernels::Backend&, kernels::Operand const&, std::int64_t row);
std::vector<double> column_of(kernels::Backend&, kernels::Tensor const&, std::int64_t column);
/// The upper left corner, row by row.
std::vector<double> corner(kernels::Backend&, kernels::Operand const&, std::int64_t rows, std::int64_t cols);

/// Differences and sizes, summed: error() is ||out - expected|| / ||expected||, infinite once anything was not finite.
class Difference {
public:
    void add(double out, double expected);
    void add(std::vector<double> const& out, std::vector<double> const& expected);
    [[nodiscard]] double error() const;

private:
    double difference_ = 0, size_ = 0;
    bool finite_ = true, any_ = false;
};

double dot(std::vector<double> const&, std::vector<double> const&);

// One function for each kind of point; make_subject() calls them as often as it needs buffers.
Instance product(Maker&, Point const&);
Instance grouped_product(Maker&, Point const&);
Instance attention(Maker&, Point const&);
Instance rows_by_rank(Maker&, Point const&); // gather, combine, embedding
Instance gating(Maker&, Point const&);
Instance ceiling(Maker&, Point const&);

/// Operations whose first rows depend on the first rows of their inputs alone: the same is run on the host back-end
/// with few rows.
struct RowWise {
    std::function<void()> run;
    double moved = 0;
    struct Output {
        kernels::Operand tensor;
        bool transposed = false; // rows of the input are columns here
    };
    std::vector<Output> outputs;
};
/// Empty function where the method is not one of these.
RowWise row_wise(Maker&, Point const&, std::int64_t rows);

} // namespace trainfare::measure
