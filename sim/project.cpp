// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic from one step to a whole training. Everything is proportional to GPU-hours; what deserves care is the
// batch ramp, in which steps are shorter and less efficient, and how the intervals combine.
#include "sim/project.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "model/error.hpp"

namespace trainfare {

namespace {

constexpr double most_tokens = 1e18; // ten thousand times all text there is: beyond it, a unit was mistyped

double half_width(double a_side, double a, double b_side, double b)
{
    return std::hypot((a_side - a) * b, (b_side - b) * a);
}

/// Product of independent, positive quantities: relative half-widths add as root sum of squares, each side on its own.
Interval product(Interval a, Interval b)
{
    double const value = a.value * b.value;
    return {value, std::max(0.0, value - half_width(a.low, a.value, b.low, b.value)),
            value + half_width(a.high, a.value, b.high, b.value)};
}

Interval in_gpu_hours(PriceRange const& price)
{
    auto const usd = [](GpuPrice p) { return p / units::usd_per_gpu_hour; };
    return {usd(price.value), usd(price.low), usd(price.high)};
}

bool is_positive(double x) { return std::isfinite(x) && x > 0; }

[[noreturn]] void refuse(Phase const& phase, std::string const& what)
{
    throw InputError{fmt::format("run.phase \"{}\": {}", phase.name, what)};
}

void check_phase(Phase const& phase, int global_batch)
{
    if (phase.tokens && phase.published_gpu_hours)
        refuse(phase,
               "has both tokens and published_gpu_hours (a phase is either simulated or taken over); try two phases");
    if (!phase.tokens && !phase.published_gpu_hours)
        refuse(phase,
               "has neither tokens nor published_gpu_hours (nothing says how long it is); try tokens = \"14.8T\"");
    if (phase.published_gpu_hours && !is_positive(*phase.published_gpu_hours))
        refuse(phase, fmt::format("published_gpu_hours = {:g} (must be a positive number); try leaving the phase out",
                                  *phase.published_gpu_hours));
    if (phase.tokens && !is_positive(*phase.tokens))
        refuse(phase, fmt::format("tokens = {:g} (must be a positive number); try tokens = \"14.8T\"", *phase.tokens));
    if (phase.tokens && *phase.tokens > most_tokens)
        refuse(phase, fmt::format("tokens = {:g} (more text than there is); try the unit T for 1e12", *phase.tokens));

    if (phase.ramp_from.has_value() != phase.ramp_tokens.has_value())
        refuse(phase, "has one of ramp_from and ramp_tokens (a batch ramp needs its first batch and its length); try "
                      "giving both");
    if (!phase.ramp_from) return;
    if (!phase.tokens)
        refuse(phase, "has a batch ramp but no tokens (published hours are not simulated); try without the ramp");
    if (*phase.ramp_from < 1 || *phase.ramp_from > global_batch)
        refuse(phase,
               fmt::format(
                   "ramp_from = {} (the batch grows from it to plan.global_batch = {}); try a number from 1 to that",
                   *phase.ramp_from, global_batch));
    if (!is_positive(*phase.ramp_tokens) || *phase.ramp_tokens > *phase.tokens)
        refuse(phase,
               fmt::format(
                   "ramp_tokens = {:g} (the ramp is a part of the phase's {:g} tokens); try a smaller positive number",
                   *phase.ramp_tokens, *phase.tokens));
}

/// Steps and time of some tokens; the time in steps at the plan's batch.
struct Steps {
    double steps = 0, full_steps = 0;
};

/// The batch B grows linearly with the tokens n, from B0 to B1 over R. With dn = R/(B1-B0) dB and u = ln B,
///     steps = integral of dn/(B S)      = R / (S (B1-B0)) ln(B1/B0)
///     time  = integral of r(B) dn/(B S) = R / (S (B1-B0)) integral of r du
/// where S is the sequence length and r the relative step time. The first is exact; the second is Simpson's rule on 33
/// points equally spaced in ln B, where r is smooth. Batches are rounded to whole sequences, which is the larger error:
/// 2e-5 from 3,072 on. DeepSeek-V3 (arXiv:2412.19437 s4.2): 3,072 to 15,360 over 469B tokens are 14,997 steps, not the
/// 7,455 of full batches.
Steps ramp(double from, double to, double tokens, double seq_len, std::function<double(int)> const& step_at_batch)
{
    constexpr int intervals = 32;
    double const scale = tokens / (seq_len * (to - from));
    double const width = std::log(to / from);
    double sum = 0;
    for (int i = 0; i <= intervals; ++i) {
        double const batch = from * std::exp(width * i / intervals);
        auto const whole = static_cast<int>(std::lround(batch)); // no third of a sequence: time per sequence counts
        double const relative = step_at_batch(whole);
        if (!is_positive(relative))
            throw InternalError{fmt::format("projection: a step of {} sequences has no time", whole)};
        double const weight = i == 0 || i == intervals ? 1 : i % 2 == 1 ? 4 : 2;
        sum += weight * relative * batch / whole;
    }
    return {scale * width, scale * sum * width / (3 * intervals)};
}

Steps steps_of(Phase const& phase, int global_batch, int seq_len, std::function<double(int)> const& step_at_batch)
{
    double const per_step = 1.0 * global_batch * seq_len;
    if (!phase.ramp_from || *phase.ramp_from == global_batch) {
        return {*phase.tokens / per_step, *phase.tokens / per_step};
    }
    auto steps = ramp(*phase.ramp_from, global_batch, *phase.ramp_tokens, seq_len, step_at_batch);
    double const rest = (*phase.tokens - *phase.ramp_tokens) / per_step;
    steps.steps += rest;
    steps.full_steps += rest;
    return steps;
}

/// Published hours are facts on their own accelerator. On another one they scale with the step time, and are as
/// uncertain.
PhaseResult taken_over(Phase const& phase, Interval step_time_s, Cluster const& cluster, std::optional<double> scale)
{
    PhaseResult out;
    double const hours = *phase.published_gpu_hours;
    bool const elsewhere = !phase.published_on.empty() && phase.published_on != cluster.gpu.key;
    out.how = phase.published_on.empty() ? "published" : fmt::format("published on {}", phase.published_on);
    out.gpu_hours = {hours, hours, hours};
    if (elsewhere && scale) {
        out.gpu_hours = step_time_s * (hours * *scale / step_time_s.value);
        out.how += fmt::format(", scaled by the step-time ratio {:.2f}", *scale);
    } else if (elsewhere) {
        out.how += ", not scaled";
    }
    return out;
}

void check_inputs(Interval step_time_s, int global_batch, int seq_len, PriceRange const& price, Cluster const& cluster,
                  std::optional<double> published_scale)
{
    if (!is_positive(step_time_s.value) || !is_positive(step_time_s.low) || !std::isfinite(step_time_s.high) ||
        step_time_s.low > step_time_s.value || step_time_s.high < step_time_s.value)
        throw InternalError{fmt::format("projection: a step takes {} s, interval {} to {}", step_time_s.value,
                                        step_time_s.low, step_time_s.high)};
    if (published_scale && !is_positive(*published_scale))
        throw InternalError{fmt::format("projection: published hours cannot scale by {}", *published_scale)};
    if (global_batch < 1 || seq_len < 1)
        throw InputError{
            fmt::format("plan.global_batch = {}, plan.seq_len = {} (a step trains on both times each other tokens); "
                        "try positive numbers",
                        global_batch, seq_len)};
    if (cluster.gpus < 1)
        throw InputError{
            fmt::format("cluster.gpus = {} (somebody must do the training); try a positive number", cluster.gpus)};
    auto const [value, low, high] = in_gpu_hours(price);
    if (!std::isfinite(value) || !std::isfinite(high) || !(low >= 0 && low <= value && value <= high))
        throw InputError{
            fmt::format("prices: {:g} USD per GPU-hour, range {:g} to {:g} (the range must hold the price, and nobody "
                        "pays you); try low <= value <= high",
                        value, low, high)};
}

} // namespace

Interval operator*(Interval a, double f)
{
    return {a.value * f, std::min(a.low * f, a.high * f), std::max(a.low * f, a.high * f)};
}

Interval operator+(Interval a, Interval b) { return {a.value + b.value, a.low + b.low, a.high + b.high}; }

Projection project(Interval step_time_s, int global_batch, int seq_len, RunSpec const& run, PriceRange const& price,
                   Cluster const& cluster, std::function<double(int batch)> const& step_at_batch,
                   std::optional<double> published_scale)
{
    check_inputs(step_time_s, global_batch, seq_len, price, cluster, published_scale);
    double const gpus = cluster.gpus;
    double const tokens_per_step = 1.0 * global_batch * seq_len;

    Projection out;
    out.step_time_s = step_time_s;
    out.tokens_per_gpu_second = {tokens_per_step / (gpus * step_time_s.value),
                                 tokens_per_step / (gpus * step_time_s.high),
                                 tokens_per_step / (gpus * step_time_s.low)};
    for (auto const& phase : run.phases) {
        check_phase(phase, global_batch);
        PhaseResult result;
        if (phase.tokens) {
            auto const steps = steps_of(phase, global_batch, seq_len, step_at_batch);
            result.tokens = *phase.tokens;
            result.steps = steps.steps;
            result.gpu_hours = step_time_s * (steps.full_steps * gpus / 3600);
            result.how = "simulated";
        } else {
            result = taken_over(phase, step_time_s, cluster, published_scale);
        }
        result.name = phase.name;
        result.days = result.gpu_hours * (1 / (gpus * 24));
        result.cost_usd = product(result.gpu_hours, in_gpu_hours(price));
        out.gpu_hours = out.gpu_hours + result.gpu_hours;
        out.days = out.days + result.days;
        out.phases.push_back(result);
    }
    // Not the sum of the phases' costs: one price stands behind all of them, independent of the hours.
    out.cost_usd = product(out.gpu_hours, in_gpu_hours(price));
    // Every GPU draws its full design power all the time, the rest of the node and the building come on top: an upper
    // bound of its power.
    if (cluster.gpu.tdp)
        out.energy_kwh = out.gpu_hours * (*cluster.gpu.tdp / units::kW * (1 + cluster.node_overhead) * cluster.pue);
    return out;
}

} // namespace trainfare
