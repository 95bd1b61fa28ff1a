// SPDX-License-Identifier: Apache-2.0
//
// Typed reading of one TOML table. Every key asked for becomes a known key and a line of the resolved scenario, with
// its value and where it came from; a key that nobody asked for is an error that names the nearest known one.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scenarios/scenario.hpp"
#include "scenarios/toml_reader.hpp"

namespace trainfare {

class TableReader {
public:
    using Log = std::vector<Scenario::Resolved>;

    /// @p table may be null: then every key has its default. @throws InputError if it is not a table.
    TableReader(Setting const* table, std::string prefix, Log& log);

    /// The value, null if absent. Marks the key as known; does not log.
    Setting const* find(std::string const& key);

    // A missing fallback makes the key required; @p hint then says what to write.
    int whole(std::string const& key, std::optional<int> fallback, int low, int high, std::string const& hint = {});
    double number(std::string const& key, std::optional<double> fallback, double low, double high,
                  std::string const& hint = {});
    bool flag(std::string const& key, bool fallback);
    std::string text(std::string const& key, std::optional<std::string> fallback, std::string const& hint = {});
    std::vector<std::string> words(std::string const& key);
    std::vector<int> wholes(std::string const& key, int low, int high);

    /// Text with a unit, read by @p parse (throws InputError without a place). Absent stays absent and is not logged.
    template <class Parse>
    auto quantity(std::string const& key, Parse parse, std::string const& example)
        -> std::optional<decltype(parse(std::string_view{}))>
    {
        auto const* s = find(key);
        if (!s) return std::nullopt;
        need(*s, Setting::Kind::text, key, example);
        try {
            auto const value = parse(std::string_view{s->text});
            note(key, show(*s), s);
            return value;
        } catch (InputError const& error) {
            fail_quantity(key, error.what());
        }
    }

    /// One of an enumeration's names. @p count: its values are 0 .. count - 1.
    template <class Enum, class FromName>
    Enum choice(std::string const& key, Enum fallback, FromName from_name, int count)
    {
        auto const* s = find(key);
        if (!s) {
            note(key, "\"" + std::string(name(fallback)) + "\"", nullptr);
            return fallback;
        }
        need(*s, Setting::Kind::text, key, "\"" + std::string(name(fallback)) + "\"");
        if (auto const value = from_name(std::string_view{s->text})) {
            note(key, show(*s), s);
            return *value;
        }
        std::vector<std::string> names;
        for (int i = 0; i < count; ++i) names.emplace_back(name(static_cast<Enum>(i)));
        fail_choice(key, s->text, names);
    }

    /// Logs a value that was not read as it stands: derived, or taken from a table.
    void note(std::string const& key, std::string const& value, Setting const* from);
    void note_as(std::string const& key, std::string const& value, std::string const& from);

    /// `place: prefix.key WHAT; try ADVICE`
    [[noreturn]] void fail(std::string const& key, std::string const& what, std::string const& advice = {});
    [[noreturn]] void fail_choice(std::string const& key, std::string const& got,
                                  std::vector<std::string> const& names);
    [[nodiscard]] SourcePlace place(std::string const& key) const;

    /// @throws InputError on the first key that was never asked for.
    void finish() const;

private:
    void need(Setting const&, Setting::Kind, std::string const& key, std::string const& example);
    [[noreturn]] void fail_missing(std::string const& key, std::string const& hint);
    [[noreturn]] void fail_quantity(std::string const& key, std::string const& reason);

    [[nodiscard]] std::string full(std::string const& key) const { return prefix_.empty() ? key : prefix_ + "." + key; }

    Setting const* table_;
    std::string prefix_;
    Log* log_;
    std::vector<std::string> known_;
};

} // namespace trainfare
