// SPDX-License-Identifier: Apache-2.0
//
// Aligned columns: every column as wide as its widest cell, two spaces between, nothing at the end of a line.
#include "scenarios/text_table.hpp"

#include <algorithm>

namespace trainfare {

namespace {

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

} // namespace

std::size_t display_width(std::string const& text)
{
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

std::string cut(std::string const& text, std::size_t width)
{
    if (display_width(text) <= width) return text;
    std::size_t const keep = width > 3 ? width - 3 : 0;
    std::size_t columns = 0, end = 0;
    while (end < text.size() && (columns < keep || continues(text[end]))) {
        if (!continues(text[end])) ++columns;
        ++end;
    }
    return text.substr(0, end) + "...";
}

std::string cut_front(std::string const& text, std::size_t width)
{
    if (display_width(text) <= width) return text;
    std::size_t begin = text.size(), columns = 0;
    while (begin > 0 && columns + 3 < width) {
        --begin;
        if (!continues(text[begin])) ++columns;
    }
    return "..." + text.substr(begin);
}

void TextTable::print(std::ostream& out, std::size_t indent) const
{
    std::vector<std::size_t> widths(align_.size(), 0);
    for (auto const& row : rows_)
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
            widths[i] = std::max(widths[i], display_width(row[i]));
    for (auto const& row : rows_) {
        std::string line(indent, ' ');
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
            bool const last = i + 1 == align_.size();
            std::size_t const used = display_width(line);
            auto const cell =
                last && align_[i] == 'l' && used < report_width ? cut(row[i], report_width - used) : row[i];
            std::string const pad(widths[i] - std::min(widths[i], display_width(cell)), ' ');
            line += align_[i] == 'r' ? pad + cell : cell + pad;
            line += "  ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out << line << '\n';
    }
}

void print_wrapped(std::ostream& out, std::string const& first, std::string const& text)
{
    std::string const indent(display_width(first), ' ');
    std::string line = first;
    bool fresh = true;
    for (std::size_t begin = 0; begin < text.size();) {
        auto const end = std::min(text.find_first_of(" \n", begin), text.size());
        auto const word = text.substr(begin, end - begin);
        begin = end + 1;
        if (word.empty()) continue;
        if (!fresh && display_width(line) + 1 + display_width(word) > report_width) {
            out << line << '\n';
            line = indent;
            fresh = true;
        }
        line += (fresh ? "" : " ") + word;
        fresh = false;
    }
    out << line << '\n';
}

} // namespace trainfare
