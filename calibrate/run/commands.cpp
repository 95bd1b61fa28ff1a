// SPDX-License-Identifier: Apache-2.0
//
// The commands that measure nothing themselves.
#include "calibrate/run/commands.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include <fmt/format.h>

#include "calibrate/fit.hpp"
#include "calibrate/import.hpp"
#include "calibrate/run/exit_codes.hpp"
#include "calibrate/run/show.hpp"

namespace trainfare::measure {

namespace {

std::string tables_folder(Options const& o) { return o.tables.empty() ? default_tables_folder() : o.tables; }

std::vector<Row> rows_of(std::string const& folder)
{
    if (!std::filesystem::is_directory(folder))
        throw InputError({folder}, "no such folder (rows are read from it); name what `run` wrote");
    if (!std::filesystem::exists(folder + "/runs.csv"))
        throw InputError({folder}, "holds no runs.csv (every run leaves one); name a folder that `run` wrote");
    return read_rows(folder);
}

/// The step depends on the layout, so it must be the run's.
void check_layout(std::string const& folder, Request const& r)
{
    auto const runs = read_csv(folder + "/runs.csv", {"model", "ep", "tp", "seq", "micro_batch"});
    if (runs.rows() == 0) throw InputError({folder + "/runs.csv"}, "lists no run (so there are no rows); run first");
    auto const same = [&](char const* column, std::string const& now, char const* option) {
        auto const then = runs.need_text(runs.rows() - 1, column);
        if (then != now)
            throw InputError(runs.place(runs.rows() - 1),
                             fmt::format("was measured with {} {} and not {} (another step); give {}", column,
                                         printable(then), printable(now), option));
    };
    same("model", r.model.name, "the same --model");
    same("ep", std::to_string(r.ep), "the same --ep");
    same("tp", std::to_string(r.tp), "the same --tp");
    same("seq", std::to_string(r.seq), "the same --seq");
    same("micro_batch", std::to_string(r.micro_batch), "the same --micro-batch");
}

/// Absent where the folder has a step in that precision.
std::optional<std::string> why_no_step(std::vector<Row> const& rows, Precision precision)
{
    std::string why = "no such row";
    for (auto const& row : rows) {
        if (row.point.method != "step" || row.point.op.precision != precision) continue;
        if (row.status == "ok") return {};
        why = row.status + ": " + row.note;
    }
    return why;
}

} // namespace

void write_result(std::string const& text)
{
    for (std::size_t done = 0; done < text.size();) {
        auto const n = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
        if (n >= 0) {
            done += static_cast<std::size_t>(n);
        } else if (errno == EPIPE) {
            return;
        } else if (errno != EINTR) {
            throw InputError(
                SourcePlace{"standard output"},
                fmt::format("cannot be written: {} (the result is lost); free some space", std::strerror(errno)));
        }
    }
}

int command_plan(Options const& o)
{
    auto const tables = load_tables(tables_folder(o));
    auto request = request_of(o);
    auto const gpu =
        o.host ? host_accelerator() : tables.accelerator(o.accelerator.empty() ? "H100-SXM" : o.accelerator);
    request.sms = o.host ? 32 : gpu.sms.value_or(132);
    choose_precision(request, o, gpu);
    auto const points = make_points(request);
    std::ostringstream out;
    fmt::memory_buffer list;
    if (o.list)
        for (auto const& p : points) fmt::format_to(std::back_inserter(list), "{}\n", p.key());
    out << fmt::to_string(list);
    out << fmt::format("{}{}: EP {}, TP {}, {} x {} tokens\n", o.list ? "\n" : "", request.model.name, request.ep,
                       request.tp, request.micro_batch, request.seq);
    show(out, points, gpu, o.quick ? 0.03 : 0.1, request.sizes.sustained_s);
    write_result(out.str());
    return exit_answered;
}

int command_collectives(Options const& o)
{
    auto options = o.collective;
    options.terminal = ::isatty(STDERR_FILENO) == 1;
    return run_collectives(options, std::cerr);
}

int command_check(Options const& o)
{
    auto const request = request_of(o);
    auto const rows = rows_of(o.folder);
    check_layout(o.folder, request);
    std::ostringstream out;
    bool closes = true, any = false;
    for (auto const precision : request.precisions) {
        if (auto const why = why_no_step(rows, precision)) {
            out << fmt::format("The real step in {}: not measured ({})\n\n", name(precision), *why);
            continue;
        }
        auto const report = closure(rows, request, precision, o.folder);
        show(out, report);
        out << '\n';
        any = true, closes = closes && report.closes();
    }
    if (!any)
        throw InputError({o.folder},
                         "holds no real step (there is nothing to compare with); run with --groups closure, or without "
                         "--groups");
    write_result(out.str());
    return closes ? exit_answered : exit_no;
}

int command_fit(Options const& o)
{
    if (!o.folder.empty()) {
        auto const rows = rows_of(o.folder);
        if (!rows.empty() && rows.front().accelerator == host_accelerator().key)
            throw InputError({o.folder}, "was measured with --backend cpu (no projection uses such rows, so there is "
                                         "nothing to fit); name a folder measured on a GPU");
    }
    auto const tables =
        load_tables(tables_folder(o), o.folder.empty() ? std::vector<std::string>{} : std::vector{o.folder});
    auto const report = fit(tables, o.accelerator);
    if (!o.out.empty()) {
        std::ofstream file{o.out, std::ios::binary};
        file << to_csv(report);
        if (!file.flush())
            throw InputError({o.out}, fmt::format("cannot be written: {} (the errors would be lost); try another place",
                                                  std::strerror(errno)));
    }
    std::ostringstream out;
    print(out, report);
    write_result(out.str());
    return exit_answered;
}

int command_show(Options const& o)
{
    std::ostringstream out;
    show(out, rows_of(o.folder), load_tables(tables_folder(o)));
    write_result(out.str());
    return exit_answered;
}

int command_import(Options const& o)
{
    auto const read = o.command == Command::import_deepep ? import_deepep : import_nccl_tests;
    auto const imported = read(o.folder, o.accelerator, o.ranks, o.nodes);
    for (auto const& line : imported.notes)
        if (::isatty(STDERR_FILENO) == 1) fmt::print(stderr, "trainfare-calibrate: {}\n", line);
    write_result(to_csv(imported, o.source));
    return exit_answered;
}

} // namespace trainfare::measure
