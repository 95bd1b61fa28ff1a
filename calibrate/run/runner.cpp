// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/runner.hpp"

#include <chrono>
#include <cmath>
#include <fstream>
#include <new>

#include <fmt/format.h>

#include "calibrate/run/background.hpp"
#include "calibrate/run/closure.hpp"
#include "calibrate/run/sustained.hpp"

namespace trainfare::measure {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// "3:07"
std::string minutes(double seconds)
{
    auto const s = static_cast<long>(std::ceil(seconds));
    return fmt::format("{}:{:02}", s / 60, s % 60);
}

/// Lets the operation have some of the SMs, and all again at the end.
class SmLimit {
public:
    SmLimit(kernels::Backend& on, int sms) : on_{on} { on_.limit_sms(sms); }
    ~SmLimit() { on_.limit_sms(0); }
    SmLimit(SmLimit const&) = delete;
    SmLimit& operator=(SmLimit const&) = delete;

private:
    kernels::Backend& on_;
};

/// Another library for grouped products, and the first again at the end.
class LibraryChoice {
public:
    LibraryChoice(kernels::Backend& on, Point const& p)
        : on_{on}, chosen_{p.method == "grouped_gemm" && !p.variant.empty()}
    {
        if (chosen_) on_.use_grouped_library(p.variant);
    }
    ~LibraryChoice()
    {
        if (chosen_) on_.use_grouped_library(on_.grouped_libraries().front());
    }
    LibraryChoice(LibraryChoice const&) = delete;
    LibraryChoice& operator=(LibraryChoice const&) = delete;

private:
    kernels::Backend& on_;
    bool chosen_;
};

void time_it(Bench const& bench, Point const& p, MeterOptions const& options, Row& row)
{
    auto const subject = make_subject(bench.backend, p, bench.subjects);
    row.impl = subject.impl, row.note = subject.note;
    row.moved = subject.instances.front().moved;
    LibraryChoice const library{bench.backend, p};
    double const error = subject.instances.front().check();
    if (std::isfinite(error)) row.rel_err = error;
    if (!(error <= subject.tolerance)) {
        row.status = "failed_check";
        row.note = std::isfinite(error)
                       ? fmt::format("error {:.3g} of the result's size, {:g} is tolerated", error, subject.tolerance)
                       : "the result is not finite";
    }
    std::unique_ptr<Background> background;
    MeterHooks hooks;
    if (p.comm_sms > 0) {
        hooks.before = [&] { background = start_background(bench.backend, p.comm_sms); };
        hooks.after = [&] { row.bg_gbps = background->stop() / 1e9; };
    }
    hooks.busy = [&] { row.sample = bench.telemetry.sample(); };
    row.timing = measure(bench.backend, subject.instances, options, hooks);
}

class Progress {
public:
    Progress(RunOptions const& options, Bench const& bench, double sustained_s, std::vector<Point> const& points,
             Journal const& journal)
        : options_{options}, bench_{bench}, sustained_s_{sustained_s}, total_{points.size()}
    {
        for (auto const& p : points)
            if (journal.done(p))
                ++finished_;
            else
                left_ += guess(p);
    }

    void next(Row const& row)
    {
        ++finished_;
        double const g = guess(row.point);
        left_ -= g, guessed_ += g;
        if (options_.quiet || (!options_.terminal && finished_ % 25 != 0 && finished_ != total_)) return;
        auto const result = row.status != "ok"               ? row.status
                            : row.point.op.flops.value() > 0 ? fmt::format("{:.4g} TFLOP/s", row.tflops())
                            : row.moved > 0                  ? fmt::format("{:.4g} GB/s", row.moved_gbps())
                                                             : fmt::format("{:.4g} us", row.seconds() * 1e6);
        auto const line = fmt::format("{:>4}/{} {}  {}; about {} left", finished_, total_, row.point.key(), result,
                                      minutes(std::max(0.0, left_) * since(begin_) / std::max(1e-9, guessed_)));
        if (options_.terminal)
            fmt::print(stderr, "\r\033[K{}{}", line.substr(0, 150), finished_ == total_ ? "\n" : "");
        else
            fmt::print(stderr, "{}\n", line);
        std::fflush(stderr);
    }
    void end() const
    {
        if (options_.terminal && !options_.quiet && finished_ != total_) fmt::print(stderr, "\n");
    }

private:
    [[nodiscard]] double guess(Point const& p) const
    {
        return seconds_guess(p, bench_.gpu, options_.meter.measuring_s, sustained_s_);
    }

    RunOptions const& options_;
    Bench const& bench_;
    double sustained_s_;
    std::size_t total_, finished_ = 0;
    double left_ = 0, guessed_ = 0;
    Clock::time_point begin_ = Clock::now();
};

/// A back-end that a broken kernel left unusable says so here.
bool usable(kernels::Backend& on)
{
    try {
        on.synchronise();
        static_cast<void>(on.download(on.make(kernels::Element::f32, 1, 1)));
        return true;
    } catch (std::exception const&) {
        return false;
    }
}

void write_series(std::string const& path, std::string const& text)
{
    std::ofstream out{path, std::ios::binary};
    out << text;
    if (!out.flush())
        throw InputError(
            {path}, "cannot be written (the clocks over time would be lost); free some space or choose another --out");
}

} // namespace

void measure_point(Bench const& bench, Point const& p, MeterOptions const& options, Row& row)
{
    row.point = p;
    auto const failed = [&](char const* status, std::string why) {
        row.status = status, row.note = std::move(why);
        row.timing = {}, row.moved = 0, row.rel_err.reset();
    };
    try {
        if (p.method == "windowed_attention")
            throw kernels::Unsupported("no kernel for windows, chosen keys or recurrent states");
        int const budget = p.comm_sms > 0 ? bench.sms - p.comm_sms : p.sm_budget;
        SmLimit const limit{bench.backend, budget == bench.sms ? 0 : budget};
        time_it(bench, p, options, row);
    } catch (kernels::Unsupported const& why) {
        failed("unsupported", why.what());
    } catch (InputError const& why) { // memory of the device
        failed("oom", why.what());
    } catch (std::bad_alloc const&) {
        failed("oom", "memory of the host");
    } catch (InternalError const& why) {
        failed("failed_check", why.what());
        if (!usable(bench.backend)) throw;
    }
}

Ended run_points(Bench const& bench, Request const& request, std::vector<Point> const& points, Journal& journal,
                 RunOptions const& options)
{
    auto const begin = Clock::now();
    Progress progress{options, bench, request.sizes.sustained_s, points, journal};
    auto ended = Ended::finished;
    for (auto const& p : points) {
        if (journal.done(p)) continue;
        if (options.interrupted()) {
            ended = Ended::interrupted;
            break;
        }
        if (options.seconds > 0 && since(begin) > options.seconds) {
            ended = Ended::out_of_time;
            break;
        }
        Row row;
        row.point = p;
        try {
            if (p.method == "step") {
                for (auto& part : measure_step(bench.backend, request, p, options.step_repeats))
                    if (part.point.method == "step")
                        row = part;
                    else
                        journal.append(part);
            } else if (p.group == Group::sustained) {
                auto const result =
                    run_sustained(bench.backend, request, p, bench.telemetry, bench.subjects, options.interrupted);
                row = result.row;
                if (options.interrupted()) {
                    ended = Ended::interrupted; // too short to say anything
                    break;
                }
                write_series(options.out + "/sustained.csv", result.series);
            } else {
                measure_point(bench, p, options.meter, row);
            }
        } catch (kernels::Unsupported const& why) {
            row.status = "unsupported", row.note = why.what();
        } catch (InputError const& why) {
            row.status = "oom", row.note = why.what();
        } catch (InternalError const& why) {
            row.status = "failed_check", row.note = why.what();
            journal.append(row); // so that going on leaves this point out
            progress.end();
            throw InternalError(
                fmt::format("{} broke the back-end ({}); run again to go on without this point", p.key(), why.what()));
        }
        journal.append(row);
        progress.next(row);
    }
    progress.end();
    return ended;
}

} // namespace trainfare::measure
