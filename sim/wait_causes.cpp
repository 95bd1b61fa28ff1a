// SPDX-License-Identifier: Apache-2.0
//
// Every step back goes to an earlier task, and the waits of one class do not overlap, so explaining all of them is
// linear in tasks.
#include "sim/wait_causes.hpp"

namespace trainfare {

namespace {

Cause cause_of_exchange(Activity activity)
{
    switch (activity) {
    case Activity::dispatch: return Cause::dispatch;
    case Activity::combine: return Cause::combine;
    case Activity::pipeline_send: return Cause::pipeline_send;
    case Activity::data_parallel: return Cause::data_parallel;
    case Activity::compute:
    case Activity::optimizer:
    case Activity::wait: break;
    }
    return Cause::bubble;
}

bool delivers_to_other_groups(Activity activity)
{
    return activity == Activity::pipeline_send || activity == Activity::data_parallel;
}

} // namespace

CauseSeconds split_wait(StepView const& view, std::uint32_t waiting, std::optional<TaskRef> blocker, bool at_others,
                        double from, double until)
{
    CauseSeconds out{};
    while (blocker && until > from) {
        auto const [group_class, task] = *blocker;
        double const begin = std::clamp(view.run.classes[group_class].start[task], from, until);
        double const time = until - begin;
        auto const kind = view.task(*blocker).kind;
        auto const activity = view.label(*blocker).activity;
        bool const own = group_class == waiting;
        if (!own && kind != TaskKind::join && !delivers_to_other_groups(activity)) at_others = true;

        if (kind == TaskKind::communicate && (own || !at_others)) {
            part(out, cause_of_exchange(activity)) += time;
        } else {
            double const straggling = !own && kind == TaskKind::compute ? time * view.excess(group_class) : 0;
            part(out, Cause::straggler) += straggling;
            part(out, Cause::bubble) += time - straggling;
        }
        until = begin;
        blocker = latest_dependency(view.folded, view.run, *blocker);
    }
    part(out, Cause::bubble) += until - from;
    return out;
}

} // namespace trainfare
