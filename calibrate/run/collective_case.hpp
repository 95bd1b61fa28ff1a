// SPDX-License-Identifier: Apache-2.0
//
// One collective with one message size: its buffers, whether the result is right, and how long it takes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/comm/communicator.hpp"

namespace trainfare {

/// Elements of a row: 16 bytes of bf16. All buffers are whole rows.
constexpr std::int64_t collective_row = 8;

struct CollectiveCase {
    std::string operation; // of collective_operations()
    kernels::Element element = kernels::Element::bf16;
    std::int64_t rows = 0;             // of the whole buffer; a multiple of the number of ranks
    std::vector<std::int64_t> rows_to; // all_to_all_v: to each rank, the same from every rank; sums to rows
    [[nodiscard]] bool in_place() const { return operation == "all_reduce"; }
};

struct CollectiveTimes {
    std::vector<double> seconds; // of each repeat, on the slowest rank
    std::int64_t wrong = 0;      // elements on all ranks, of those that were looked at
};

/// Collective over @p group. Results are checked before and times are taken after.
CollectiveTimes time_collective(kernels::Backend&, kernels::Communicator& group, CollectiveCase const&, int warm_up,
                                int repeats);

/// Bus bandwidth over bytes per second, as nccl-tests defines it (doc/PERFORMANCE.md): 2(n-1)/n for all_reduce, (n-1)/n
/// for the other collectives, 1 for p2p. 8 ranks that all-reduce 1 GB in 10 ms: 100 GB/s x 1.75 = 175 GB/s. Absent for
/// one rank.
std::optional<double> bus_factor(std::string const& operation, int ranks);

/// @p total rows over @p ranks with log-normal loads of that coefficient of variation; sums to @p total.
std::vector<std::int64_t> uneven_rows(std::int64_t total, int ranks, double load_cv, std::uint64_t seed);

} // namespace trainfare
