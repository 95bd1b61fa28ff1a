// SPDX-License-Identifier: Apache-2.0
//
// The folder that a run writes. Every finished row is on the disk before the next point begins, so a run that was
// interrupted, killed or lost its node goes on where it stopped.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "calibrate/run/rows.hpp"

namespace trainfare::measure {

/// A row of runs.csv without its run_id: one (column, value) a field. No host names, serial numbers or environment.
using RunFields = std::vector<std::pair<std::string, std::string>>;

struct RunStart {
    std::string accelerator, plan_hash, title, date; // date: YYYY-MM-DD
    RunFields fields;
};

class Journal {
public:
    /// Opens or makes the folder, cuts a torn last line, and adds this run to runs.csv and sources.csv. @throws
    /// InputError where the folder holds another plan or another accelerator, or cannot be written,
    /// or another run is writing there.
    Journal(std::string folder, RunStart const&);

    [[nodiscard]] bool done(Point const& p) const { return done_.contains(p.key()); }
    [[nodiscard]] std::size_t finished() const { return done_.size(); }
    /// Writes the row and waits for the disk; source and run are filled in.
    void append(Row);

private:
    void append_line(std::string const& file, std::string const& header, std::string const& line) const;

    std::string folder_, accelerator_, run_id_, source_id_;
    std::set<std::string> done_;
    std::shared_ptr<void> lock_;
};

/// Bytes of an unfinished last line, removed from the file.
std::size_t cut_torn_line(std::string const& path);

} // namespace trainfare::measure
