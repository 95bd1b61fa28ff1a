// SPDX-License-Identifier: Apache-2.0
//
// One place for the wording of every complaint about a single field.
#include "model/config_fields.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/core.h>

#include "model/error.hpp"

namespace trainfare {

namespace {

std::string joined(std::vector<std::string> const& words)
{
    std::string out;
    for (auto const& word : words) out += (out.empty() ? "" : ", ") + word;
    return out;
}

} // namespace

Fields::Fields(ConfigReading& reading, JsonValue const& object, std::string path)
    : reading_{&reading}, object_{&object}, path_{std::move(path)}
{
}

JsonValue const* Fields::find(std::string_view key) const
{
    auto const& fields = *object_->object();
    auto const at = fields.find(key);
    return at == fields.end() ? nullptr : &at->second;
}

JsonValue const* Fields::take(std::string_view key)
{
    auto const* const value = find(key);
    if (value) reading_->used.insert(value);
    return value;
}

JsonValue const& Fields::need(std::string_view key)
{
    auto const* const value = take(key);
    if (!value)
        reject(key,
               "is missing (the model cannot be sized without it); take the config.json published with the weights");
    return *value;
}

void Fields::reject(std::string_view key, std::string const& problem) const
{
    auto const* const value = find(key);
    if (value) reject_value(key, *value, problem);
    throw InputError({reading_->label, path_.empty() ? 0 : object_->line, 0}, full(key) + " " + problem);
}

void Fields::reject_value(std::string_view key, JsonValue const& value, std::string const& problem) const
{
    throw InputError({reading_->label, value.line, 0}, fmt::format("{} = {} {}", full(key), shown(value), problem));
}

int Fields::whole(std::string_view key, JsonValue const& value, int lowest) const
{
    double number = 0;
    if (auto const* const integer = std::get_if<std::int64_t>(&value.data))
        number = static_cast<double>(*integer);
    else if (auto const* const real = std::get_if<double>(&value.data))
        number = *real;
    else if (value.is_null())
        reject_value(key, value, "where a number is needed (null is no size); write the number");
    else
        reject_value(key, value, "is not a number (sizes are whole numbers without quotes); write the number");

    if (number != std::floor(number))
        reject_value(key, value,
                     "is not a whole number (sizes count elements; shuffled copies of configurations look "
                     "like this); compare with the published file");
    if (number < lowest)
        reject_value(key, value,
                     fmt::format("is below {} (it is the size of something); compare with the published "
                                 "file",
                                 lowest));
    if (number > max_size)
        reject_value(key, value,
                     fmt::format("is above {} (larger than any part of a model); look for extra digits", max_size));
    return static_cast<int>(number);
}

bool Fields::has(std::string_view key) const
{
    auto const* const value = find(key);
    return value && !value->is_null();
}

bool Fields::is_minus_one(std::string_view key) const
{
    auto const* const value = find(key);
    auto const* const number = value ? std::get_if<std::int64_t>(&value->data) : nullptr;
    return number && *number == -1;
}

bool Fields::is_empty_list(std::string_view key)
{
    auto const* const value = find(key);
    if (!value || !value->list() || !value->list()->empty()) return false;
    ignore(key);
    return true;
}

Fields Fields::inside(std::string_view key)
{
    auto const& value = need(key);
    if (!value.object())
        reject_value(key, value,
                     "is not an object (the sizes of the language model stand inside it); write "
                     "{ ... } as in the published file");
    return {*reading_, value, full(key) + "."};
}

int Fields::size(std::string_view key) { return whole(key, need(key), 1); }
int Fields::count(std::string_view key) { return whole(key, need(key), 0); }

std::optional<int> Fields::optional_size(std::string_view key)
{
    auto const* const value = take(key);
    if (!value || value->is_null()) return std::nullopt;
    return whole(key, *value, 1);
}

int Fields::size_in_list(std::string_view key)
{
    auto const& value = need(key);
    auto const* const list = value.list();
    if (!list) return whole(key, value, 1);
    if (list->size() != 1)
        reject_value(key, value, "does not hold one number (layers of several sizes are not known); write one");
    return whole(fmt::format("{}[0]", key), list->front(), 1);
}

int Fields::size_or(std::string_view key, int fallback) { return optional_size(key).value_or(fallback); }
int Fields::count_or(std::string_view key, int fallback) { return agreed({key}, 0).value_or(fallback); }

std::optional<int> Fields::size_or_null(std::string_view key)
{
    auto const& value = need(key);
    if (value.is_null()) return std::nullopt;
    return whole(key, value, 1);
}

bool Fields::flag_or(std::string_view key, bool fallback)
{
    auto const* const value = take(key);
    if (!value || value->is_null()) return fallback;
    auto const* const flag = std::get_if<bool>(&value->data);
    if (!flag) reject_value(key, *value, "is not true or false (it is a switch); write true or false");
    return *flag;
}

std::optional<std::string> Fields::optional_text(std::string_view key)
{
    auto const* const value = take(key);
    if (!value || value->is_null()) return std::nullopt;
    if (!value->text()) reject_value(key, *value, "is not text (it is a name); write it in quotes");
    return *value->text();
}

std::optional<int> Fields::agreed(Names names, int lowest)
{
    std::optional<int> found;
    std::string_view first;
    for (auto const name : names) {
        auto const* const value = take(name);
        if (!value || value->is_null()) continue;
        int const here = whole(name, *value, lowest);
        if (found && *found != here)
            reject_value(name, *value,
                         fmt::format("contradicts {} = {} (two names of one field must agree); remove the "
                                     "wrong one",
                                     full(first), *found));
        if (!found) first = name;
        found = here;
    }
    return found;
}

int Fields::size(Names names)
{
    if (auto const found = agreed(names, 1)) return *found;
    return size(used_name(names)); // complains of a missing or null field by its name
}

int Fields::count_or(Names names, int fallback) { return agreed(names, 0).value_or(fallback); }

std::string_view Fields::used_name(Names names) const
{
    for (auto const name : names)
        if (has(name)) return name;
    for (auto const name : names)
        if (find(name)) return name;
    return *names.begin();
}

JsonValue::List const* Fields::list_per_layer(std::string_view key, int layers)
{
    auto const* const value = take(key);
    if (!value || value->is_null()) return nullptr;
    auto const* const list = value->list();
    if (!list) reject_value(key, *value, "is not a list (it holds one entry a layer); write [ ... ]");
    if (list->size() != static_cast<std::size_t>(layers))
        reject_value(key, *value,
                     fmt::format("does not fit the {} layers of the model (it holds one entry a layer); "
                                 "make both agree",
                                 layers));
    return list;
}

std::vector<int> Fields::counts_per_layer(std::string_view key, int layers, int fallback)
{
    auto const* const value = find(key);
    if (!value || !value->list()) return std::vector<int>(static_cast<std::size_t>(layers), count_or(key, fallback));
    std::vector<int> out;
    for (auto const& entry : *list_per_layer(key, layers))
        out.push_back(whole(fmt::format("{}[{}]", key, out.size()), entry, 0));
    return out;
}

std::optional<std::vector<int>> Fields::whole_per_layer(std::string_view key, int layers,
                                                        std::vector<int> const& allowed)
{
    auto const* const list = list_per_layer(key, layers);
    if (!list) return std::nullopt;
    std::vector<int> out;
    for (auto const& entry : *list) {
        auto const name = fmt::format("{}[{}]", key, out.size());
        int const number = whole(name, entry, 0);
        if (std::find(allowed.begin(), allowed.end(), number) == allowed.end()) {
            std::vector<std::string> words;
            for (int const a : allowed) words.push_back(std::to_string(a));
            reject_value(name, entry,
                         fmt::format("is not a kind of layer this model has (known: {}); compare with the "
                                     "published file",
                                     joined(words)));
        }
        out.push_back(number);
    }
    return out;
}

std::optional<std::vector<std::string>> Fields::words_per_layer(std::string_view key, int layers,
                                                                std::vector<std::string> const& allowed)
{
    auto const* const list = list_per_layer(key, layers);
    if (!list) return std::nullopt;
    std::vector<std::string> out;
    for (auto const& entry : *list) {
        if (!entry.text() || std::find(allowed.begin(), allowed.end(), *entry.text()) == allowed.end())
            reject_value(fmt::format("{}[{}]", key, out.size()), entry,
                         fmt::format("is not a kind of layer this model has (known: {}); compare with the published "
                                     "file",
                                     joined(allowed)));
        out.push_back(*entry.text());
    }
    return out;
}

std::vector<int> Fields::indices_from_text(std::string_view key, std::string const& text) const
{
    std::vector<int> out;
    char const* at = text.data();
    char const* const end = at + text.size();
    while (true) {
        while (at != end && *at == ' ') ++at;
        int index = 0;
        auto const [rest, error] = std::from_chars(at, end, index);
        bool const more = error == std::errc{} && rest != end && *rest == ',';
        if (error != std::errc{} || (rest != end && !more))
            reject(key, "is not a list of layer numbers (they are whole numbers between commas); write \"3,4,5\"");
        out.push_back(index);
        if (!more) return out;
        at = rest + 1;
    }
}

std::optional<std::vector<bool>> Fields::layer_set(std::string_view key, int layers)
{
    auto const* const value = take(key);
    if (!value || value->is_null()) return std::nullopt;
    std::vector<int> indices;
    if (auto const* const text = value->text()) {
        indices = indices_from_text(key, *text);
    } else if (auto const* const list = value->list()) {
        for (auto const& entry : *list) {
            auto const name = fmt::format("{}[{}]", key, indices.size());
            indices.push_back(whole(name, entry, 0));
        }
    } else {
        reject_value(key, *value, "is not a list of layer numbers (it names layers by index); write [3, 4, 5]");
    }
    std::vector<bool> set(static_cast<std::size_t>(layers));
    for (int const index : indices) {
        if (index < 0 || index >= layers)
            reject(key,
                   fmt::format("names layer {}, which does not exist (the layers are 0 to {}); correct the list or "
                               "the number of layers",
                               index, layers - 1));
        if (set[static_cast<std::size_t>(index)])
            reject(key, fmt::format("names layer {} twice (a layer is of one kind); remove one", index));
        set[static_cast<std::size_t>(index)] = true;
    }
    return set;
}

void Fields::ignore(std::string_view key) { take(key); }

} // namespace trainfare
