// SPDX-License-Identifier: Apache-2.0
//
// A matrix in a back-end's memory. The host code of the step never looks inside: it makes views and hands them to a Backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace trainfare::kernels {

/// What an element means on a GPU. Back-end `cpu` stores bf16 and e4m3 as floats rounded to that grid, `ref` as doubles, unrounded.
enum class Element : std::uint8_t { f32, bf16, e4m3, i32 };

/// Row-major matrix; a vector has one row. Copies share the memory. Rows of a column range are `pitch` elements apart; an
/// operation takes such a view only where Backend says "may be a column range".
struct Tensor {
    Element element = Element::f32;
    std::int64_t rows = 0, cols = 0;
    std::int64_t pitch = 0;     // elements from one row to the next; cols where rows are contiguous
    std::size_t bytes_each = 0; // of one element as this back-end stores it
    void* data = nullptr;
    std::shared_ptr<void> owner;

    [[nodiscard]] bool empty() const { return data == nullptr; }
    [[nodiscard]] std::int64_t size() const { return rows * cols; }
    [[nodiscard]] bool contiguous() const { return pitch == cols; }

    /// Rows [first, first + count).
    [[nodiscard]] Tensor row_range(std::int64_t first, std::int64_t count) const { return part(first * pitch, count, cols); }
    /// Columns [first, first + count) of every row.
    [[nodiscard]] Tensor column_range(std::int64_t first, std::int64_t count) const { return part(first, rows, count); }
    /// The same elements in another shape; the tensor must be contiguous.
    [[nodiscard]] Tensor reshaped(std::int64_t new_rows, std::int64_t new_cols) const
    {
        Tensor t = *this;
        t.rows = new_rows, t.cols = t.pitch = new_cols;
        return t;
    }

private:
    [[nodiscard]] Tensor part(std::int64_t offset, std::int64_t new_rows, std::int64_t new_cols) const
    {
        Tensor t = *this;
        t.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(offset) * bytes_each;
        t.rows = new_rows, t.cols = new_cols;
        return t;
    }
};

/// How the values of a matrix product's input are scaled: value x scale is the number meant.
/// vector128: one fp32 scale per row and 128 consecutive columns. block128: one per 128 x 128. (DeepSeek-V3,
/// arXiv:2412.19437 s3.3.2.)
enum class Scaling : std::uint8_t { none, vector128, block128 };

/// An input of a matrix product. Quantised inputs are stored with the summed dimension along the columns ("TN only" on Hopper).
/// Layout of scales, the one cuBLASLt asks for: vector128 [ceil(cols/128), rows]; block128 [ceil(rows/128), round4(ceil(cols/128))].
struct Operand {
    Tensor values;
    Tensor scales;
    Scaling scaling = Scaling::none;

    Operand() = default;
    Operand(Tensor plain) : values{std::move(plain)} {} // NOLINT: a plain tensor is an operand
    Operand(Tensor v, Tensor s, Scaling how) : values{std::move(v)}, scales{std::move(s)}, scaling{how} {}
};

/// Rows of a matrix that belong to each of several experts: expert g owns rows [starts[g], starts[g] + rows[g]), the rest up to
/// starts[g + 1] is padding (zeros), so that a scale block of 128 rows never spans two experts.
struct Groups {
    std::vector<std::int64_t> rows;   // one per expert; may be 0
    std::vector<std::int64_t> starts; // one more than rows; multiples of the alignment

    [[nodiscard]] std::size_t count() const { return rows.size(); }
    [[nodiscard]] std::int64_t padded_rows() const { return starts.empty() ? 0 : starts.back(); }
};

/// @param alignment rows of each group are rounded up to this many.
Groups groups_from_counts(std::vector<std::int32_t> const& counts, std::int64_t alignment);

} // namespace trainfare::kernels
