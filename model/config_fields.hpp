// SPDX-License-Identifier: Apache-2.0
//
// Checked access to the fields of a config.json. Nothing is converted silently: a missing, null, negative, fractional
// or boolean size is an error that names file, line, field and value. Fields nobody asked for are remembered.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/json_tree.hpp"

namespace trainfare {

/// What is known of one file while it is read.
struct ConfigReading {
    std::string label; // the file in messages
    JsonValue const* root = nullptr;
    std::set<JsonValue const*> used; // values some reader asked for
    std::vector<std::string> notes;

    /// Fields that decide nothing here and are not known to be harmless, as dotted paths.
    [[nodiscard]] std::vector<std::string> unknown_fields() const;
};

class Fields {
public:
    using Names = std::initializer_list<std::string_view>;

    static constexpr int max_size = 1 << 24; // no size of a model comes near; keeps products of two exact
    static constexpr int max_layers = 1'000;

    Fields(ConfigReading& reading, JsonValue const& object, std::string path = "");

    /// Present and not null.
    [[nodiscard]] bool has(std::string_view key) const;
    [[nodiscard]] bool is_present(std::string_view key) const { return find(key) != nullptr; }
    [[nodiscard]] bool is_minus_one(std::string_view key) const;
    /// Some files write [] for "as usual"; counts as read.
    bool is_empty_list(std::string_view key);
    /// A nested object.
    Fields inside(std::string_view key);

    /// Sizes are whole numbers from 1 up, counts from 0 up. The _or forms give the default where the field is absent or
    /// null.
    int size(std::string_view key);
    int size_or(std::string_view key, int fallback);
    int count(std::string_view key);
    int count_or(std::string_view key, int fallback);
    std::optional<int> optional_size(std::string_view key);
    /// A field that must be there but may be null (null has a meaning of its own).
    std::optional<int> size_or_null(std::string_view key);
    /// A number, or a list with that number alone.
    int size_in_list(std::string_view key);
    bool flag_or(std::string_view key, bool fallback);
    std::optional<std::string> optional_text(std::string_view key);

    /// One field with several names in use; where more than one stands in the file they must agree.
    int size(Names names);
    int count_or(Names names, int fallback);
    /// The name that the file uses.
    [[nodiscard]] std::string_view used_name(Names names) const;

    /// One number for all layers, or a list with one for each.
    std::vector<int> counts_per_layer(std::string_view key, int layers, int fallback);
    /// A list with one whole number a layer; absent or null: none.
    std::optional<std::vector<int>> whole_per_layer(std::string_view key, int layers, std::vector<int> const& allowed);
    std::optional<std::vector<std::string>> words_per_layer(std::string_view key, int layers,
                                                            std::vector<std::string> const& allowed);
    /// Layers by index, as a list or as text "4,5,6": in range and each at most once. Absent or null: none.
    std::optional<std::vector<bool>> layer_set(std::string_view key, int layers);

    /// Known to this reader but without influence.
    void ignore(std::string_view key);
    void note(std::string text) { reading_->notes.push_back(std::move(text)); }

    /// @throws InputError `file:line: key = value <problem>`; a key that is not there is named alone.
    [[noreturn]] void reject(std::string_view key, std::string const& problem) const;

private:
    [[nodiscard]] JsonValue const* find(std::string_view key) const;
    JsonValue const* take(std::string_view key);
    JsonValue const& need(std::string_view key);
    [[nodiscard]] int whole(std::string_view key, JsonValue const&, int lowest) const;
    std::optional<int> agreed(Names names, int lowest);
    JsonValue::List const* list_per_layer(std::string_view key, int layers);
    [[nodiscard]] std::vector<int> indices_from_text(std::string_view key, std::string const& text) const;
    [[noreturn]] void reject_value(std::string_view key, JsonValue const&, std::string const& problem) const;
    [[nodiscard]] std::string full(std::string_view key) const { return path_ + std::string{key}; }

    ConfigReading* reading_;
    JsonValue const* object_;
    std::string path_;
};

} // namespace trainfare
