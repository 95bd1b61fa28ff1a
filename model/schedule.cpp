// SPDX-License-Identifier: Apache-2.0
//
// The way into pipeline schedules: are the numbers possible, which stage sits where, and what the papers promise.
#include "model/schedule.hpp"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "model/error.hpp"
#include "model/schedule_orders.hpp"

namespace trainfare {

namespace {

// Far beyond any training, yet every schedule within is laid out in well under a second.
constexpr int most_ranks = 512;
constexpr std::int64_t most_passes = 1'000'000; // 16 ranks x 8 chunks x 7812 micro-batches

bool is_dual(ScheduleKind kind) { return kind == ScheduleKind::dualpipe || kind == ScheduleKind::dualpipe_v; }

int chunks_per_rank(ScheduleKind kind, int vpp)
{
    if (kind == ScheduleKind::interleaved) return vpp;
    return is_dual(kind) || kind == ScheduleKind::zb_v ? 2 : 1;
}

int stages(ScheduleKind kind, int pp, int chunks) { return kind == ScheduleKind::dualpipe ? pp : pp * chunks; }

void check_sizes(ScheduleKind kind, int pp, int vpp, int micro_batches)
{
    if (pp < 1) throw InputError{fmt::format("plan.pp = {} (a pipeline has at least one rank); try 1", pp)};
    if (vpp < 1) throw InputError{fmt::format("plan.vpp = {} (a rank holds at least one chunk); try 1", vpp)};
    if (micro_batches < 1)
        throw InputError{fmt::format("plan.global_batch gives {} micro-batches (a step needs at least one); "
                                     "try dp x micro_batch or a multiple of it",
                                     micro_batches)};
    if (pp > most_ranks)
        throw InputError{fmt::format("plan.pp = {} (a schedule lays out at most {} ranks); try fewer", pp, most_ranks)};
    auto const passes = std::int64_t{pp} * chunks_per_rank(kind, vpp);
    if (passes > most_passes || passes * micro_batches > most_passes)
        throw InputError{fmt::format("plan.pp = {} and plan.vpp = {} with {} micro-batches (a schedule lays out at "
                                     "most {} passes); try fewer micro-batches",
                                     pp, vpp, micro_batches, most_passes)};
}

void check_interleaved(int pp, int vpp, int micro_batches)
{
    if (pp < 2)
        throw InputError{fmt::format("plan.pp = {} with schedule interleaved (chunks take turns between at least two "
                                     "ranks); try schedule none",
                                     pp)};
    if (vpp < 2)
        throw InputError{fmt::format("plan.vpp = {} with schedule interleaved (a rank must hold at least two chunks); "
                                     "try vpp = 2, or schedule 1f1b",
                                     vpp)};
    if (micro_batches % pp != 0)
        throw InputError{fmt::format("plan.global_batch gives {} micro-batches with schedule interleaved on pp = {} "
                                     "(they go round in groups of pp); try {} micro-batches",
                                     micro_batches, pp, (micro_batches / pp + 1) * std::int64_t{pp})};
}

void check_dual(ScheduleKind kind, int pp, int micro_batches)
{
    auto const two_ended = kind == ScheduleKind::dualpipe;
    if (two_ended && pp % 2 != 0)
        throw InputError{fmt::format("plan.pp = {} with schedule dualpipe (each rank pairs with its mirror image, so "
                                     "pp must be even); try {}",
                                     pp, pp + 1)};
    if (two_ended && micro_batches % 2 != 0)
        throw InputError{fmt::format("plan.global_batch gives {} micro-batches with schedule dualpipe (half of them "
                                     "enter at each end, so their number must be even); try {}",
                                     micro_batches, std::max(micro_batches + 1, 2 * pp))};
    if (micro_batches < 2 * pp)
        throw InputError{fmt::format("plan.global_batch gives {} micro-batches with schedule {} on pp = {} (filling "
                                     "and draining takes 2 pp of them); try {}, or schedule 1f1b",
                                     micro_batches, name(kind), pp, 2 * pp)};
}

void check_numbers(ScheduleKind kind, int pp, int vpp, int micro_batches)
{
    check_sizes(kind, pp, vpp, micro_batches);
    auto const chunks = chunks_per_rank(kind, vpp);
    if (vpp != 1 && vpp != chunks)
        throw InputError{fmt::format("plan.vpp = {} with schedule {} (its ranks hold {} chunk{} each); try vpp = 1, or "
                                     "schedule interleaved",
                                     vpp, name(kind), chunks, chunks == 1 ? "" : "s")};
    if (kind == ScheduleKind::none && pp != 1)
        throw InputError{
            fmt::format("plan.pp = {} with schedule none (more than one rank needs a schedule); try 1f1b", pp)};
    if (kind == ScheduleKind::interleaved) check_interleaved(pp, vpp, micro_batches);
    if (is_dual(kind)) check_dual(kind, pp, micro_batches);
}

SlotOrder order_of(ScheduleKind kind, int rank, int pp, int vpp, int micro_batches, bool paired)
{
    switch (kind) {
    case ScheduleKind::none: return one_f_one_b_order(paired ? 1 : 0, micro_batches, paired);
    case ScheduleKind::gpipe: return gpipe_order(micro_batches);
    case ScheduleKind::one_f_one_b:
        return one_f_one_b_order(paired ? 2 * (pp - 1 - rank) + 1 : pp - 1 - rank, micro_batches, paired);
    case ScheduleKind::interleaved: return interleaved_order(rank, pp, vpp, micro_batches, paired);
    case ScheduleKind::zb_h1: return zb_h1_order(rank, pp, micro_batches);
    case ScheduleKind::zb_v: return zb_v_order(rank, pp, micro_batches);
    case ScheduleKind::dualpipe: return dualpipe_order(rank, pp, micro_batches);
    case ScheduleKind::dualpipe_v: return dualpipe_v_order(rank, pp, micro_batches);
    }
    throw InternalError{fmt::format("schedule number {} has no order", static_cast<int>(kind))};
}

} // namespace

int PipelineSchedule::stage_of(int rank, int chunk) const
{
    switch (kind) {
    case ScheduleKind::zb_v:
    case ScheduleKind::dualpipe:
    case ScheduleKind::dualpipe_v: return chunk == 0 ? rank : stages - 1 - rank;
    default: return chunk * ranks + rank;
    }
}

PipelineSchedule make_schedule(ScheduleKind kind, int pp, int vpp, int micro_batches, bool pair_adjacent)
{
    check_numbers(kind, pp, vpp, micro_batches);
    auto const chunks = chunks_per_rank(kind, vpp);
    PipelineSchedule schedule{kind, pp, chunks, stages(kind, pp, chunks), micro_batches, {}};
    schedule.slots.reserve(static_cast<std::size_t>(pp));
    for (int rank = 0; rank < pp; ++rank)
        schedule.slots.push_back(order_of(kind, rank, pp, vpp, micro_batches, pair_adjacent));
    return schedule;
}

std::optional<double> published_bubble(ScheduleKind kind, int pp, int vpp, SlotTimes const& t)
{
    auto const dual = t.overlapped + t.backward - 3 * t.weight;
    switch (kind) {
    case ScheduleKind::none: return 0;
    case ScheduleKind::gpipe:
    case ScheduleKind::one_f_one_b: return (pp - 1) * (t.forward + t.backward);
    case ScheduleKind::interleaved: return (pp - 1) * (t.forward + t.backward) / vpp;
    case ScheduleKind::zb_h1: return (pp - 1) * (t.forward + t.backward - 2 * t.weight);
    case ScheduleKind::zb_v:
        if (t.forward == t.weight && t.backward == 2 * t.weight) return 0;
        return std::nullopt;
    case ScheduleKind::dualpipe: return (pp / 2 - 1) * dual;
    case ScheduleKind::dualpipe_v: return (pp - 1) * dual;
    }
    throw InternalError{fmt::format("schedule number {} has no published bubble", static_cast<int>(kind))};
}

} // namespace trainfare
