// SPDX-License-Identifier: Apache-2.0
//
// JSON text as a tree whose values know their line. Common JSON libraries forget positions once the syntax is right,
// but most mistakes in a config.json are wrong values, and those should be reported as file:line too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace trainfare {

struct JsonValue {
    using List = std::vector<JsonValue>;
    using Object = std::map<std::string, JsonValue, std::less<>>;

    std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, List, Object> data = nullptr;
    int line = 0;

    [[nodiscard]] bool is_null() const { return std::holds_alternative<std::nullptr_t>(data); }
    [[nodiscard]] Object const* object() const { return std::get_if<Object>(&data); }
    [[nodiscard]] List const* list() const { return std::get_if<List>(&data); }
    [[nodiscard]] std::string const* text() const { return std::get_if<std::string>(&data); }
};

constexpr std::size_t max_json_bytes = 16 << 20;
constexpr int max_json_depth = 100;
constexpr int max_json_values = 100'000;

/// Strict JSON: no duplicate keys, no NaN, no comments, no NUL bytes, nothing after the value; limits as above.
/// @throws InputError as `label:line: ...`
JsonValue parse_json(std::string const& text, std::string const& label);

/// A value as it is quoted in messages, shortened: `"foo"`, `8`, `[52 values]`.
std::string shown(JsonValue const&);

} // namespace trainfare
