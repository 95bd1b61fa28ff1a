// SPDX-License-Identifier: Apache-2.0
//
// RFC 4180 over the line reader of fast-cpp-csv-parser, which only this file includes. The parser's own columns are not
// used: they read an empty number as 0, take no quoted newline and do not give a double back as it was written.
#include "calibrate/csv.hpp"

#define CSV_IO_NO_THREAD
#include <libfccp/csv.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <system_error>

namespace trainfare {

namespace {

constexpr std::size_t max_file = 64'000'000;
constexpr std::size_t max_line = 1'000'000;
constexpr std::size_t max_fields = 2'000'000; // bounds memory: a field of two bytes costs a string

/// Feeds the line reader and refuses early: NUL bytes (lines are C strings there), endless lines, files that grow. Ends
/// the last line, because the line reader looks one byte past an unfinished one.
class CheckedSource : public io::ByteSourceBase {
public:
    explicit CheckedSource(std::string const& path) : path_{path}, in_{path, std::ios::binary}
    {
        if (!in_) throw InputError({path}, "cannot be opened; check the path and the permissions");
    }

    int read(char* buffer, int size) override
    {
        int filled = 0;
        while (filled < size && !ended_) {
            in_.read(buffer + filled, std::min(size - filled, 1 << 16));
            auto const got = static_cast<int>(in_.gcount());
            check(buffer + filled, got);
            filled += got;
            if (got == 0 && !in_.eof())
                throw InputError({path_}, "cannot be read (a directory or a broken disk); name a file");
            if (in_.eof() && filled < size) {
                ended_ = true;
                if (total_ > 0 && line_length_ > 0) buffer[filled++] = '\n';
            }
        }
        return filled;
    }

private:
    void check(char const* data, int size)
    {
        total_ += static_cast<std::size_t>(size);
        if (total_ > max_file)
            throw InputError({path_}, "is larger than 64 MB (a table never is); name the right file");
        for (char const* p = data; p != data + size; ++p) {
            if (*p == '\0')
                throw InputError({path_, line_}, "holds a NUL byte (this is no text); save the table as UTF-8 CSV");
            if (*p != '\n') {
                if (++line_length_ > max_line)
                    throw InputError({path_, line_}, "line is longer than 1 MB; is this a CSV table?");
            } else {
                line_length_ = 0;
                ++line_;
            }
        }
    }

    std::string path_;
    std::ifstream in_;
    std::size_t total_ = 0;
    std::size_t line_length_ = 0;
    int line_ = 1;
    bool ended_ = false;
};

/// Takes the lines of one record (more than one where a quoted field holds a newline) apart.
class Records {
public:
    Records(std::string const& path) : path_{path}, reader_{path, std::make_unique<CheckedSource>(path)} {}

    /// False at the end of the file.
    bool next(std::vector<std::string>& fields)
    {
        fields.clear();
        char const* line = nullptr;
        do {
            line = reader_.next_line();
        } while (line != nullptr && (*line == '\0' || *line == '#'));
        if (line == nullptr) return false;
        begin_ = static_cast<int>(reader_.get_file_line());
        for (;;) {
            char const* const end = *line == '"' ? take_quoted(line, fields) : take_plain(line, fields);
            if (*end == '\0') return true;
            line = end + 1; // past the comma
        }
    }

    [[nodiscard]] int line() const { return begin_; }

private:
    char const* take_plain(char const* text, std::vector<std::string>& fields) const
    {
        char const* const end = text + std::strcspn(text, ",");
        std::string_view const field{text, static_cast<std::size_t>(end - text)};
        if (field.find('"') != std::string_view::npos)
            throw InputError({path_, begin_},
                             fmt::format("field {} has a quote inside; quote the whole field and double the "
                                         "quotes in it (RFC 4180)",
                                         printable(field)));
        fields.emplace_back(field);
        return end;
    }

    char const* take_quoted(char const* text, std::vector<std::string>& fields)
    {
        std::string field;
        ++text;
        for (;;) {
            if (*text == '\0') { // the newline belongs to the field
                field += '\n';
                if (field.size() > max_line || (text = reader_.next_line()) == nullptr)
                    throw InputError(
                        {path_, begin_},
                        fmt::format("the quote opened in {} is never closed; add the missing \"", printable(field)));
            } else if (*text != '"') {
                field += *text++;
            } else if (text[1] == '"') {
                field += '"';
                text += 2;
            } else {
                ++text;
                break;
            }
        }
        if (*text != ',' && *text != '\0')
            throw InputError(
                {path_, begin_},
                fmt::format("text follows the closing quote of {}; double quotes inside a field", printable(field)));
        fields.push_back(std::move(field));
        return text;
    }

    std::string path_;
    io::LineReader reader_;
    int begin_ = 0;
};

void check_file(std::string const& path)
{
    std::error_code error;
    auto const status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw InputError({path}, "no such file; check the path");
    if (std::filesystem::is_directory(status)) throw InputError({path}, "is a directory; name the CSV file in it");
    if (!std::filesystem::is_regular_file(status))
        throw InputError({path}, "is not a regular file; copy the table to a file");
    auto const size = std::filesystem::file_size(path, error);
    if (!error && size > max_file)
        throw InputError({path}, "is larger than 64 MB (a table never is); name the right file");
}

void check_header(std::string const& path, int line, std::vector<std::string> const& columns,
                  std::vector<std::string> const& required)
{
    std::set<std::string_view> seen;
    for (auto const& column : columns) {
        if (column.empty())
            throw InputError({path, line}, "a column of the header has no name; name it or remove its comma");
        if (!seen.insert(column).second)
            throw InputError({path, line}, fmt::format("column {} appears twice; rename one", printable(column)));
    }
    for (auto const& column : required)
        if (!seen.contains(column))
            throw InputError({path, line}, fmt::format("column \"{}\" is missing; add it", column));
}

template <class Number>
Number convert(std::string const& text, SourcePlace const& place, std::string_view column, std::string_view kind)
{
    Number value{};
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    bool const whole = error == std::errc{} && end == text.data() + text.size();
    if (error == std::errc::result_out_of_range)
        throw InputError(place, fmt::format("column {}: {} is out of range; correct it", column, printable(text)));
    if (!whole || !std::isfinite(static_cast<double>(value)))
        throw InputError(place, fmt::format("column {}: {} is not {}; correct it or leave the field empty", column,
                                            printable(text), kind));
    return value;
}

} // namespace

std::string printable(std::string_view text)
{
    std::string out;
    for (char c : text.substr(0, 40)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return fmt::format("\"{}{}\"", out, text.size() > 40 ? "..." : "");
}

CsvTable read_csv(std::string const& path, std::vector<std::string> const& required)
{
    check_file(path);
    Records records{path};
    CsvTable table;
    table.file_ = path;
    if (!records.next(table.columns_)) throw InputError({path}, "is empty; the first line must name the columns");
    check_header(path, records.line(), table.columns_, required);
    std::vector<std::string> fields;
    std::size_t total = 0;
    while (records.next(fields)) {
        if (fields.size() != table.columns_.size())
            throw InputError({path, records.line()},
                             fmt::format("has {} fields where the header has {}; check commas and quotes",
                                         fields.size(), table.columns_.size()));
        total += fields.size();
        if (total > max_fields) throw InputError({path, records.line()}, "more than 2,000,000 fields; split the table");
        table.rows_.push_back(fields);
        table.lines_.push_back(records.line());
    }
    return table;
}

std::optional<std::size_t> CsvTable::index(std::string_view column) const
{
    auto const found = std::find(columns_.begin(), columns_.end(), column);
    if (found == columns_.end()) return {};
    return static_cast<std::size_t>(found - columns_.begin());
}

bool CsvTable::has_column(std::string_view column) const { return index(column).has_value(); }

SourcePlace CsvTable::place(std::size_t row) const { return {file_, lines_.at(row)}; }

std::optional<std::string> CsvTable::text(std::size_t row, std::string_view column) const
{
    auto const i = index(column);
    if (!i || rows_.at(row)[*i].empty()) return {};
    return rows_[row][*i];
}

std::optional<double> CsvTable::number(std::size_t row, std::string_view column) const
{
    auto const field = text(row, column);
    if (!field) return {};
    return convert<double>(*field, place(row), column, "a number");
}

std::optional<long> CsvTable::integer(std::size_t row, std::string_view column) const
{
    auto const field = text(row, column);
    if (!field) return {};
    return convert<long>(*field, place(row), column, "a whole number");
}

std::optional<bool> CsvTable::boolean(std::size_t row, std::string_view column) const
{
    auto const field = text(row, column);
    if (!field) return {};
    if (*field == "true") return true;
    if (*field == "false") return false;
    throw InputError(place(row), fmt::format("column {}: {} is neither true nor false; write one of them", column,
                                             printable(*field)));
}

std::string CsvTable::need_text(std::size_t row, std::string_view column) const
{
    auto field = text(row, column);
    if (!field) throw InputError(place(row), fmt::format("column {} is empty; fill it in", column));
    return *std::move(field);
}

double CsvTable::need_number(std::size_t row, std::string_view column) const
{
    auto const value = number(row, column);
    if (!value) throw InputError(place(row), fmt::format("column {} is empty; write a number", column));
    return *value;
}

CsvWriter::CsvWriter(std::ostream& out, std::vector<std::string> const& columns) : out_{out}, width_{columns.size()}
{
    for (auto const& column : columns) field(column);
    end_row();
}

CsvWriter& CsvWriter::field(std::string_view text)
{
    if (filled_++ > 0) out_ << ',';
    bool const first = filled_ == 1; // a row that begins with # would read back as a comment, an empty one as no row
    bool const comment = first && (text.starts_with('#') || (text.empty() && width_ == 1));
    if (!comment && text.find_first_of(",\"\r\n") == std::string_view::npos) {
        out_ << text;
        return *this;
    }
    out_ << '"';
    for (char c : text) out_ << (c == '"' ? "\"\"" : std::string_view{&c, 1});
    out_ << '"';
    return *this;
}

CsvWriter& CsvWriter::field(double number) { return field(shortest(number)); }

CsvWriter& CsvWriter::field(std::optional<double> number) { return field(number ? shortest(*number) : std::string{}); }

CsvWriter& CsvWriter::field(long number) { return field(std::to_string(number)); }

void CsvWriter::end_row()
{
    if (filled_ != width_)
        throw InternalError(fmt::format("CSV row has {} fields where the header has {}", filled_, width_));
    out_ << '\n';
    filled_ = 0;
}

std::string shortest(double value)
{
    if (!std::isfinite(value)) throw InternalError("a number for a table is not finite");
    char buffer[32];
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

} // namespace trainfare
