// SPDX-License-Identifier: Apache-2.0
//
// Reads TOML with toml++ and copies it into plain values. toml++ recurses once per nested value and per part of a
// dotted key, so a small scanner bounds both before it sees the text.
#include "scenarios/toml_reader.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <fmt/format.h>
#include <toml++/toml.h>

namespace trainfare {

namespace {

constexpr std::size_t max_file_bytes = 4'000'000;
constexpr int max_key_parts = 16;
constexpr int max_nesting = 32;

SourcePlace place_of(toml::source_region const& region, std::string const& label)
{
    return {label, static_cast<int>(region.begin.line), static_cast<int>(region.begin.column)};
}

/// Walks the text once, outside comments and strings, and counts dots of a key and open brackets.
void check_shape(std::string const& text, std::string const& label)
{
    int line = 1, dots = 0, depth = 0;
    auto const fail = [&](std::string const& what) { throw InputError({label, line, 0}, what); };
    for (std::size_t i = 0; i < text.size(); ++i) {
        char const c = text[i];
        if (c == '\n') {
            ++line;
            dots = 0;
        } else if (c == '#') {
            while (i + 1 < text.size() && text[i + 1] != '\n') ++i;
        } else if (c == '"' || c == '\'') {
            bool const multi = text.compare(i, 3, std::string(3, c)) == 0;
            i += multi ? 3 : 1;
            for (; i < text.size(); ++i) {
                if (text[i] == '\n') ++line;
                if (c == '"' && text[i] == '\\') {
                    ++i;
                    if (i < text.size() && text[i] == '\n') ++line;
                } else if (multi ? text.compare(i, 3, std::string(3, c)) == 0 : text[i] == c || text[i] == '\n') {
                    if (multi) i += 2;
                    break;
                }
            }
        } else if (c == '.') {
            if (++dots >= max_key_parts)
                fail(fmt::format("a key has more than {} parts; no key of a scenario has more than three",
                                 max_key_parts));
        } else if (c == '[' || c == '{') {
            dots = 0;
            if (++depth > max_nesting) fail(fmt::format("values are nested more than {} deep", max_nesting));
        } else if (c == ']' || c == '}') {
            depth = std::max(0, depth - 1);
            dots = 0;
        } else if (c == '=' || c == ',') {
            dots = 0;
        }
    }
}

Setting copy(toml::node const& node, std::string const& label)
{
    Setting out;
    out.place = place_of(node.source(), label);
    if (auto const* table = node.as_table()) {
        out.kind = Setting::Kind::table;
        for (auto const& [key, value] : *table) {
            out.keys.emplace_back(key.str());
            out.items.push_back(copy(value, label));
            out.items.back().place = place_of(key.source(), label);
        }
    } else if (auto const* array = node.as_array()) {
        out.kind = Setting::Kind::array;
        for (auto const& value : *array) out.items.push_back(copy(value, label));
    } else if (auto const* text = node.as_string()) {
        out.kind = Setting::Kind::text;
        out.text = text->get();
    } else if (auto const* integer = node.as_integer()) {
        out.kind = Setting::Kind::integer;
        out.integer = integer->get();
    } else if (auto const* real = node.as_floating_point()) {
        out.kind = Setting::Kind::real;
        out.real = real->get();
    } else if (auto const* boolean = node.as_boolean()) {
        out.kind = Setting::Kind::boolean;
        out.boolean = boolean->get();
    } else {
        throw InputError(out.place, "a date or time (no key of a scenario is one); try text in quotes");
    }
    return out;
}

} // namespace

std::string read_text_file(std::string const& path)
{
    std::ifstream file;
    if (path != "-") {
        std::error_code error;
        auto const status = std::filesystem::status(path, error);
        if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
            throw InputError(SourcePlace{path}, "is not a regular file (a pipe or a folder has no end to read to); name a file, or - for "
                                                "standard input");
        file.open(path, std::ios::binary);
        if (!file)
            throw InputError(SourcePlace{path}, "cannot be opened (no such file, or no permission); check the path");
    }
    std::istream& in = path == "-" ? std::cin : file;
    std::string text(max_file_bytes + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (in.bad()) throw InputError(SourcePlace{path}, "cannot be read (is it a folder?)");
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (text.size() > max_file_bytes)
        throw InputError(SourcePlace{path},
                         "is larger than 4 MB (scenarios and models are a few kB); is this the right file?");
    if (auto const nul = text.find('\0'); nul != std::string::npos)
        throw InputError(
            {path, 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<long>(nul), '\n')), 0},
            "has a NUL byte (not a text file); is this the right file?");
    return text;
}

Setting parse_toml(std::string const& text, std::string const& label)
{
    check_shape(text, label);
    try {
        return copy(toml::parse(text, label), label);
    } catch (toml::parse_error const& error) {
        throw InputError(place_of(error.source(), label), fmt::format("not valid TOML: {}", error.description()));
    }
}

} // namespace trainfare
