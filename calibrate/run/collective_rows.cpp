// SPDX-License-Identifier: Apache-2.0
//
// Each row is one write at the end of the file, so a sweep that is killed leaves whole rows and at most one cut off.
#include "calibrate/run/collective_rows.hpp"

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>
#include <vector>

#include "calibrate/csv.hpp"

namespace trainfare {

namespace {

struct Column {
    std::string_view name;
    bool names_measurement; // rows that agree in these are the same measurement
};
constexpr std::array columns{
    Column{"source_id", true}, Column{"accelerator", true}, Column{"op", true},           Column{"ranks", true},
    Column{"nodes", true},     Column{"network", true},     Column{"bytes", true},        Column{"dtype", true},
    Column{"time_us", false},  Column{"bw_gbps", false},    Column{"bw_kind", false},     Column{"sms", true},
    Column{"notes", false},    Column{"transport", true},   Column{"nccl_version", true}, Column{"in_place", true},
    Column{"impl", true},      Column{"status", false},     Column{"t_p10_us", false},    Column{"t_p90_us", false},
    Column{"repeats", false},  Column{"load_cv", true},     Column{"seed", true},
};
using Cells = std::array<std::string, columns.size()>;

Cells cells_of(CollectiveRow const& row)
{
    auto const text = [](std::optional<double> number) { return number ? shortest(*number) : std::string{}; };
    // an uneven all-to-all is an all-to-all; which one it was is said by impl
    auto const op = row.operation == "all_to_all_v" ? "all_to_all" : row.operation;
    return {row.source_id,
            row.accelerator,
            op,
            std::to_string(row.ranks),
            std::to_string(row.nodes),
            row.network,
            std::to_string(row.bytes),
            row.dtype,
            text(row.median_us),
            text(row.bus_gbps),
            row.bus_gbps ? "bus" : "",
            row.sms > 0 ? std::to_string(row.sms) : "",
            row.notes,
            row.transport,
            row.nccl_version,
            row.in_place ? "1" : "0",
            row.operation,
            row.status,
            text(row.p10_us),
            text(row.p90_us),
            std::to_string(row.repeats),
            text(row.load_cv),
            row.load_cv ? std::to_string(row.seed) : ""};
}

std::string key_of(Cells const& cells)
{
    std::string out;
    for (std::size_t i = 0; i < columns.size(); ++i)
        if (columns[i].names_measurement) out += cells[i] + '\n';
    return out;
}

std::string line_of(std::vector<std::string> const& header, Cells const* cells)
{
    std::ostringstream out;
    CsvWriter writer{out, header};
    if (cells == nullptr) return out.str();
    out.str("");
    for (auto const& cell : *cells) writer.field(std::string_view{cell});
    writer.end_row();
    return out.str();
}

std::vector<std::string> header_names()
{
    std::vector<std::string> out;
    for (auto const& column : columns) out.emplace_back(column.name);
    return out;
}

/// Cuts off an unfinished last line. Returns whether anything is left. Only a file that begins like ours is touched.
bool tidy(std::string const& path, std::string const& header)
{
    constexpr std::uintmax_t most = 64'000'000;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return false;
    if (!std::filesystem::is_regular_file(path, error) || std::filesystem::file_size(path, error) > most)
        throw InputError({path}, "is no file of measurements to add to; name another with --out");
    std::ifstream in{path, std::ios::binary};
    std::string const text{std::istreambuf_iterator<char>{in}, {}};
    if (text.substr(0, header.size()) != header.substr(0, text.size()))
        throw InputError({path, 1},
                         "has other columns than a sweep of collectives writes (rows would be mixed up); name "
                         "another file with --out");
    auto const whole = text.size() < header.size() ? 0 : text.rfind('\n') + 1;
    if (whole < text.size()) std::filesystem::resize_file(path, whole, error);
    if (error) throw InputError({path}, "ends in half a row and cannot be shortened; check the permissions");
    return whole > 0;
}

void append_text(std::string const& path, std::string const& text)
{
    std::ofstream out{path, std::ios::binary | std::ios::app};
    out << text;
    if (!out.flush())
        throw InputError({path}, "cannot be written (measurements would be lost); check the folder and free space");
}

} // namespace

CollectiveRows::CollectiveRows(std::string path) : path_{std::move(path)}
{
    auto const names = header_names();
    auto const header = line_of(names, nullptr);
    if (!tidy(path_, header)) append_text(path_, header);
    auto const table = read_csv(path_, names);
    for (std::size_t row = 0; row < table.rows(); ++row) {
        Cells cells;
        for (std::size_t i = 0; i < columns.size(); ++i) cells[i] = table.text(row, columns[i].name).value_or("");
        done_[key_of(cells)] = table.text(row, "status").value_or("");
    }
}

std::optional<std::string> CollectiveRows::status(CollectiveRow const& row) const
{
    auto const found = done_.find(key_of(cells_of(row)));
    return found == done_.end() ? std::nullopt : std::optional{found->second};
}

void CollectiveRows::append(CollectiveRow const& row)
{
    auto const cells = cells_of(row);
    append_text(path_, line_of(header_names(), &cells));
    done_[key_of(cells)] = row.status;
}

} // namespace trainfare
