// SPDX-License-Identifier: Apache-2.0
//
// Aligned columns and wrapped paragraphs for reports, at most 110 columns wide.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace trainfare {

constexpr std::size_t report_width = 110;

class TextTable {
public:
    /// One letter a column: 'l' left, 'r' right. The last left column may be cut where the row would get too wide.
    explicit TextTable(std::string align) : align_{std::move(align)} {}
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    void print(std::ostream&, std::size_t indent = 2) const;

private:
    std::string align_;
    std::vector<std::vector<std::string>> rows_;
};

/// Words of @p text on lines of the report's width; @p first before the first line, spaces before the others.
void print_wrapped(std::ostream&, std::string const& first, std::string const& text);

/// Columns that UTF-8 text takes on a terminal (one per code point).
std::size_t display_width(std::string const&);
/// At most @p width columns, the end replaced by "..." where it is longer.
std::string cut(std::string const&, std::size_t width);
/// The same with the beginning replaced: names that differ at their end stay apart.
std::string cut_front(std::string const&, std::size_t width);

} // namespace trainfare
