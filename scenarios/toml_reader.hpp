// SPDX-License-Identifier: Apache-2.0
//
// TOML as plain values, each with the place where it was written. It keeps toml++ out of every header, bounds what a
// hostile file can cost, and merges includes, files and --set in that order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/error.hpp"

namespace trainfare {

struct Setting {
    enum class Kind { boolean, integer, real, text, array, table };
    Kind kind = Kind::table;
    bool boolean = false;
    std::int64_t integer = 0;
    double real = 0;
    std::string text;
    std::vector<Setting> items;    // of an array or table
    std::vector<std::string> keys; // of a table, beside items
    SourcePlace place;             // of the key, where it has one

    [[nodiscard]] Setting const* find(std::string const& key) const; // null: not there
    Setting& at_or_add(std::string const& key);
};

/// "a boolean", "text" ...: for messages.
std::string describe(Setting::Kind);
/// The value as TOML text.
std::string show(Setting const&);

/// Regular files, pipes and "-" (standard input). @throws InputError: cannot be read, over 4 MB, NUL byte.
std::string read_text_file(std::string const& path);

/// @throws InputError with file:line:column on broken TOML, broken UTF-8, keys or values nested too deeply.
Setting parse_toml(std::string const& text, std::string const& label);

/// Tables merge key by key; anything else is replaced.
void merge(Setting& base, Setting const& over);

/// One --set: "plan.pp=8", "run.phase.0.tokens=1T". The value is TOML; what is not TOML is text ("H100-SXM", "400
/// Gb/s").
void apply_override(Setting& root, std::string const& assignment);

/// The candidate with the fewest edits to @p word, or empty where none is near.
std::string nearest(std::string const& word, std::vector<std::string> const& candidates);

} // namespace trainfare
