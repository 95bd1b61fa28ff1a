// SPDX-License-Identifier: Apache-2.0
//
// Typed reading of one TOML table: every message names the place, the key, what was wrong and what to try.
#include "scenarios/table_reader.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "calibrate/csv.hpp"

namespace trainfare {

TableReader::TableReader(Setting const* table, std::string prefix, Log& log)
    : table_{table}, prefix_{std::move(prefix)}, log_{&log}
{
    if (table_ && table_->kind != Setting::Kind::table)
        throw InputError(table_->place,
                         fmt::format("{} is {}, not a table; try [{}]", prefix_, describe(table_->kind), prefix_));
}

Setting const* TableReader::find(std::string const& key)
{
    known_.push_back(key);
    return table_ ? table_->find(key) : nullptr;
}

void TableReader::note(std::string const& key, std::string const& value, Setting const* from)
{
    note_as(key, value, from ? SourcePlace{from->place.file, from->place.line, 0}.text() : "default");
}

void TableReader::note_as(std::string const& key, std::string const& value, std::string const& from)
{
    log_->push_back({full(key), value, from});
}

SourcePlace TableReader::place(std::string const& key) const
{
    auto const* s = table_ ? table_->find(key) : nullptr;
    if (s) return s->place;
    return table_ ? table_->place : SourcePlace{};
}

void TableReader::fail(std::string const& key, std::string const& what, std::string const& advice)
{
    throw InputError(place(key), fmt::format("{} {}{}", full(key), what, advice.empty() ? "" : "; try " + advice));
}

void TableReader::fail_choice(std::string const& key, std::string const& got, std::vector<std::string> const& names)
{
    auto const near = nearest(got, names);
    fail(key, fmt::format("= \"{}\" is not one of {}", got.substr(0, 60), fmt::join(names, ", ")),
         near.empty() ? "" : fmt::format("\"{}\"", near));
}

void TableReader::fail_missing(std::string const& key, std::string const& hint)
{
    if (table_)
        for (auto const& written : table_->keys)
            if (std::find(known_.begin(), known_.end(), written) == known_.end() && nearest(written, {key}) == key)
                throw InputError(table_->find(written)->place,
                                 fmt::format("unknown key '{}'; did you mean '{}'?", full(written), key));
    fail(key, "is missing", hint);
}

void TableReader::fail_quantity(std::string const& key, std::string const& reason)
{
    throw InputError(place(key), fmt::format("{}: {}", full(key), reason));
}

void TableReader::need(Setting const& s, Setting::Kind kind, std::string const& key, std::string const& example)
{
    if (s.kind == kind) return;
    bool const bare =
        kind == Setting::Kind::text && (s.kind == Setting::Kind::integer || s.kind == Setting::Kind::real);
    bool const unit = bare && example.find(' ') != std::string::npos;
    fail(key,
         fmt::format("= {} is {}, not {}{}", show(s).substr(0, 60), describe(s.kind), describe(kind),
                     unit ? " (a bare number has no unit)" : ""),
         example);
}

int TableReader::whole(std::string const& key, std::optional<int> fallback, int low, int high, std::string const& hint)
{
    auto const* s = find(key);
    if (!s) {
        if (!fallback) fail_missing(key, hint);
        note(key, std::to_string(*fallback), nullptr);
        return *fallback;
    }
    need(*s, Setting::Kind::integer, key, hint);
    if (s->integer < low || s->integer > high)
        fail(key, fmt::format("= {} is not between {} and {}", s->integer, low, high), hint);
    note(key, std::to_string(s->integer), s);
    return static_cast<int>(s->integer);
}

double TableReader::number(std::string const& key, std::optional<double> fallback, double low, double high,
                           std::string const& hint)
{
    auto const* s = find(key);
    if (!s) {
        if (!fallback) fail_missing(key, hint);
        note(key, shortest(*fallback), nullptr);
        return *fallback;
    }
    if (s->kind != Setting::Kind::integer) need(*s, Setting::Kind::real, key, hint);
    double const value = s->kind == Setting::Kind::integer ? static_cast<double>(s->integer) : s->real;
    if (!std::isfinite(value) || value < low || value > high)
        fail(key, fmt::format("= {} is not between {} and {}", show(*s), shortest(low), shortest(high)), hint);
    note(key, shortest(value), s);
    return value;
}

bool TableReader::flag(std::string const& key, bool fallback)
{
    auto const* s = find(key);
    if (s) need(*s, Setting::Kind::boolean, key, "true");
    bool const value = s ? s->boolean : fallback;
    note(key, value ? "true" : "false", s);
    return value;
}

std::string TableReader::text(std::string const& key, std::optional<std::string> fallback, std::string const& hint)
{
    auto const* s = find(key);
    if (!s) {
        if (!fallback) fail_missing(key, hint);
        note(key, "\"" + *fallback + "\"", nullptr);
        return *fallback;
    }
    need(*s, Setting::Kind::text, key, hint.empty() ? "text in quotes" : hint);
    auto const bad = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; };
    if (std::any_of(s->text.begin(), s->text.end(), bad))
        fail(key, "has a line break or control character (it is printed as one line)");
    note(key, show(*s), s);
    return s->text;
}

std::vector<std::string> TableReader::words(std::string const& key)
{
    auto const* s = find(key);
    std::vector<std::string> out;
    if (s) {
        if (s->kind != Setting::Kind::text) need(*s, Setting::Kind::array, key, "[\"norm\", \"moe_act\"]");
        if (s->kind == Setting::Kind::text) out.push_back(s->text);
        for (auto const& item : s->items) {
            if (item.kind != Setting::Kind::text)
                fail(key, fmt::format("holds {}, not only text", describe(item.kind)));
            out.push_back(item.text);
        }
    }
    note(key, s ? show(*s) : "[]", s);
    return out;
}

std::vector<int> TableReader::wholes(std::string const& key, int low, int high)
{
    auto const* s = find(key);
    std::vector<int> out;
    if (s) {
        need(*s, Setting::Kind::array, key, "[4, 4, 4, 3]");
        if (s->items.size() > 100'000) fail(key, "has more than 100,000 entries");
        for (auto const& item : s->items) {
            if (item.kind != Setting::Kind::integer || item.integer < low || item.integer > high)
                fail(key, fmt::format("holds {}, not only whole numbers from {} to {}", show(item).substr(0, 60), low,
                                      high));
            out.push_back(static_cast<int>(item.integer));
        }
    }
    note(key, s ? show(*s) : "[]", s);
    return out;
}

void TableReader::finish() const
{
    if (!table_) return;
    for (std::size_t i = 0; i < table_->keys.size(); ++i) {
        auto const& key = table_->keys[i];
        if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
        auto const near = nearest(key, known_);
        auto known = known_;
        std::sort(known.begin(), known.end());
        throw InputError(table_->items[i].place,
                         fmt::format("unknown key '{}'; {}", full(key.substr(0, 60)),
                                     near.empty() ? fmt::format("known here: {}", fmt::join(known, ", "))
                                                  : fmt::format("did you mean '{}'?", near)));
    }
}

} // namespace trainfare
