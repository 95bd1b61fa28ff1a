// SPDX-License-Identifier: Apache-2.0
//
// Waiting, and telling that it is in vain.
#include "kernels/comm/world.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace trainfare::kernels::comm {

void World::wait(Lock& lock, int rank, std::string what, std::function<bool()> ready)
{
    auto& place = places_[static_cast<std::size_t>(rank)];
    place.what = std::move(what);
    place.ready = std::move(ready);
    find_standstill();
    condition_.wait(lock, [&] { return place.ready() || failed_ || !standstill_.empty(); });
    bool const is_ready = place.ready();
    place.ready = nullptr;
    if (is_ready) return;
    check(place.what);
    throw InternalError("every rank waits for another: " + standstill_);
}

void World::check(std::string_view what) const
{
    if (failed_) throw Woken(fmt::format("rank {} failed while this one was in {}", *failed_, what));
}

void World::rank_failed(int rank)
{
    auto const held = lock();
    places_[static_cast<std::size_t>(rank)].ended = true;
    if (!failed_) failed_ = rank;
    changed();
}

void World::rank_ended(int rank)
{
    auto const held = lock();
    places_[static_cast<std::size_t>(rank)].ended = true;
    find_standstill();
}

/// Nobody runs, and nobody of those who wait can go on: it will stay so.
void World::find_standstill()
{
    auto const can_go_on = [](Place const& place) { return !place.ended && (!place.ready || place.ready()); };
    auto const has_ended = [](Place const& place) { return place.ended; };
    if (!standstill_.empty() || failed_ || std::any_of(places_.begin(), places_.end(), can_go_on) ||
        std::all_of(places_.begin(), places_.end(), has_ended))
        return;
    for (std::size_t rank = 0; rank < places_.size(); ++rank)
        standstill_ += fmt::format("{}rank {} {}", rank == 0 ? "" : ", ", rank,
                                   places_[rank].ended ? "has ended" : "in " + places_[rank].what);
    changed();
}

} // namespace trainfare::kernels::comm
