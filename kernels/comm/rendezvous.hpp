// SPDX-License-Identifier: Apache-2.0
//
// The two ways of exchange_identifier(), and what they share. Nothing here says who computes: no host names, no process
// numbers, neither in files nor in messages.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/comm/communicator.hpp"

namespace trainfare::kernels::comm {

using Bytes = std::vector<std::byte>;
constexpr std::size_t max_identifier = 64 * 1024;

class Deadline {
public:
    using Clock = std::chrono::steady_clock;

    explicit Deadline(double seconds);
    [[nodiscard]] bool passed() const { return Clock::now() >= end_; }
    /// At most @p most, never below 0.
    [[nodiscard]] std::chrono::milliseconds left(std::chrono::milliseconds most) const;

private:
    Clock::time_point end_;
};

/// "rank 3 did not come within 60 s" or "ranks 1, 2 and 30 others did not come within 60 s".
std::string missing_ranks(std::vector<int> const& missing, double timeout_s);

Bytes exchange_by_file(Rendezvous const&, Bytes const& from_rank_0);
Bytes exchange_by_tcp(Rendezvous const&, Bytes const& from_rank_0);

} // namespace trainfare::kernels::comm
