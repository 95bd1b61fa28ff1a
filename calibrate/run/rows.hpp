// SPDX-License-Identifier: Apache-2.0
//
// A measured point as a row of CSV: first the columns of calibrate/tables/ops.csv, then what only fits and people read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibrate/csv.hpp"
#include "calibrate/run/meter.hpp"
#include "calibrate/run/nvml.hpp"
#include "calibrate/run/points.hpp"
#include "calibrate/tables.hpp"

namespace trainfare::measure {

struct Row {
    Point point;
    std::string source_id, run_id, accelerator, impl;
    std::string status = "ok"; // ok, unsupported, oom, failed_check, skipped
    std::string note;
    Timing timing; // of one run of the kernel; 0: none
    double moved = 0;
    std::optional<double> bg_gbps, rel_err;
    Sample sample;

    /// Seconds of this operation: its share of the kernel's.
    [[nodiscard]] double seconds() const { return timing.median * point.share; }
    /// Of the bytes that the model counts, and of those that the kernel really moved.
    [[nodiscard]] double gbps() const { return point.op.bytes.value() / seconds() / 1e9; }
    [[nodiscard]] double moved_gbps() const { return moved / timing.median / 1e9; }
    [[nodiscard]] double tflops() const { return point.op.flops.value() / seconds() / 1e12; }
};

std::vector<std::string> const& row_columns();
/// One line with its newline; the note loses line breaks.
std::string to_csv_line(Row const&);

/// Rows of ops.csv and conditions.csv of a folder that a run wrote, in the order of the files; also of an unfinished
/// run.
/// @throws InputError.
std::vector<Row> read_rows(std::string const& folder);

/// Rows of ops.csv that are ok, alone on the chip and evenly loaded, as tables hold them; sources index into @p tables,
/// which get the folder's. Unlike load_tables() this takes accelerators that hardware.csv does not know ("cpu").
void add_measured(Tables& tables, std::string const& folder);

/// File of a row: ops.csv holds the model's operations, conditions.csv what no projection may look up: ceilings,
/// repetitions, other libraries, and the real step with its parts.
char const* file_of(Point const&);

} // namespace trainfare::measure
