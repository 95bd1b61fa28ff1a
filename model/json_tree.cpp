// SPDX-License-Identifier: Apache-2.0
//
// nlohmann-json reads the syntax; the tree is built here because only the event interface tells where a value stands
// and lets a duplicate key be seen before it overwrites the first.
#include "model/json_tree.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "model/error.hpp"

namespace trainfare {

namespace {

/// How much text the lexer has taken, as a line number. A number ends only with the character after it, so the last
/// character taken does not count yet.
class Cursor {
public:
    explicit Cursor(std::string const& text) : text_{text} {}

    void take() { ++taken_; }

    [[nodiscard]] int line()
    {
        for (; counted_ + 1 < taken_; ++counted_)
            if (text_[counted_] == '\n') ++line_;
        return line_;
    }

private:
    std::string const& text_;
    std::size_t taken_ = 0;
    std::size_t counted_ = 0;
    int line_ = 1;
};

/// Characters for the lexer; tells the cursor of each step.
class TrackedChar {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = char const*;
    using reference = char const&;

    TrackedChar(char const* at, Cursor& cursor) : at_{at}, cursor_{&cursor} {}

    reference operator*() const { return *at_; }
    TrackedChar& operator++()
    {
        ++at_;
        cursor_->take();
        return *this;
    }
    bool operator==(TrackedChar const& other) const { return at_ == other.at_; }
    bool operator!=(TrackedChar const& other) const { return at_ != other.at_; }

private:
    char const* at_;
    Cursor* cursor_;
};

/// At most @p limit bytes, cut between UTF-8 characters.
std::string shortened(std::string text, std::size_t limit)
{
    if (text.size() <= limit) return text;
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
    return text.substr(0, limit) + "...";
}

/// Quoted as JSON, so that control characters cannot reach a terminal.
std::string json_quoted(std::string const& text)
{
    return nlohmann::json(shortened(text, 60)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class TreeBuilder : public nlohmann::json_sax<nlohmann::json> {
public:
    TreeBuilder(std::string label, Cursor& cursor) : label_{std::move(label)}, cursor_{cursor} {}

    JsonValue take_root() { return std::move(root_); }

    bool null() override { return leaf(nullptr); }
    bool boolean(bool value) override { return leaf(value); }
    bool number_integer(number_integer_t value) override { return leaf(std::int64_t{value}); }
    bool number_unsigned(number_unsigned_t value) override
    {
        if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max()))
            return leaf(static_cast<double>(value));
        return leaf(static_cast<std::int64_t>(value));
    }
    bool number_float(number_float_t value, string_t const&) override { return leaf(value); }
    bool string(string_t& value) override { return leaf(std::move(value)); }
    bool binary(binary_t&) override { return false; } // does not occur in JSON text

    bool start_object(std::size_t) override { return open(JsonValue::Object{}); }
    bool start_array(std::size_t) override { return open(JsonValue::List{}); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(string_t& key) override
    {
        auto& object = std::get<JsonValue::Object>(open_.back()->data);
        auto const [entry, fresh] = object.try_emplace(key);
        if (!fresh)
            fail(fmt::format("{} stands twice in one object, first in line {} (readers disagree which one counts); "
                             "remove one",
                             json_quoted(key), entry->second.line));
        slot_ = &entry->second;
        slot_->line = cursor_.line();
        return true;
    }

    bool parse_error(std::size_t, std::string const&, nlohmann::detail::exception const& error) override
    {
        std::string what = error.what();
        if (auto const id = what.find("] "); id != std::string::npos) what.erase(0, id + 2);
        if (auto const column = what.find("column "); column != std::string::npos)
            if (auto const end = what.find(": ", column); end != std::string::npos) what.erase(0, end + 2);
        fail(fmt::format("not valid JSON: {} (the rest of the file cannot be trusted); correct it or fetch the file "
                         "again",
                         shortened(what, 200)));
    }

private:
    [[noreturn]] void fail(std::string const& message) { throw InputError({label_, cursor_.line(), 0}, message); }

    /// Where the next value goes: the entry of the last key, the end of a list, or the root.
    JsonValue& place()
    {
        if (++values_ > max_json_values)
            fail(fmt::format("more than {} values (no model configuration is that large); give a config.json",
                             max_json_values));
        if (open_.empty()) return root_;
        if (auto* const list = std::get_if<JsonValue::List>(&open_.back()->data)) return list->emplace_back();
        return *slot_;
    }

    template <class T>
    bool leaf(T&& value)
    {
        auto& at = place();
        at.data = std::forward<T>(value);
        at.line = cursor_.line();
        return true;
    }

    template <class T>
    bool open(T&& empty)
    {
        if (static_cast<int>(open_.size()) >= max_json_depth)
            fail(fmt::format("nested deeper than {} levels (no model configuration is); give a config.json",
                             max_json_depth));
        auto& at = place();
        at.data = std::forward<T>(empty);
        at.line = cursor_.line();
        open_.push_back(&at);
        return true;
    }

    bool close()
    {
        open_.pop_back();
        return true;
    }

    std::string label_;
    Cursor& cursor_;
    JsonValue root_;
    std::vector<JsonValue*> open_; // parents stay where they are while a child is open
    JsonValue* slot_ = nullptr;
    int values_ = 0;
};

} // namespace

JsonValue parse_json(std::string const& text, std::string const& label)
{
    if (text.size() > max_json_bytes)
        throw InputError({label, 0, 0}, fmt::format("{} bytes (a config.json has a few thousand, the limit is {}); "
                                                    "give the configuration, not the weights",
                                                    text.size(), max_json_bytes));
    if (auto const nul = text.find('\0'); nul != std::string::npos) {
        auto const newlines = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(nul), '\n');
        throw InputError({label, static_cast<int>(newlines) + 1, 0},
                         "holds a NUL byte (it is not text); give a config.json in UTF-8");
    }
    Cursor cursor{text};
    TreeBuilder builder{label, cursor};
    nlohmann::json::sax_parse(TrackedChar{text.data(), cursor}, TrackedChar{text.data() + text.size(), cursor},
                              &builder);
    return builder.take_root();
}

std::string shown(JsonValue const& value)
{
    struct Printer {
        std::string operator()(std::nullptr_t) const { return "null"; }
        std::string operator()(bool b) const { return b ? "true" : "false"; }
        std::string operator()(std::int64_t i) const { return std::to_string(i); }
        std::string operator()(double d) const { return fmt::format("{}", d); }
        std::string operator()(std::string const& s) const { return json_quoted(s); }
        std::string operator()(JsonValue::List const& l) const { return fmt::format("[{} values]", l.size()); }
        std::string operator()(JsonValue::Object const& o) const { return fmt::format("{{{} fields}}", o.size()); }
    };
    return std::visit(Printer{}, value.data);
}

} // namespace trainfare
