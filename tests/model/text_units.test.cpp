// SPDX-License-Identifier: Apache-2.0
//
// Text to quantities and back: units are demanded, bits are not bytes, messages show the right form.
#include "tests/catch.hpp"

#include <string>

#include "model/text_units.hpp"

using namespace trainfare;
using namespace trainfare::units;

namespace {

template <class Parse>
std::string message(Parse const& parse)
{
    try {
        parse();
    } catch (InputError const& e) {
        return e.what();
    }
    return "accepted";
}

std::string bandwidth_message(std::string_view text)
{
    return message([&] { parse_bandwidth(text); });
}

} // namespace

TEST_CASE("a bit is an eighth of a byte: 400 Gb/s is 50 GB/s and not 400 GB/s")
{
    CHECK(parse_bandwidth("400 Gb/s").value() == 50e9);
    CHECK(parse_bandwidth("50 GB/s").value() == 50e9);
    CHECK(parse_bandwidth("400Gbps").value() == 50e9);
    CHECK(parse_bandwidth("400 Gbit/s").value() == 50e9);
    CHECK(parse_bandwidth("400 GB/s").value() == 400e9);
    CHECK(parse_bandwidth("  3.35\tTB/s ").value() == Approx(3.35e12));
}

TEST_CASE("binary prefixes are powers of 1024, decimal ones of 1000")
{
    CHECK(parse_bytes("80 GB").value() == 80e9);
    CHECK(parse_bytes("80 GiB").value() == 80 * 1073741824.0);
    CHECK(parse_bytes("4 KiB").value() == 4096);
    CHECK(parse_bytes("1 PB").value() == 1e15);
    CHECK(parse_bytes("1 TiB").value() == 1099511627776.0);
    CHECK(parse_bytes("12 B").value() == 12);
    CHECK(parse_bytes("0 B").value() == 0);
}

TEST_CASE("rates, times, powers and prices")
{
    CHECK(parse_flop_rate("989 TFLOP/s").value() == 989e12);
    CHECK(parse_flop_rate("1.979 PFLOPS").value() == Approx(1.979e15));
    CHECK(parse_seconds("3.7 us").value() == Approx(3.7e-6));
    CHECK(parse_seconds("3.7 \u00b5s").value() == Approx(3.7e-6));
    CHECK(parse_seconds("15 min").value() == 900);
    CHECK(parse_seconds("2 h").value() == 7200);
    CHECK(parse_seconds("54 days").value() == 54 * 86400.0);
    CHECK(parse_watts("0.7 kW").value() == Approx(700));
    CHECK(parse_gpu_price("2 USD/GPU-hour") / usd_per_gpu_hour == Approx(2));
    CHECK(parse_gpu_price("2.5 $/GPU-h") / usd_per_gpu_hour == Approx(2.5));
}

TEST_CASE("counts may be plain, short or named")
{
    CHECK(parse_count("14.8T tokens") == 14.8e12);
    CHECK(parse_count("14.8 T") == 14.8e12);
    CHECK(parse_count("2048") == 2048);
    CHECK(parse_count("500 k tokens") == 500e3);
    CHECK(parse_count("671B parameters", {}, "parameters") == 671e9);
    CHECK(parse_count("671 G", {}, "parameters") == 671e9);
}

TEST_CASE("a bare number is refused, and the message says why and shows the right form")
{
    CHECK(bandwidth_message("400") ==
          "\"400\" has no unit (400 Gb/s and 400 GB/s differ eight-fold); write \"400 Gb/s\"");
    CHECK(message([] { parse_seconds("3.7"); }) ==
          "\"3.7\" has no unit (3.7 s and 3.7 ms differ by a factor of 1000); write \"3.7 s\"");
    CHECK(message([] { parse_gpu_price("2"); }) == "\"2\" has no unit (a price could be per GPU or per node, by the "
                                                   "hour or by the month); write \"2 USD/GPU-hour\"");
    CHECK(message([] {
              parse_bytes("80", {"cluster.toml", 12, 7});
          }) == "cluster.toml:12:7: \"80\" has no unit (80 B and 80 GB differ by a factor of 1e9); write \"80 GB\"");
}

TEST_CASE("a unit of another quantity, a wrong case and a wrong prefix are refused")
{
    CHECK(bandwidth_message("400 Gb") ==
          "\"400 Gb\" is not a bandwidth (\"Gb\" is not a unit of it; upper and lower case count); write \"400 Gb/s\"");
    CHECK_THROWS_AS(parse_bandwidth("400 gb/s"), InputError);
    CHECK_THROWS_AS(parse_bandwidth("400 G b/s"), InputError);
    CHECK_THROWS_AS(parse_bandwidth("400 XB/s"), InputError);
    CHECK_THROWS_AS(parse_bytes("80 Gb"), InputError);
    CHECK_THROWS_AS(parse_bytes("80 GB/s"), InputError);
    CHECK_THROWS_AS(parse_bytes("80 kiB"), InputError);
    CHECK_THROWS_AS(parse_flop_rate("989 TFLOP"), InputError);
    CHECK_THROWS_AS(parse_flop_rate("989 GiFLOP/s"), InputError);
    CHECK_THROWS_AS(parse_seconds("3 Ms"), InputError);
    CHECK_THROWS_AS(parse_watts("700 J"), InputError);
    CHECK_THROWS_AS(parse_gpu_price("2 USD/hour"), InputError);
    CHECK_THROWS_AS(parse_count("14.8T sequences"), InputError);
}

TEST_CASE("negative, infinite, undefined and overflowing numbers are refused")
{
    CHECK(bandwidth_message("-5 GB/s") == "\"-5 GB/s\" is negative (no bandwidth is); write \"400 Gb/s\"");
    CHECK(bandwidth_message("inf GB/s") ==
          "\"inf GB/s\" is not finite (nothing can be computed with it); write \"400 Gb/s\"");
    CHECK(bandwidth_message("nan GB/s") ==
          "\"nan GB/s\" is not finite (nothing can be computed with it); write \"400 Gb/s\"");
    CHECK(bandwidth_message("1e999 B/s") == "\"1e999 B/s\" is out of range (no computer holds it); write \"400 Gb/s\"");
    CHECK(bandwidth_message("1e308 GB/s") ==
          "\"1e308 GB/s\" is out of range (no computer holds it); write \"400 Gb/s\"");
    CHECK_THROWS_AS(parse_count("-1"), InputError);
    CHECK_THROWS_AS(parse_count("1e17"), InputError);
    CHECK_THROWS_AS(parse_count("1.5 tokens"), InputError);
    CHECK_THROWS_AS(parse_count("0.0001k"), InputError);
}

TEST_CASE("text that is no quantity at all is refused without disturbing the terminal")
{
    CHECK(bandwidth_message("") == "the text is empty (bandwidth is expected); write \"400 Gb/s\"");
    CHECK(bandwidth_message(" \t ") == "the text is empty (bandwidth is expected); write \"400 Gb/s\"");
    CHECK(bandwidth_message("fast") == "\"fast\" is not a bandwidth (it must begin with a number); write \"400 Gb/s\"");
    CHECK(bandwidth_message(std::string_view{"4\0GB/s", 6}).starts_with("\"4?GB/s\" is not a bandwidth"));
    CHECK(bandwidth_message("\x1b[31m4 GB/s").starts_with("\"?[31m4 GB/s\" is not"));
    CHECK(bandwidth_message("4 \xff\xfe/s").starts_with("\"4 \?\?/s\" is not"));
    CHECK(bandwidth_message(std::string(1000000, '9')).size() < 120);
}

TEST_CASE("rates print with the prefix that leaves one to three digits before the point")
{
    CHECK(format(Bandwidth{50e9}) == "50 GB/s");
    CHECK(format(Bandwidth{44.6e9}) == "44.6 GB/s");
    CHECK(format(Bandwidth{3.35e12}) == "3.35 TB/s");
    CHECK(format(Bandwidth{999.96e9}) == "1 TB/s");
    CHECK(format_nic(Bandwidth{50e9}) == "50 GB/s (400 Gb/s)");
    CHECK(format(FlopRate{989.4e12}) == "989.4 TFLOP/s");
    CHECK(format(Flops{250.4e9}) == "250.4 GFLOP");
    CHECK(format(Bytes{80e9}) == "80 GB");
    CHECK(format(Bytes{12345678}) == "12.35 MB");
    CHECK(format(Bytes{0}) == "0 B");
    CHECK(format(Watts{700}) == "700 W");
    CHECK(format(1.234e6 * kWh) == "1.234 GWh");
}

TEST_CASE("times print in the unit that fits them")
{
    CHECK(format(3.7 * us) == "3.7 us");
    CHECK(format(1.15 * ms) == "1.15 ms");
    CHECK(format(Seconds{0.99996}) == "1 s");
    CHECK(format(Seconds{19.9}) == "19.9 s");
    CHECK(format(Seconds{119.9}) == "119.9 s");
    CHECK(format(Seconds{150}) == "2.5 min");
    CHECK(format(5 * hour) == "5 h");
    CHECK(format(54.2 * day) == "54.2 days");
    CHECK(format(12345 * day) == "12345 days");
    CHECK(format(Seconds{0}) == "0 s");
    CHECK(format(-2 * ms) == "-2 ms");
}

TEST_CASE("money prints with three digits, GPU time and counts with four")
{
    CHECK(format(Dollars{5.576e6}) == "$5.58 M");
    CHECK(format(Dollars{1.2e9}) == "$1.2 B");
    CHECK(format(Dollars{999.9e3}) == "$1 M");
    CHECK(format(Dollars{550}) == "$550");
    CHECK(format(Dollars{-12.34e3}) == "-$12.3 k");
    CHECK(format(2.664e6 * gpu_hour) == "2.664 M GPU-hours");
    CHECK(format(2 * usd_per_gpu_hour) == "2 USD/GPU-hour");
    CHECK(format_count(2.664e6) == "2.664 M");
    CHECK(format_count(14.8e12) == "14.8 T");
    CHECK(format_count(671e9) == "671 B");
    CHECK(format_count(61) == "61");
}

TEST_CASE("what is printed is read back as the same quantity to four digits")
{
    for (double const v : {1e-7, 3.7e-6, 0.0199, 1.0, 19.9, 44.6, 119.96, 999.96, 7199.0, 12345.0, 86399.0, 2.664e6,
                           50e9, 9.9996e11, 3.35e12, 1.979e15, 4.2e18}) {
        INFO(v);
        CHECK(parse_bandwidth(format(Bandwidth{v})).value() == Approx(v).epsilon(6e-4));
        CHECK(parse_bytes(format(Bytes{v})).value() == Approx(v).epsilon(6e-4));
        CHECK(parse_flop_rate(format(FlopRate{v})).value() == Approx(v).epsilon(6e-4));
        CHECK(parse_seconds(format(Seconds{v})).value() == Approx(v).epsilon(6e-4));
        CHECK(parse_watts(format(Watts{v})).value() == Approx(v).epsilon(6e-4));
        CHECK(parse_gpu_price(format(v * usd_per_gpu_hour)) / usd_per_gpu_hour == Approx(v).epsilon(6e-4));
    }
    for (double const v : {1.0, 61.0, 2048.0, 2.664e6, 37e9, 14.8e12})
        CHECK(parse_count(format_count(v)) == Approx(v).epsilon(6e-4));
}
