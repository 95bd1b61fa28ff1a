// SPDX-License-Identifier: Apache-2.0
//
// The file that a sweep appends to: rows of coll.csv (calibrate/tables/README.md) and some columns more.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace trainfare {

struct CollectiveRow {
    std::string source_id, accelerator, operation; // operation: of collective_operations()
    int ranks = 0, nodes = 0;
    std::string network;
    long bytes = 0;
    std::string dtype;
    double median_us = 0, p10_us = 0, p90_us = 0;
    std::optional<double> bus_gbps; // absent: one rank has no bus
    int sms = 0;                    // 0: NCCL's choice
    std::string transport, nccl_version;
    bool in_place = false;
    std::optional<double> load_cv; // only of uneven loads, as the seed
    std::uint64_t seed = 0;
    std::string status, notes;
    int repeats = 0;
};

class CollectiveRows {
public:
    /// Reads what an earlier run wrote; a last line that was cut off is removed. The file is made if there is none.
    /// @throws InputError when the file holds something else.
    explicit CollectiveRows(std::string path);

    /// Status of the row of the same measurement; absent: there is none.
    [[nodiscard]] std::optional<std::string> status(CollectiveRow const&) const;
    void append(CollectiveRow const&);

private:
    std::string path_;
    std::map<std::string, std::string> done_; // status by what was measured
};

} // namespace trainfare
