// SPDX-License-Identifier: Apache-2.0
//
// Reading and writing CSV: RFC 4180, and everything that is refused.
#include "calibrate/csv.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "tests/catch.hpp"

using namespace trainfare;

namespace {

/// A file with the given bytes, gone at the end of the test.
class Scratch {
public:
    explicit Scratch(std::string const& text)
        : path_{(std::filesystem::temp_directory_path() / ("trainfare-csv-" + std::to_string(::getpid()))).string()}
    {
        std::ofstream{path_, std::ios::binary} << text;
    }
    ~Scratch() { std::filesystem::remove(path_); }
    Scratch(Scratch const&) = delete;
    Scratch& operator=(Scratch const&) = delete;
    [[nodiscard]] std::string const& path() const { return path_; }

private:
    std::string path_;
};

CsvTable table(std::string const& text, std::vector<std::string> const& required = {})
{
    return read_csv(Scratch{text}.path(), required);
}

std::string message(std::string const& text, std::vector<std::string> const& required = {})
{
    try {
        static_cast<void>(table(text, required));
    } catch (InputError const& error) {
        return error.what();
    }
    return "no error";
}

bool holds(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("fields are quoted as RFC 4180 says: commas, doubled quotes and newlines inside")
{
    auto const t = table("a,b,c\n1,\"x, \"\"y\"\"\",\"two\nlines\"\n2,,\"\"\n");
    REQUIRE(t.rows() == 2);
    CHECK(t.text(0, "b") == "x, \"y\"");
    CHECK(t.text(0, "c") == "two\nlines");
    CHECK_FALSE(t.text(1, "b"));
    CHECK_FALSE(t.text(1, "c"));
}

TEST_CASE("a byte order mark, CRLF, comments, empty lines and a missing last newline are taken")
{
    auto const t = table("\xEF\xBB\xBF# a comment\r\na,b\r\n\r\n1,2\r\n# more\n3,\"4\r\n5\"");
    REQUIRE(t.rows() == 2);
    CHECK(t.columns() == std::vector<std::string>{"a", "b"});
    CHECK(t.integer(0, "b") == 2);
    CHECK(t.text(1, "b") == "4\n5");
}

TEST_CASE("an empty number is absent, not zero")
{
    auto const t = table("a,b\n,0\n");
    CHECK_FALSE(t.number(0, "a"));
    CHECK_FALSE(t.integer(0, "a"));
    CHECK_FALSE(t.boolean(0, "a"));
    CHECK_FALSE(t.number(0, "no such column"));
    CHECK(t.number(0, "b") == 0.0);
    CHECK_THROWS_AS(t.need_number(0, "a"), InputError);
    CHECK_THROWS_AS(t.need_text(0, "a"), InputError);
}

TEST_CASE("numbers are whole, finite and in range or refused with their line")
{
    for (auto const* bad : {"1x", "nan", "inf", "-inf", "1e999", "0x10", "1,5", " 1", "1 ", "+1", "--1", "1e", ""}) {
        INFO(bad);
        auto const t = table(std::string{"a\n\""} + bad + "\"\n");
        if (std::string_view{bad}.empty())
            CHECK_FALSE(t.number(0, "a"));
        else
            CHECK_THROWS_AS(t.number(0, "a"), InputError);
    }
    auto const t = table("a,b\n\n1.5,99999999999999999999\n");
    CHECK(t.number(0, "a") == 1.5);
    CHECK_THROWS_AS(t.integer(0, "a"), InputError);
    CHECK_THROWS_AS(t.integer(0, "b"), InputError);
    CHECK_THROWS_AS(t.boolean(0, "a"), InputError);
    try {
        static_cast<void>(t.integer(0, "a"));
        FAIL("an error was expected");
    } catch (InputError const& error) {
        CHECK(holds(error.what(), ":3: column a: \"1.5\" is not a whole number"));
    }
}

TEST_CASE("places are lines of the file, also after a field of several lines")
{
    auto const t = table("a\n\"x\ny\"\nz\n");
    CHECK(t.place(0).line == 2);
    CHECK(t.place(1).line == 4);
}

TEST_CASE("a row of the wrong width says how many fields it has and should have")
{
    CHECK(holds(message("a,b,c\n1,2,3\n1,2\n"), ":3: has 2 fields where the header has 3"));
    CHECK(holds(message("a\n1,\n"), "has 2 fields where the header has 1"));
}

TEST_CASE("a header must have names, each once, and those that are required")
{
    CHECK(holds(message("a,b,a\n"), "column \"a\" appears twice"));
    CHECK(holds(message("a,,b\n"), "no name"));
    CHECK(holds(message("a,b\n", {"b", "c"}), "column \"c\" is missing"));
    CHECK(message("a,b,extra\n", {"b"}) == "no error");
}

TEST_CASE("broken quotes are refused")
{
    CHECK(holds(message("a,b\n1,\"open\n2,3\n"), ":2: the quote opened in"));
    CHECK(holds(message("a,b\n1,\"x\"y\n"), "text follows the closing quote"));
    CHECK(holds(message("a,b\n1,x\"y\"\n"), "has a quote inside"));
    CHECK(holds(message("\""), "never closed"));
}

TEST_CASE("what is no table is refused")
{
    CHECK(holds(message(""), "is empty"));
    CHECK(holds(message("\n\n# only a comment\n"), "is empty"));
    CHECK(holds(message(std::string{"a,b\n1,\0\n", 8}), ":2: holds a NUL byte"));
    CHECK_THROWS_AS(read_csv("/nonexistent/file.csv"), InputError);
    CHECK_THROWS_AS(read_csv("/"), InputError);
    CHECK_THROWS_AS(read_csv("/dev/zero"), InputError);
}

TEST_CASE("control characters of a file do not reach the terminal")
{
    auto const text = message("a\n\"\x1b[31mred\" x\n");
    CHECK(holds(text, "?[31mred"));
    CHECK_FALSE(holds(text, "\x1b"));
}

TEST_CASE("lines over 1 MB, files over 64 MB and tables of many million fields are refused")
{
    CHECK(holds(message("a\n" + std::string(1'100'000, 'x') + "\n"), ":2: line is longer than 1 MB"));
    std::string quoted = "a\n\"";
    for (int i = 0; i < 1200; ++i) quoted += std::string(1000, 'x') + "\n";
    CHECK(holds(message(quoted + "\"\n"), "never closed")); // a field over 1 MB
    CHECK(holds(message("a,b\n" + std::string(12'000'000, ',')), "longer than 1 MB"));
    std::string many = "a,b,c,d,e,f,g,h\n";
    for (int i = 0; i < 600'000; ++i) many += ",,,,,,,\n";
    CHECK(holds(message(many), "more than 2,000,000 fields"));
}

TEST_CASE("a sparse file of 100 MB without a line end is refused by its size alone")
{
    Scratch const file{"a"};
    std::filesystem::resize_file(file.path(), 100'000'000);
    CHECK_THROWS_WITH(read_csv(file.path()), Catch::Contains("larger than 64 MB"));
}

TEST_CASE("every double that is written reads back the same")
{
    std::ostringstream out;
    CsvWriter csv{out, {"x"}};
    std::vector<double> const values{0.1,    1.0 / 3, 1e-300, 1.7976931348623157e308, -0.0, 123456789012345680.0,
                                     5e-324, 2.5};
    for (double v : values) csv.field(v).end_row();
    auto const t = table(out.str());
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(t.number(i, "x") == values[i]);
    CHECK(shortest(0.1) == "0.1");
    CHECK_THROWS_AS(shortest(std::numeric_limits<double>::quiet_NaN()), InternalError);
}

TEST_CASE("every text that is written reads back the same, in one line unless it holds one")
{
    std::vector<std::string> const values{"plain", "a,b",      "say \"x\"", "two\nlines", "# no comment",
                                          "",      " spaces ", "\xc3\xa9",  "\""};
    std::ostringstream out;
    CsvWriter csv{out, {"text", "n"}};
    for (auto const& v : values) csv.field(v).field(7L).end_row();
    auto const t = table(out.str());
    REQUIRE(t.rows() == values.size());
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(t.text(i, "text").value_or("") == values[i]);

    std::ostringstream narrow;
    CsvWriter one{narrow, {"only"}};
    one.field("").end_row();
    CHECK(narrow.str() == "only\n\"\"\n");
    CHECK(table(narrow.str()).rows() == 1);
}

TEST_CASE("a row that is too short or too long is our own mistake")
{
    std::ostringstream out;
    CsvWriter csv{out, {"a", "b"}};
    csv.field("x");
    CHECK_THROWS_AS(csv.end_row(), InternalError);
    csv.field("y").field(std::optional<double>{});
    CHECK_THROWS_AS(csv.end_row(), InternalError);
}
