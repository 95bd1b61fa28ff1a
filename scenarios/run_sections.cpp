// SPDX-License-Identifier: Apache-2.0
//
// [run] [prices] [assumptions] -> values: what is trained, what a GPU-hour costs, what is assumed about the data.
#include <fmt/format.h>

#include "model/text_units.hpp"
#include "scenarios/scenario_sections.hpp"

namespace trainfare {

namespace {

constexpr int max_sequences = 100'000'000;

auto price(std::string_view text) { return parse_gpu_price(text); }
auto tokens(std::string_view text) { return parse_count(text, {}, "tokens"); }
auto gpu_hours(std::string_view text) { return parse_count(text, {}, "GPU-hours"); }

} // namespace

namespace {

Phase read_phase(TableReader& in, Tables const& tables)
{
    Phase p;
    p.name = in.text("name", {}, "name = \"pre-training\"");
    p.tokens = in.quantity("tokens", tokens, "\"14.8T\"");
    p.ramp_tokens = in.quantity("ramp_tokens", tokens, "\"469B\"");
    if (in.find("ramp_from")) p.ramp_from = in.whole("ramp_from", {}, 1, max_sequences, "ramp_from = 3072");
    p.published_gpu_hours = in.quantity("gpu_hours", gpu_hours, "\"119 k\"");
    if (p.tokens.has_value() == p.published_gpu_hours.has_value())
        in.fail(p.tokens ? "gpu_hours" : "tokens",
                p.tokens ? "is given beside tokens (one of them defines a phase)" : "is missing",
                "tokens = \"14.8T\", or gpu_hours = \"119 k\" with on = \"H800-SXM\"");
    if (p.tokens == 0.0) in.fail("tokens", "= 0 is no training");
    if (p.ramp_tokens.has_value() != p.ramp_from.has_value())
        in.fail(p.ramp_tokens ? "ramp_from" : "ramp_tokens",
                "is missing (a ramp needs where it starts and how long it takes)");
    if (p.ramp_tokens && (!p.tokens || *p.ramp_tokens > *p.tokens))
        in.fail("ramp_tokens", "are more than the phase's tokens", "a shorter ramp");
    if (p.published_gpu_hours)
        p.published_on = read_accelerator(in, "on", tables, "on = \"H800-SXM\" (the accelerator of those hours)").key;
    p.provenance = in.text("provenance", "");
    in.finish();
    return p;
}

} // namespace

RunSpec read_run(TableReader& in, Tables const& tables, TableReader::Log& log)
{
    RunSpec run;
    auto const phases = tables_of(in, "phase");
    if (phases.empty())
        in.fail("phase", "is missing (what is to be trained?)",
                "[[run.phase]] with name = \"pre-training\" and tokens = \"1T\"");
    for (std::size_t i = 0; i < phases.size(); ++i) {
        TableReader one{&phases[i], fmt::format("run.phase.{}", i), log};
        run.phases.push_back(read_phase(one, tables));
    }
    in.finish();
    return run;
}

PriceRange read_prices(TableReader& in)
{
    PriceRange out;
    auto const value = in.quantity("rental", price, "\"2 USD/GPU-hour\"");
    if (!value)
        in.fail("rental", "is missing", "rental = \"2 USD/GPU-hour\", or include = \"prices/h100-2024-2025.toml\"");
    out.value = out.low = out.high = *value;
    if (auto const low = in.quantity("low", price, "\"1.5 USD/GPU-hour\""))
        out.low = *low;
    else
        in.note("low", fmt::format("\"{}\"", format(out.low)), nullptr);
    if (auto const high = in.quantity("high", price, "\"3 USD/GPU-hour\""))
        out.high = *high;
    else
        in.note("high", fmt::format("\"{}\"", format(out.high)), nullptr);
    if (out.low > out.value) in.fail("low", "is above rental (the interval must hold it)");
    if (out.high < out.value) in.fail("high", "is below rental (the interval must hold it)");
    if (out.high > 10'000 * units::usd_per_gpu_hour) in.fail("high", "is above 10,000 USD/GPU-hour");
    out.provenance = in.text("provenance", "given in the scenario, no source stated");
    in.finish();
    return out;
}

Assumptions read_assumptions(TableReader& in)
{
    Assumptions out;
    out.load_cv = in.number("load_cv", out.load_cv, 0, 10, "load_cv = 0.1");
    out.load_cv_spread = in.number("load_cv_spread", out.load_cv_spread, 0, 1, "load_cv_spread = 0.5");
    out.load_source = in.text("source", "assumed: no source stated");
    in.finish();
    return out;
}

} // namespace trainfare
