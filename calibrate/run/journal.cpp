// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/journal.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace trainfare::measure {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(std::string const& path)
{
    throw InputError(
        {path}, fmt::format("cannot be written: {} (rows would be lost); choose another --out", std::strerror(errno)));
}

std::string header_of(std::vector<std::string> const& columns)
{
    std::ostringstream out;
    CsvWriter{out, columns};
    return out.str();
}

std::string line_of(std::vector<std::string> const& columns, std::vector<std::string> const& values)
{
    std::ostringstream out;
    CsvWriter csv{out, columns};
    for (auto const& value : values) csv.field(value);
    csv.end_row();
    return out.str().substr(header_of(columns).size());
}

std::string lower(std::string text)
{
    for (char& c : text)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return text;
}

std::vector<std::string> const source_columns{"source_id", "provenance",      "title", "url_or_file",
                                              "date",      "measured_device", "note"};

/// How many runs the folder holds, all of this plan.
long check_runs(std::string const& path, RunStart const& start)
{
    if (!fs::exists(path)) return 0;
    auto const runs = read_csv(path, {"run_id", "plan_hash", "accelerator"});
    for (std::size_t i = 0; i < runs.rows(); ++i) {
        auto const plan = runs.need_text(i, "plan_hash"), accelerator = runs.need_text(i, "accelerator");
        if (plan != start.plan_hash)
            throw InputError(
                runs.place(i),
                fmt::format("the folder holds another plan ({}, this one is {}: another model, layout or list of "
                            "groups; its rows would be mixed); give the options of that run, or another --out",
                            printable(plan), start.plan_hash));
        if (accelerator != start.accelerator)
            throw InputError(
                runs.place(i),
                fmt::format("the folder holds rows of {} and this is {} (they must not be mixed); choose another --out",
                            printable(accelerator), start.accelerator));
    }
    return static_cast<long>(runs.rows());
}

/// A start that was killed before it reached runs.csv has left its source behind.
bool names_source(std::string const& path, std::string const& id)
{
    if (!fs::exists(path)) return false;
    auto const sources = read_csv(path, {"source_id"});
    for (std::size_t i = 0; i < sources.rows(); ++i)
        if (sources.text(i, "source_id") == id) return true;
    return false;
}

/// A start that was killed may have left the header of ops.csv, or a part of it, and no runs.csv.
bool ours(std::string const& folder)
{
    if (fs::exists(folder + "/runs.csv") || !fs::exists(folder + "/ops.csv")) return true;
    auto const header = header_of(row_columns());
    std::ifstream file{folder + "/ops.csv", std::ios::binary};
    std::string start(header.size(), '\0');
    file.read(start.data(), static_cast<std::streamsize>(start.size()));
    start.resize(static_cast<std::size_t>(file.gcount()));
    return header.starts_with(start);
}

/// Held until the program ends, however it ends. Where the file system knows no locks, there is none.
std::shared_ptr<void> lock(std::string const& folder)
{
    int const handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    std::shared_ptr<void> held{nullptr, [handle](void*) {
                                   if (handle >= 0) ::close(handle);
                               }};
    if (handle >= 0 && ::flock(handle, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        throw InputError({folder}, "another run is writing here (each would measure beside the other); wait for it, or "
                                   "choose another --out");
    return held;
}

} // namespace

std::size_t cut_torn_line(std::string const& path)
{
    std::ifstream file{path, std::ios::binary};
    if (!file) return 0;
    std::ostringstream text;
    text << file.rdbuf();
    auto const all = text.str();
    auto const last = all.rfind('\n');
    auto const whole = last == std::string::npos ? 0 : last + 1;
    if (whole == all.size()) return 0;
    file.close();
    std::error_code error;
    fs::resize_file(path, whole, error);
    if (error) {
        errno = error.value();
        fail(path);
    }
    return all.size() - whole;
}

Journal::Journal(std::string folder, RunStart const& start)
    : folder_{std::move(folder)}, accelerator_{start.accelerator}
{
    std::error_code error;
    fs::create_directories(folder_, error);
    if (!fs::is_directory(folder_)) {
        errno = error ? error.value() : ENOTDIR;
        fail(folder_);
    }
    if (!ours(folder_))
        throw InputError({folder_ + "/ops.csv"},
                         "is no table of this program (its columns differ and there is no runs.csv beside it, so "
                         "nothing here was touched); choose another --out");
    lock_ = lock(folder_);
    for (char const* file : {"ops.csv", "conditions.csv", "runs.csv", "sources.csv"}) {
        auto const path = folder_ + "/" + file;
        cut_torn_line(path);
        if (fs::exists(path) && fs::file_size(path) == 0) fs::remove(path); // killed before its header was whole
    }
    run_id_ = fmt::format("r{}", check_runs(folder_ + "/runs.csv", start) + 1);
    source_id_ = fmt::format("trainfare-{}-{}-{}", lower(accelerator_), start.plan_hash.substr(0, 8), run_id_);
    for (char const* file : {"ops.csv", "conditions.csv"}) {
        append_line(file, header_of(row_columns()), "");
        auto const rows = read_csv(folder_ + "/" + file, row_columns());
        for (std::size_t i = 0; i < rows.rows(); ++i) done_.insert(rows.need_text(i, "point"));
    }
    if (!names_source(folder_ + "/sources.csv", source_id_))
        append_line(
            "sources.csv", header_of(source_columns),
            line_of(source_columns, {source_id_, "measured", start.title, "runs.csv", start.date, accelerator_, ""}));
    std::vector<std::string> columns{"run_id", "source_id", "plan_hash", "accelerator"},
        values{run_id_, source_id_, start.plan_hash, accelerator_};
    for (auto const& [column, value] : start.fields) columns.push_back(column), values.push_back(value);
    append_line("runs.csv", header_of(columns), line_of(columns, values)); // last: a run that is listed has its source
}

void Journal::append(Row row)
{
    row.source_id = source_id_, row.run_id = run_id_, row.accelerator = accelerator_;
    append_line(file_of(row.point), header_of(row_columns()), to_csv_line(row));
    done_.insert(row.point.key());
}

void Journal::append_line(std::string const& file, std::string const& header, std::string const& line) const
{
    auto const path = folder_ + "/" + file;
    std::error_code error;
    auto const text = (fs::exists(path, error) ? std::string{} : header) + line;
    if (text.empty()) return;
    int const out = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (out < 0) fail(path);
    bool failed = false;
    for (std::size_t done = 0; done < text.size() && !failed;) {
        auto const n = ::write(out, text.data() + done, text.size() - done);
        if (n >= 0)
            done += static_cast<std::size_t>(n);
        else
            failed = errno != EINTR;
    }
    failed = failed || ::fsync(out) != 0;
    int const reason = errno;
    ::close(out);
    if (failed) {
        errno = reason;
        fail(path);
    }
}

} // namespace trainfare::measure
