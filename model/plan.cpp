// SPDX-License-Identifier: Apache-2.0
//
// The words of a plan, and how many model stages its schedule cuts the model into.
#include "model/plan.hpp"

#include <array>
#include <utility>

namespace trainfare {

namespace {

template <class E, std::size_t N>
using Names = std::array<std::pair<E, std::string_view>, N>;

constexpr Names<ScheduleKind, 8> schedule_names{{{ScheduleKind::none, "none"},
                                                 {ScheduleKind::gpipe, "gpipe"},
                                                 {ScheduleKind::one_f_one_b, "1f1b"},
                                                 {ScheduleKind::interleaved, "interleaved"},
                                                 {ScheduleKind::zb_h1, "zb_h1"},
                                                 {ScheduleKind::zb_v, "zb_v"},
                                                 {ScheduleKind::dualpipe, "dualpipe"},
                                                 {ScheduleKind::dualpipe_v, "dualpipev"}}};

constexpr Names<RecomputeKind, 3> recompute_names{
    {{RecomputeKind::none, "none"}, {RecomputeKind::selective, "selective"}, {RecomputeKind::full, "full"}}};

constexpr Names<Dispatcher, 4> dispatcher_names{{{Dispatcher::none, "none"},
                                                 {Dispatcher::alltoall, "alltoall"},
                                                 {Dispatcher::allgather, "allgather"},
                                                 {Dispatcher::deepep, "deepep"}}};

template <class E, std::size_t N>
std::string_view name_in(Names<E, N> const& names, E value)
{
    for (auto const& [key, text] : names)
        if (key == value) return text;
    return "unknown";
}

template <class E, std::size_t N>
std::optional<E> value_in(Names<E, N> const& names, std::string_view text)
{
    for (auto const& [key, known] : names)
        if (known == text) return key;
    return {};
}

} // namespace

int model_stages(Plan const& plan)
{
    switch (plan.schedule) {
    case ScheduleKind::interleaved: return plan.pp * plan.vpp;
    case ScheduleKind::zb_v:
    case ScheduleKind::dualpipe_v: return 2 * plan.pp;
    default: return plan.pp; // DualPipe too: a rank holds two of the pp stages, each stage is held twice
    }
}

std::string_view name(ScheduleKind kind) { return name_in(schedule_names, kind); }
std::string_view name(RecomputeKind kind) { return name_in(recompute_names, kind); }
std::string_view name(Dispatcher kind) { return name_in(dispatcher_names, kind); }
std::optional<ScheduleKind> schedule_from(std::string_view text) { return value_in(schedule_names, text); }
std::optional<RecomputeKind> recompute_from(std::string_view text) { return value_in(recompute_names, text); }
std::optional<Dispatcher> dispatcher_from(std::string_view text) { return value_in(dispatcher_names, text); }

} // namespace trainfare
