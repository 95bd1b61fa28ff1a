// SPDX-License-Identifier: Apache-2.0
//
// Every schedule over a grid of small numbers: what holds for a schedule must hold for all of these.
#pragma once

#include <vector>

#include "model/schedule.hpp"

namespace trainfare::test {

struct ScheduleCase {
    ScheduleKind kind = ScheduleKind::none;
    int pp = 1;
    int vpp = 1;
    int micro_batches = 1;
    bool paired = false;
};

/// The rules as the papers state them, written down a second time.
inline bool is_possible(ScheduleCase const& c)
{
    switch (c.kind) {
    case ScheduleKind::none: return c.pp == 1 && c.vpp == 1;
    case ScheduleKind::interleaved: return c.pp >= 2 && c.vpp >= 2 && c.micro_batches % c.pp == 0;
    case ScheduleKind::zb_v: return c.vpp <= 2;
    case ScheduleKind::dualpipe:
        return c.vpp <= 2 && c.pp % 2 == 0 && c.micro_batches % 2 == 0 && c.micro_batches >= 2 * c.pp;
    case ScheduleKind::dualpipe_v: return c.vpp <= 2 && c.micro_batches >= 2 * c.pp;
    default: return c.vpp == 1;
    }
}

inline std::vector<ScheduleCase> schedule_grid()
{
    using enum ScheduleKind;
    std::vector<ScheduleCase> grid;
    for (auto const kind : {none, gpipe, one_f_one_b, interleaved, zb_h1, zb_v, dualpipe, dualpipe_v})
        for (auto const pp : {1, 2, 3, 4, 5, 6, 8, 16})
            for (auto const vpp : {1, 2, 3, 4})
                for (auto const micro_batches : {1, 2, 3, pp, pp + 1, 2 * pp - 1, 2 * pp, 2 * pp + 2, 3 * pp, 48})
                    for (auto const paired : {false, true}) grid.push_back({kind, pp, vpp, micro_batches, paired});
    return grid;
}

inline std::vector<ScheduleCase> possible_schedules()
{
    auto grid = schedule_grid();
    std::erase_if(grid, [](ScheduleCase const& c) { return !is_possible(c); });
    return grid;
}

inline PipelineSchedule make(ScheduleCase const& c)
{
    return make_schedule(c.kind, c.pp, c.vpp, c.micro_batches, c.paired);
}

} // namespace trainfare::test
