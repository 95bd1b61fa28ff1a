// SPDX-License-Identifier: Apache-2.0
//
// One small parser (number, prefix, unit) and one small printer (scale, round, prefix, unit), driven by tables.
#include "model/text_units.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

#include <fmt/format.h>

namespace trainfare {

namespace {

struct Factor {
    std::string_view name;
    double value;
};

constexpr std::array prefixes{Factor{"", 1},         Factor{"k", 1e3},     Factor{"M", 1e6},     Factor{"G", 1e9},
                              Factor{"T", 1e12},     Factor{"P", 1e15},    Factor{"E", 1e18},    Factor{"Ki", 1024},
                              Factor{"Mi", 1048576}, Factor{"Gi", 0x1p30}, Factor{"Ti", 0x1p40}, Factor{"Pi", 0x1p50}};
constexpr auto si_prefixes = std::span{prefixes}.first(7);
constexpr auto no_prefix = std::span{prefixes}.first(1);
constexpr std::array short_scale{Factor{"", 1}, Factor{"k", 1e3}, Factor{"M", 1e6}, Factor{"B", 1e9},
                                 Factor{"T", 1e12}};

constexpr std::array bandwidth_units{Factor{"B/s", 1}, Factor{"Bps", 1}, Factor{"b/s", 0.125}, Factor{"bit/s", 0.125},
                                     Factor{"bps", 0.125}};
constexpr std::array byte_units{Factor{"B", 1}};
constexpr std::array flop_rate_units{Factor{"FLOP/s", 1}, Factor{"FLOPS", 1}};
constexpr std::array second_units{Factor{"s", 1},          Factor{"ms", 1e-3},   Factor{"us", 1e-6},
                                  Factor{"\u00b5s", 1e-6}, Factor{"ns", 1e-9},   Factor{"min", 60},
                                  Factor{"h", 3600},       Factor{"hour", 3600}, Factor{"hours", 3600},
                                  Factor{"d", 86400},      Factor{"day", 86400}, Factor{"days", 86400}};
constexpr std::array watt_units{Factor{"W", 1}};
constexpr std::array price_units{Factor{"USD/GPU-hour", 1}, Factor{"USD/GPU-h", 1}, Factor{"$/GPU-hour", 1},
                                 Factor{"$/GPU-h", 1}};

/// How one quantity is written.
struct Form {
    std::string_view noun; // "bandwidth"
    std::span<Factor const> units;
    std::span<Factor const> allowed_prefixes;
    std::string_view example_unit; // "Gb/s"
    std::string_view example;      // "400 Gb/s"
    std::string_view why;          // why a bare number will not do; {0} is the number
};

// clang-format off
constexpr Form bandwidth_form{"bandwidth", bandwidth_units, prefixes, "Gb/s", "400 Gb/s",
                              "{0} Gb/s and {0} GB/s differ eight-fold"};
constexpr Form bytes_form{"size in bytes", byte_units, prefixes, "GB", "80 GB",
                          "{0} B and {0} GB differ by a factor of 1e9"};
constexpr Form flop_rate_form{"rate of operations", flop_rate_units, si_prefixes, "TFLOP/s", "989 TFLOP/s",
                              "{0} GFLOP/s and {0} TFLOP/s differ by a factor of 1000"};
constexpr Form seconds_form{"time", second_units, no_prefix, "s", "3.7 us",
                            "{0} s and {0} ms differ by a factor of 1000"};
constexpr Form watts_form{"power", watt_units, si_prefixes, "W", "700 W",
                          "{0} W and {0} kW differ by a factor of 1000"};
constexpr Form price_form{"price of a GPU", price_units, no_prefix, "USD/GPU-hour", "2 USD/GPU-hour",
                          "a price could be per GPU or per node, by the hour or by the month"};
// clang-format on

constexpr std::size_t longest_text = 100; // no quantity needs more

std::string_view trimmed(std::string_view text)
{
    auto const blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!text.empty() && blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && blank(text.back())) text.remove_suffix(1);
    return text;
}

/// For messages: bounded, and without bytes that would disturb a terminal or break a JSON file.
std::string quoted(std::string_view text)
{
    std::string out = "\"";
    for (char const c : text.substr(0, 40)) out += c >= ' ' && c <= '~' ? c : '?';
    return out + (text.size() > 40 ? "...\"" : "\"");
}

struct Parsed {
    double number = 0;
    std::string_view digits; // the number as written
    std::string_view suffix; // what follows it, trimmed
};

Parsed split_number(std::string_view text, SourcePlace const& where, std::string_view noun, std::string_view example)
{
    auto const all = trimmed(text);
    auto const refuse = [&](std::string_view what) {
        return InputError(where, fmt::format("{} {}; write \"{}\"", quoted(all), what, example));
    };
    if (all.empty())
        throw InputError(where, fmt::format("the text is empty ({} is expected); write \"{}\"", noun, example));
    if (all.size() > longest_text) throw refuse(fmt::format("is too long to be a {}", noun));
    if (all.front() == '-') throw refuse(fmt::format("is negative (no {} is)", noun));

    Parsed out;
    auto const [end, error] = std::from_chars(all.data(), all.data() + all.size(), out.number);
    if (error == std::errc::result_out_of_range) throw refuse("is out of range (no computer holds it)");
    if (error != std::errc{}) throw refuse(fmt::format("is not a {} (it must begin with a number)", noun));
    if (!std::isfinite(out.number)) throw refuse("is not finite (nothing can be computed with it)");
    out.digits = all.substr(0, static_cast<std::size_t>(end - all.data()));
    out.suffix = trimmed(all.substr(out.digits.size()));
    return out;
}

std::optional<double> find(std::span<Factor const> factors, std::string_view name)
{
    auto const it = std::find_if(factors.begin(), factors.end(), [&](Factor const& f) { return f.name == name; });
    return it == factors.end() ? std::nullopt : std::optional{it->value};
}

std::optional<double> unit_factor(std::string_view suffix, Form const& form)
{
    for (auto const& unit : form.units) {
        if (!suffix.ends_with(unit.name)) continue;
        if (auto const prefix = find(form.allowed_prefixes, suffix.substr(0, suffix.size() - unit.name.size())))
            return *prefix * unit.value;
    }
    return std::nullopt;
}

double parse(std::string_view text, SourcePlace const& where, Form const& form)
{
    auto const parsed = split_number(text, where, form.noun, form.example);
    if (parsed.suffix.empty())
        throw InputError(where, fmt::format("{} has no unit ({}); write \"{} {}\"", quoted(parsed.digits),
                                            fmt::format(fmt::runtime(form.why), parsed.digits), parsed.digits,
                                            form.example_unit));
    auto const factor = unit_factor(parsed.suffix, form);
    if (!factor)
        throw InputError(
            where, fmt::format("{} is not a {} ({} is not a unit of it; upper and lower case count); write \"{}\"",
                               quoted(trimmed(text)), form.noun, quoted(parsed.suffix), form.example));
    double const value = parsed.number * *factor;
    if (!std::isfinite(value))
        throw InputError(where, fmt::format("{} is out of range (no computer holds it); write \"{}\"",
                                            quoted(trimmed(text)), form.example));
    return value;
}

double rounded(double value, int digits)
{
    if (value == 0 || !std::isfinite(value)) return value;
    double const step = std::pow(10, digits - 1 - std::floor(std::log10(std::abs(value))));
    return std::isfinite(step) && step > 0 ? std::round(value * step) / step : value;
}

/// Significant digits without an exponent where it can be helped and without zeros at the end of a fraction.
std::string significant(double value, int digits)
{
    if (value == 0) return "0";
    double const magnitude = std::abs(value);
    if (!std::isfinite(value) || magnitude >= 1e15 || magnitude < 1e-6) return fmt::format("{:.{}g}", value, digits);
    int const decimals = std::max(0, digits - 1 - static_cast<int>(std::floor(std::log10(magnitude))));
    auto text = fmt::format("{:.{}f}", value, decimals);
    if (decimals > 0) text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.')) text.pop_back();
    return text;
}

struct Scaled {
    std::string number;
    std::string_view prefix;
};

/// 2.664e6 -> "2.664", "M". Rounds first, so that 999.96 becomes "1 k" and not "1000".
Scaled scaled(double value, std::span<Factor const> scale, int digits)
{
    double const round = rounded(value, digits);
    auto const* best = &scale.front();
    for (auto const& factor : scale)
        if (std::abs(round) >= factor.value) best = &factor;
    return {significant(round / best->value, digits), best->name};
}

std::string with_unit(double value, std::string_view unit)
{
    auto const [number, prefix] = scaled(value, si_prefixes, 4);
    return fmt::format("{} {}{}", number, prefix, unit);
}

} // namespace

Bandwidth parse_bandwidth(std::string_view text, SourcePlace const& where)
{
    return Bandwidth{parse(text, where, bandwidth_form)};
}

Bytes parse_bytes(std::string_view text, SourcePlace const& where) { return Bytes{parse(text, where, bytes_form)}; }

FlopRate parse_flop_rate(std::string_view text, SourcePlace const& where)
{
    return FlopRate{parse(text, where, flop_rate_form)};
}

Seconds parse_seconds(std::string_view text, SourcePlace const& where)
{
    return Seconds{parse(text, where, seconds_form)};
}

Watts parse_watts(std::string_view text, SourcePlace const& where) { return Watts{parse(text, where, watts_form)}; }

GpuPrice parse_gpu_price(std::string_view text, SourcePlace const& where)
{
    return parse(text, where, price_form) * units::usd_per_gpu_hour;
}

double parse_count(std::string_view text, SourcePlace const& where, std::string_view noun)
{
    auto const example = fmt::format("14.8T {}", noun);
    auto const parsed = split_number(text, where, fmt::format("number of {}", noun), example);
    auto const refuse = [&](std::string_view what) {
        return InputError(where, fmt::format("{} {}; write \"{}\"", quoted(trimmed(text)), what, example));
    };
    auto scale = parsed.suffix;
    if (scale.ends_with(noun)) scale = trimmed(scale.substr(0, scale.size() - noun.size()));
    auto factor = find(short_scale, scale);
    if (!factor) factor = find(si_prefixes, scale);
    if (!factor)
        throw refuse(
            fmt::format("is not a number of {} ({} is none of k, M, B or G, T, P)", noun, quoted(parsed.suffix)));
    double const value = parsed.number * *factor;
    if (value > 0x1p53) throw refuse("is too large to be counted one by one (the limit is 2^53)");
    double const whole = std::round(value);
    if (std::abs(value - whole) > 1e-12 * value) throw refuse(fmt::format("is not a whole number of {}", noun));
    return whole;
}

std::string format(Bandwidth v) { return with_unit(v.value(), "B/s"); }

std::string format_nic(Bandwidth v) { return fmt::format("{} ({})", format(v), with_unit(8 * v.value(), "b/s")); }

std::string format(Bytes v) { return with_unit(v.value(), "B"); }

std::string format(Flops v) { return with_unit(v.value(), "FLOP"); }

std::string format(FlopRate v) { return with_unit(v.value(), "FLOP/s"); }

std::string format(Seconds v)
{
    struct Step {
        double below; // s
        std::string_view unit;
        double seconds;
    };
    constexpr std::array steps{Step{1e-3, "us", 1e-6}, Step{1, "ms", 1e-3}, Step{120, "s", 1}, Step{7200, "min", 60},
                               Step{172800, "h", 3600}};
    double const round = std::abs(rounded(v.value(), 4));
    if (round == 0) return "0 s";
    for (auto const& step : steps)
        if (round < step.below) return fmt::format("{} {}", significant(v.value() / step.seconds, 4), step.unit);
    return fmt::format("{} days", significant(v.value() / 86400, 4));
}

std::string format(Watts v) { return with_unit(v.value(), "W"); }

std::string format(Joules v) { return with_unit(v.value() / 3600, "Wh"); }

std::string format(Dollars v)
{
    auto const [number, prefix] = scaled(std::abs(v.value()), short_scale, 3);
    return fmt::format("{}${}{}{}", v.value() < 0 ? "-" : "", number, prefix.empty() ? "" : " ", prefix);
}

std::string format(GpuTime v) { return format_count(v / units::gpu_hour) + " GPU-hours"; }

std::string format(GpuPrice v) { return significant(v / units::usd_per_gpu_hour, 4) + " USD/GPU-hour"; }

std::string format_count(double count)
{
    auto const [number, prefix] = scaled(count, short_scale, 4);
    return fmt::format("{}{}{}", number, prefix.empty() ? "" : " ", prefix);
}

} // namespace trainfare
