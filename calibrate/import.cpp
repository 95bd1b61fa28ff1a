// SPDX-License-Identifier: Apache-2.0
//
// What the importers of logs share, and their output as rows of coll.csv.
#include "calibrate/import.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "calibrate/csv.hpp"
#include "calibrate/import_text.hpp"

namespace trainfare {

namespace {

constexpr std::size_t max_log = 16'000'000;
constexpr std::size_t max_line = 4'000;
constexpr std::size_t max_notes = 20;

bool part_of_number(char c)
{
    return (c >= '0' && c <= '9') || c == '.' || c == '+' || c == '-' || c == 'e' || c == 'E';
}

bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string text_of(std::optional<double> value) { return value ? shortest(*value) : ""; }

template <class Count>
std::string count_text(std::optional<Count> value)
{
    return value ? std::to_string(*value) : "";
}

} // namespace

std::string read_log(std::string const& path)
{
    std::error_code error;
    auto const status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw InputError({path}, "no such file; check the path");
    if (!std::filesystem::is_regular_file(status)) throw InputError({path}, "is not a regular file; name the log");
    std::ifstream in{path, std::ios::binary};
    std::string text(max_log + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!in && !in.eof()) throw InputError({path}, "cannot be read; check the permissions");
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (text.size() > max_log)
        throw InputError({path}, "is larger than 16 MB (such a log never is); cut out the table");
    if (text.find('\0') != std::string::npos)
        throw InputError({path}, "holds NUL bytes (this is no text); name the log");
    if (text.empty()) throw InputError({path}, "is empty; name the log");
    return text;
}

std::vector<LogLine> lines_of(std::string const& log)
{
    std::vector<LogLine> lines;
    std::string_view rest = log;
    for (int number = 1; !rest.empty(); ++number) {
        auto const end = rest.find('\n');
        auto const line = rest.substr(0, end);
        if (line.size() <= max_line) lines.push_back({number, line});
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    return lines;
}

std::vector<std::string_view> words_of(std::string_view line)
{
    std::vector<std::string_view> words;
    for (std::size_t i = 0; i < line.size();) {
        if (blank(line[i])) {
            ++i;
            continue;
        }
        auto const begin = i;
        while (i < line.size() && !blank(line[i])) ++i;
        words.push_back(line.substr(begin, i - begin));
    }
    return words;
}

std::optional<double> number_from(std::string_view text)
{
    double value = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return {};
    return value;
}

std::optional<double> number_before(std::string_view line, std::string_view unit)
{
    auto const end = line.find(unit);
    if (end == std::string_view::npos) return {};
    auto begin = end;
    while (begin > 0 && part_of_number(line[begin - 1])) --begin;
    return number_from(line.substr(begin, end - begin));
}

std::optional<double> number_after(std::string_view line, std::string_view key)
{
    auto const found = line.find(key);
    if (found == std::string_view::npos) return {};
    auto const begin = found + key.size();
    auto end = begin;
    while (end < line.size() && part_of_number(line[end])) ++end;
    return number_from(line.substr(begin, end - begin));
}

std::optional<long> count_from(std::optional<double> number, long most)
{
    if (!number || *number < 1 || *number > static_cast<double>(most) || *number != std::floor(*number)) return {};
    return static_cast<long>(*number);
}

void check_run(std::string const& accelerator, int ranks, int nodes)
{
    if (accelerator.empty())
        throw InputError("no accelerator given (a rate belongs to one); name it as in hardware.csv");
    if (ranks < 1 || nodes < 1 || nodes > ranks)
        throw InputError(fmt::format("{} ranks on {} nodes cannot be (a rate belongs to a number of ranks, which these logs do not reliably "
                                     "state); give --ranks and --nodes as they ran", ranks, nodes));
}

void Notes::add(int line, std::string const& text) { add(fmt::format("line {}: {}", line, text)); }

void Notes::add(std::string const& text)
{
    if (notes_.size() < max_notes)
        notes_.push_back(text);
    else
        ++more_;
}

std::vector<std::string> Notes::take() &&
{
    if (more_ > 0) notes_.push_back(fmt::format("and {} more", more_));
    return std::move(notes_);
}

std::string to_csv(Imported const& imported, std::string const& source_id)
{
    std::ostringstream out;
    CsvWriter csv{out,
                  {"source_id", "accelerator", "op", "ranks", "nodes", "network", "bytes", "tokens", "hidden", "top_k",
                   "dtype", "time_us", "bw_gbps", "bw_kind", "sms", "notes"}};
    for (auto const& row : imported.rows) {
        auto const gbps = row.bandwidth ? std::optional{row.bandwidth->value() / 1e9} : std::nullopt;
        auto const us = row.time ? std::optional{row.time->value() * 1e6} : std::nullopt;
        auto const bytes = row.message ? std::optional{row.message->value()} : std::nullopt;
        csv.field(source_id)
            .field(row.accelerator)
            .field(row.operation)
            .field(count_text(row.ranks))
            .field(count_text(row.nodes));
        csv.field(row.network).field(text_of(bytes)).field(count_text(row.tokens)).field(count_text(row.hidden));
        csv.field(count_text(row.top_k)).field(row.dtype).field(text_of(us)).field(text_of(gbps)).field(row.bw_kind);
        csv.field(count_text(row.sms)).field("");
        csv.end_row();
    }
    return out.str();
}

} // namespace trainfare
