// SPDX-License-Identifier: Apache-2.0
//
// Private to calibrate/import*.cpp: logs as lines, and numbers out of them. Logs are read whole but only known words
// and numbers leave them, so nothing that identifies a machine can.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calibrate/import.hpp"

namespace trainfare {

/// A whole log. @throws InputError: no regular file, larger than 16 MB, NUL bytes.
std::string read_log(std::string const& path);

/// Lines without their end, those of more than 4,000 characters left out (no line of a known format is that long).
struct LogLine {
    int number = 0;
    std::string_view text;
};
std::vector<LogLine> lines_of(std::string const& log);

std::vector<std::string_view> words_of(std::string_view line);

/// The whole text as a finite number.
std::optional<double> number_from(std::string_view text);
/// The number that ends where @p unit begins: number_before("t: 453.5 us", " us") is 453.5.
std::optional<double> number_before(std::string_view line, std::string_view unit);
/// The number that follows @p key: number_after("SMs 24, NVL", "SMs ") is 24.
std::optional<double> number_after(std::string_view line, std::string_view key);

/// As number_*, where only a whole number of [1, most] makes sense.
std::optional<long> count_from(std::optional<double> number, long most);

/// Checks what the caller said about a run. @throws InputError
void check_run(std::string const& accelerator, int ranks, int nodes);

/// Keeps at most 20 notes, and counts the rest.
class Notes {
public:
    void add(int line, std::string const& text);
    void add(std::string const& text);
    [[nodiscard]] std::vector<std::string> take() &&;

private:
    std::vector<std::string> notes_;
    std::size_t more_ = 0;
};

} // namespace trainfare
