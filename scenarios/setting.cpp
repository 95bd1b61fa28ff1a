// SPDX-License-Identifier: Apache-2.0
//
// What can be done to settings without knowing TOML: merge them, override one from the command line, print them, and
// find the key a misspelt one was meant to be.
#include "scenarios/toml_reader.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "calibrate/csv.hpp"

namespace trainfare {

namespace {

constexpr int max_key_parts = 16;

std::string trimmed(std::string const& s)
{
    auto const first = s.find_first_not_of(" \t");
    if (first == std::string::npos) return {};
    return s.substr(first, s.find_last_not_of(" \t") - first + 1);
}

Setting text_setting(std::string const& text, std::string const& label)
{
    Setting out;
    out.kind = Setting::Kind::text;
    out.text = text;
    out.place.file = label;
    return out;
}

/// A value on the command line: TOML where it is TOML, else a list of bare words, else text.
Setting override_value(std::string const& text, std::string const& label)
{
    try {
        auto value = parse_toml("v = " + text, label);
        if (value.items.size() == 1) return value.items.front();
    } catch (InputError const&) { // not TOML: bare words
    }
    if (text.size() < 2 || text.front() != '[' || text.back() != ']') return text_setting(text, label);
    Setting list;
    list.kind = Setting::Kind::array;
    std::string const inner = text.substr(1, text.size() - 2);
    for (std::size_t begin = 0; begin <= inner.size();) {
        auto const end = std::min(inner.find(',', begin), inner.size());
        auto const word = trimmed(inner.substr(begin, end - begin));
        if (!word.empty()) list.items.push_back(text_setting(word, label));
        begin = end + 1;
    }
    return list;
}

void place_everywhere(Setting& setting, SourcePlace const& place)
{
    setting.place = place;
    for (auto& item : setting.items) place_everywhere(item, place);
}

std::size_t edits(std::string const& a, std::string const& b)
{
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            std::size_t const above = row[j];
            row[j] = std::min({row[j - 1] + 1, above + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
            diagonal = above;
        }
    }
    return row[b.size()];
}

} // namespace

Setting const* Setting::find(std::string const& key) const
{
    auto const it = std::find(keys.begin(), keys.end(), key);
    return it == keys.end() ? nullptr : &items[static_cast<std::size_t>(it - keys.begin())];
}

Setting& Setting::at_or_add(std::string const& key)
{
    auto const it = std::find(keys.begin(), keys.end(), key);
    if (it != keys.end()) return items[static_cast<std::size_t>(it - keys.begin())];
    keys.push_back(key);
    return items.emplace_back();
}

std::string describe(Setting::Kind kind)
{
    switch (kind) {
    case Setting::Kind::boolean: return "true or false";
    case Setting::Kind::integer: return "a whole number";
    case Setting::Kind::real: return "a number";
    case Setting::Kind::text: return "text";
    case Setting::Kind::array: return "a list";
    case Setting::Kind::table: return "a table";
    }
    return "a value";
}

std::string show(Setting const& s)
{
    switch (s.kind) {
    case Setting::Kind::boolean: return s.boolean ? "true" : "false";
    case Setting::Kind::integer: return std::to_string(s.integer);
    case Setting::Kind::real: return std::isfinite(s.real) ? shortest(s.real) : std::isnan(s.real) ? "nan" : "inf";
    case Setting::Kind::text: return fmt::format("\"{}\"", s.text);
    case Setting::Kind::array:
    case Setting::Kind::table: break;
    }
    bool const array = s.kind == Setting::Kind::array;
    std::string out = array ? "[" : "{";
    for (std::size_t i = 0; i < s.items.size(); ++i) {
        if (i) out += ", ";
        if (!array) out += s.keys[i] + " = ";
        out += show(s.items[i]);
    }
    return out + (array ? "]" : "}");
}

void merge(Setting& base, Setting const& over)
{
    if (base.kind != Setting::Kind::table || over.kind != Setting::Kind::table) {
        base = over;
        return;
    }
    for (std::size_t i = 0; i < over.keys.size(); ++i) {
        auto& slot = base.at_or_add(over.keys[i]);
        if (slot.keys.empty() && slot.items.empty())
            slot = over.items[i];
        else
            merge(slot, over.items[i]);
    }
}

void apply_override(Setting& root, std::string const& assignment)
{
    auto const equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0)
        throw InputError(SourcePlace{"--set " + assignment},
                         "has no '=' (a key and a value are needed); try --set plan.pp=8");
    std::string const path = trimmed(assignment.substr(0, equals));
    std::string const label = "--set " + path;
    if (std::any_of(assignment.begin(), assignment.end(), [](char c) { return static_cast<unsigned char>(c) < 32; }))
        throw InputError(SourcePlace{label}, "has a control character");
    if (std::count(path.begin(), path.end(), '.') >= max_key_parts)
        throw InputError(SourcePlace{label}, "has too many parts; try SECTION.KEY=VALUE");
    Setting value = override_value(trimmed(assignment.substr(equals + 1)), label);
    place_everywhere(value, SourcePlace{label});

    Setting* node = &root;
    for (std::size_t begin = 0; begin <= path.size();) {
        auto const end = std::min(path.find('.', begin), path.size());
        std::string const part = path.substr(begin, end - begin);
        if (part.empty()) throw InputError(SourcePlace{label}, "has an empty part in its key; try SECTION.KEY=VALUE");
        if (node->kind == Setting::Kind::array) {
            bool const digits = part.size() < 6 && part.find_first_not_of("0123456789") == std::string::npos;
            std::size_t const index = digits ? std::stoul(part) : node->items.size();
            if (index >= node->items.size())
                throw InputError(SourcePlace{label},
                                 fmt::format("'{}' is not one of the {} entries of that list (they count from 0)", part,
                                             node->items.size()));
            node = &node->items[index];
        } else if (node->kind == Setting::Kind::table) {
            node = &node->at_or_add(part);
        } else {
            throw InputError(SourcePlace{label},
                             fmt::format("goes through {}, which has no keys", describe(node->kind)));
        }
        begin = end + 1;
    }
    *node = value;
}

std::string nearest(std::string const& word, std::vector<std::string> const& candidates)
{
    std::string best;
    std::size_t fewest = std::max<std::size_t>(2, word.size() / 3) + 1;
    if (word.size() > 64) return best;
    for (auto const& candidate : candidates) {
        auto const n = edits(word, candidate);
        if (n < fewest) {
            fewest = n;
            best = candidate;
        }
    }
    return best;
}

} // namespace trainfare
