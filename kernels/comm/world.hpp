// SPDX-License-Identifier: Apache-2.0
//
// Where the ranks of `threads` wait for each other. One lock and one place to wait for all groups: so it is known at
// any time who waits for what, and an order of calls that would hang on a GPU becomes an error that names every rank.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/error.hpp"

namespace trainfare::kernels::comm {

/// Thrown by the calls of ranks that another rank's failure has woken; run_ranks() does not report it.
class Woken : public InternalError {
public:
    using InternalError::InternalError;
};

class World {
public:
    using Lock = std::unique_lock<std::mutex>;

    explicit World(int ranks) : places_(static_cast<std::size_t>(ranks)) {}

    /// The lock under which everything that a `ready` below looks at is read and written.
    [[nodiscard]] Lock lock() { return Lock{mutex_}; }

    /// Rank @p rank waits until @p ready. @throws Woken when another rank failed, InternalError when every rank waits.
    void wait(Lock&, int rank, std::string what, std::function<bool()> ready);
    /// @throws Woken when a rank has failed: what is called after that has no meaning.
    void check(std::string_view what) const;
    /// To be called after changes that may make someone ready.
    void changed() { condition_.notify_all(); }

    void rank_failed(int rank);
    void rank_ended(int rank);

private:
    struct Place { // what one rank is doing
        bool ended = false;
        std::string what;
        std::function<bool()> ready; // empty: it runs
    };

    void find_standstill();

    std::mutex mutex_;
    std::condition_variable condition_;
    std::vector<Place> places_;
    std::optional<int> failed_; // a rank
    std::string standstill_;    // who waits for what, once all do
};

} // namespace trainfare::kernels::comm
