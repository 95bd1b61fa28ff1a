// SPDX-License-Identifier: Apache-2.0
//
// The only reader and writer of CSV (RFC 4180). Fields are read as text and converted by from_chars, because an empty
// number is absent and not zero, and a double must survive a round trip.
#pragma once

#include <cstddef>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "model/error.hpp"

namespace trainfare {

class CsvTable {
public:
    [[nodiscard]] std::size_t rows() const { return rows_.size(); }
    [[nodiscard]] std::vector<std::string> const& columns() const { return columns_; }
    [[nodiscard]] bool has_column(std::string_view name) const;
    [[nodiscard]] SourcePlace place(std::size_t row) const;

    /// Absent where the field is empty or the column does not exist.
    [[nodiscard]] std::optional<std::string> text(std::size_t row, std::string_view column) const;
    /// @throws InputError where the field is filled but is no finite number (nan, inf, trailing text, too large).
    [[nodiscard]] std::optional<double> number(std::size_t row, std::string_view column) const;
    [[nodiscard]] std::optional<long> integer(std::size_t row, std::string_view column) const;
    [[nodiscard]] std::optional<bool> boolean(std::size_t row, std::string_view column) const;
    /// @throws InputError naming the place where the field is empty.
    [[nodiscard]] std::string need_text(std::size_t row, std::string_view column) const;
    [[nodiscard]] double need_number(std::size_t row, std::string_view column) const;

private:
    friend CsvTable read_csv(std::string const&, std::vector<std::string> const&);
    [[nodiscard]] std::optional<std::size_t> index(std::string_view column) const;

    std::string file_;
    std::vector<std::string> columns_;
    std::vector<std::vector<std::string>> rows_;
    std::vector<int> lines_; // line on which each row begins
};

/// Lines beginning with # are comments. Unknown columns are kept; a missing one of @p required is an error naming it.
/// @throws InputError: no file, no header, duplicate column, wrong number of fields, NUL byte, broken quote, file too large.
CsvTable read_csv(std::string const& path, std::vector<std::string> const& required = {});

/// Rows to a stream: quoting where RFC 4180 asks for it, LF, shortest text that reads back as the same double.
class CsvWriter {
public:
    CsvWriter(std::ostream& out, std::vector<std::string> const& columns);
    CsvWriter& field(std::string_view text);
    CsvWriter& field(double number);
    CsvWriter& field(std::optional<double> number); // absent: empty
    CsvWriter& field(long number);
    void end_row(); // @throws InternalError if the row has not as many fields as the header

private:
    std::ostream& out_;
    std::size_t width_;
    std::size_t filled_ = 0;
};

/// A piece of input as it is quoted in messages: short, and without characters that steer a terminal.
std::string printable(std::string_view);

/// Shortest decimal text that from_chars reads back as the same double.
std::string shortest(double);

} // namespace trainfare
