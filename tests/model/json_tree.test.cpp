// SPDX-License-Identifier: Apache-2.0
//
// What is not strict JSON is refused with the line where it goes wrong, quickly and without a crash.
#include "model/json_tree.hpp"

#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

std::string error_of(std::string const& text)
{
    try {
        parse_json(text, "x.json");
    } catch (InputError const& error) {
        return error.what();
    }
    return "no error";
}

std::string repeated(std::string const& part, int times)
{
    std::string out;
    for (int i = 0; i < times; ++i) out += part;
    return out;
}

} // namespace

TEST_CASE("every value of a JSON text knows its line", "[json_tree]")
{
    auto const root = parse_json("{\n  \"a\": 1,\n  \"b\": [true,\n    null],\n  \"c\": {\n    \"d\": 2.5}\n}\n", "x");
    auto const& fields = *root.object();
    CHECK(root.line == 1);
    CHECK(fields.at("a").line == 2);
    CHECK(std::get<std::int64_t>(fields.at("a").data) == 1);
    CHECK(fields.at("b").list()->at(0).line == 3);
    CHECK(fields.at("b").list()->at(1).line == 4);
    CHECK(fields.at("b").list()->at(1).is_null());
    CHECK(fields.at("c").object()->at("d").line == 6);
    CHECK(std::get<double>(fields.at("c").object()->at("d").data) == 2.5);
}

TEST_CASE("a number before a line break belongs to the line it stands in", "[json_tree]")
{
    auto const root = parse_json("[1\n,\n22\n]", "x");
    CHECK(root.list()->at(0).line == 1);
    CHECK(root.list()->at(1).line == 3);
}

TEST_CASE("syntax errors name file and line", "[json_tree]")
{
    CHECK_THAT(error_of("{\n  \"a\": 1,\n  \"b\" 2\n}"), Catch::StartsWith("x.json:3: not valid JSON: syntax error"));
    CHECK_THAT(error_of("{\n\"a\": 1"), Catch::StartsWith("x.json:2: not valid JSON"));
    CHECK_THAT(error_of(""), Catch::StartsWith("x.json:1: not valid JSON"));
    CHECK_THAT(error_of("{\"a\": 'x'}"), Catch::StartsWith("x.json:1: not valid JSON"));
    CHECK_THAT(error_of("{\"a\": 1,}"), Catch::StartsWith("x.json:1: not valid JSON"));
    CHECK_THAT(error_of("\"\xff\xfe\""), Catch::Contains("UTF-8"));
}

TEST_CASE("NaN, infinities and comments are not JSON", "[json_tree]")
{
    CHECK_THAT(error_of("{\n\"a\": NaN}"), Catch::StartsWith("x.json:2: not valid JSON"));
    CHECK_THAT(error_of("[Infinity]"), Catch::Contains("not valid JSON"));
    CHECK_THAT(error_of("[-Infinity]"), Catch::Contains("not valid JSON"));
    CHECK_THAT(error_of("[1] // sizes"), Catch::Contains("not valid JSON"));
}

TEST_CASE("a number beyond double is refused", "[json_tree]")
{
    CHECK_THAT(error_of("{\n\n\"a\": 1e999}"),
               Catch::StartsWith("x.json:3: not valid JSON: number overflow parsing '1e999'"));
}

TEST_CASE("trailing text after the value is refused with its line", "[json_tree]")
{
    CHECK_THAT(error_of("{}\n{}"), Catch::StartsWith("x.json:2: not valid JSON"));
    CHECK_THAT(error_of("{} x"), Catch::StartsWith("x.json:1: not valid JSON"));
    CHECK(error_of("{}\n \n") == "no error");
}

TEST_CASE("a duplicate key is refused and the first one's line is told", "[json_tree]")
{
    CHECK(
        error_of("{\n \"a\": 1,\n \"b\": 2,\n \"a\": 1\n}") ==
        "x.json:4: \"a\" stands twice in one object, first in line 2 (readers disagree which one counts); remove one");
    CHECK(error_of("{\"a\": {\"a\": 1}}") == "no error");
}

TEST_CASE("a NUL byte is refused, also after the end of the value", "[json_tree]")
{
    using namespace std::string_literals;
    CHECK_THAT(error_of("{\n\"a\": 1}\0garbage"s), Catch::StartsWith("x.json:2: holds a NUL byte"));
}

TEST_CASE("100 levels of nesting are read, 101 are refused", "[json_tree]")
{
    CHECK(error_of(repeated("[", 100) + repeated("]", 100)) == "no error");
    CHECK_THAT(error_of(repeated("[", 101) + repeated("]", 101)), Catch::Contains("nested deeper than 100 levels"));
    CHECK_THAT(error_of(repeated("{\"a\":", 1'000'000)), Catch::Contains("nested deeper than 100 levels"));
}

TEST_CASE("a text of many values or many bytes is refused", "[json_tree]")
{
    CHECK_THAT(error_of("[" + repeated("0,", 100'001) + "0]"), Catch::Contains("more than 100000 values"));
    CHECK_THAT(error_of(std::string(max_json_bytes + 1, ' ')), Catch::StartsWith("x.json: 16777217 bytes"));
}

TEST_CASE("quoted values are short and cannot carry control characters", "[json_tree]")
{
    CHECK(shown({std::int64_t{8}, 1}) == "8");
    CHECK(shown({true, 1}) == "true");
    CHECK(shown({0.02, 1}) == "0.02");
    CHECK(shown({nullptr, 1}) == "null");
    CHECK(shown({std::string{"a\x1b[31m"}, 1}) == "\"a\\u001b[31m\"");
    CHECK(shown({std::string(1000, 'x'), 1}).size() == 65);
    CHECK(shown(parse_json("[1,2]", "x")) == "[2 values]");
    CHECK(shown(parse_json("{}", "x")) == "{0 fields}");
}
