// SPDX-License-Identifier: Apache-2.0
//
// The programs of an iteration: complete, in order, every wait for somebody who sends, and no work that starts too
// early.
#include "sim/iteration.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "sim/causes.hpp"
#include "sim/traffic.hpp"
#include "tests/catch.hpp"
#include "tests/sim/small_cases.hpp"

using namespace trainfare;
using namespace trainfare::small_cases;

namespace {

bool runs_forward(SlotKind kind) { return kind == SlotKind::forward || kind == SlotKind::overlapped; }
bool runs_backward(SlotKind kind)
{
    return kind == SlotKind::backward || kind == SlotKind::backward_input || kind == SlotKind::overlapped;
}

struct Pass {
    int rank = 0;
    std::int32_t slot = 0;
};

/// Which slot of which rank runs each (micro-batch, stage), forward or backward.
std::map<std::pair<int, int>, Pass> passes(PipelineSchedule const& s, bool backward)
{
    std::map<std::pair<int, int>, Pass> out;
    for (int rank = 0; rank < s.ranks; ++rank) {
        auto const& slots = s.slots[static_cast<std::size_t>(rank)];
        for (std::size_t i = 0; i < slots.size(); ++i) {
            auto const& x = slots[i];
            if (!(backward ? runs_backward(x.kind) : runs_forward(x.kind))) continue;
            bool const second = backward && x.kind == SlotKind::overlapped;
            out[{second ? x.backward_micro_batch : x.micro_batch,
                 s.stage_of(rank, second ? x.backward_chunk : x.chunk)}] = {rank, static_cast<std::int32_t>(i)};
        }
    }
    return out;
}

bool passes_data(Activity a) { return a == Activity::compute || a == Activity::dispatch || a == Activity::combine; }

/// Tasks of one pass on its rank.
std::vector<std::uint32_t> tasks_of(Iteration const& it, Pass pass, bool backward)
{
    std::vector<std::uint32_t> out;
    auto const& labels = it.labels[static_cast<std::size_t>(pass.rank)];
    for (std::uint32_t t = 0; t < labels.size(); ++t)
        if (labels[t].slot == pass.slot && labels[t].backward == backward && passes_data(labels[t].activity))
            out.push_back(t);
    return out;
}

/// Does @p task wait, over tasks of its own program, for @p other?
bool waits_for(Program const& program, std::uint32_t task, std::uint32_t other)
{
    std::vector<char> seen(program.tasks.size(), 0);
    std::vector<std::uint32_t> open{task};
    while (!open.empty()) {
        auto const at = open.back();
        open.pop_back();
        if (at == other) return true;
        if (at < other || seen[at]) continue;
        seen[at] = 1;
        auto const& t = program.tasks[at];
        for (std::uint32_t d = 0; d < t.dependencies; ++d) open.push_back(program.dependencies[t.first_dependency + d]);
    }
    return false;
}

template <class Check>
void for_every_schedule(Check const& check)
{
    for (auto const& s : schedules()) {
        DYNAMIC_SECTION(words(s))
        {
            auto const c = moe_case(s.kind, 4, 16, 16, s.micro_batches, s.overlap);
            auto const step = price(c);
            check(step, build_iteration(step, c.cluster));
        }
    }
}

} // namespace

TEST_CASE("every task has a label, tasks come after what they wait for, and compute points at its price")
{
    for_every_schedule([](StepModel const&, Iteration const& it) {
        REQUIRE(it.labels.size() == it.problem.programs.size());
        for (std::size_t p = 0; p < it.labels.size(); ++p) {
            auto const& program = it.problem.programs[p];
            REQUIRE(it.labels[p].size() == program.tasks.size());
            std::size_t early = 0, mispriced = 0;
            for (std::uint32_t t = 0; t < program.tasks.size(); ++t) {
                auto const& task = program.tasks[t];
                for (std::uint32_t d = 0; d < task.dependencies; ++d)
                    early += program.dependencies[task.first_dependency + d] >= t;
                bool const computes =
                    it.labels[p][t].activity == Activity::compute || it.labels[p][t].activity == Activity::optimizer;
                CHECK(computes == (task.kind == TaskKind::compute));
                if (computes) mispriced += seconds(it.segments.at(it.labels[p][t].segment)) != Approx(task.seconds);
            }
            CHECK(early == 0);
            CHECK(mispriced == 0);
        }
    });
}

TEST_CASE("each micro-batch is sent once between every two neighbouring stages of different ranks, and awaited once")
{
    for_every_schedule([](StepModel const& step, Iteration const& it) {
        int const ranks = step.schedule.ranks;
        std::vector<int> expected(static_cast<std::size_t>(ranks), 0);
        for (bool const backward : {false, true}) {
            auto const all = passes(step.schedule, backward);
            for (auto const& [key, pass] : all) {
                auto const other = all.find({key.first, key.second + (backward ? -1 : 1)});
                if (other != all.end() && other->second.rank != pass.rank)
                    ++expected[static_cast<std::size_t>(pass.rank)];
            }
        }
        std::set<std::pair<std::size_t, std::uint32_t>> sends;
        std::multiset<std::pair<std::size_t, std::uint32_t>> awaited;
        for (std::size_t p = 0; p < it.labels.size(); ++p) {
            auto const n = static_cast<std::size_t>(ranks);
            int count = 0;
            for (std::uint32_t t = 0; t < it.labels[p].size(); ++t) {
                auto const& task = it.problem.programs[p].tasks[t];
                if (it.labels[p][t].activity == Activity::pipeline_send) ++count, sends.insert({p, t});
                if (task.peer == Peer::previous) awaited.insert({(p + n - 1) % n, task.peer_task});
                if (task.peer == Peer::next) awaited.insert({(p + 1) % n, task.peer_task});
            }
            CHECK(count == expected[p]);
        }
        CHECK(sends.size() == awaited.size());
        CHECK(std::set(awaited.begin(), awaited.end()) == sends);
    });
}

TEST_CASE("a pass that another rank feeds starts with the wait for it, on the right channel")
{
    for_every_schedule([](StepModel const& step, Iteration const& it) {
        auto const ranks = static_cast<std::size_t>(step.schedule.ranks);
        for (bool const backward : {false, true}) {
            auto const all = passes(step.schedule, backward);
            for (auto const& [key, pass] : all) {
                auto const from = all.find({key.first, key.second + (backward ? 1 : -1)});
                if (from == all.end() || from->second.rank == pass.rank) continue;
                auto const own = tasks_of(it, pass, backward);
                REQUIRE_FALSE(own.empty());
                auto const& task = it.problem.programs[static_cast<std::size_t>(pass.rank)].tasks[own.front()];
                auto const rank = static_cast<std::size_t>(pass.rank),
                           other = static_cast<std::size_t>(from->second.rank);
                CHECK((task.peer == Peer::previous || task.peer == Peer::next));
                CHECK(other == (rank + (task.peer == Peer::next ? 1 : ranks - 1)) % ranks);
                auto const& send = it.labels[other].at(task.peer_task);
                CHECK(send.activity == Activity::pipeline_send);
                CHECK(send.slot == from->second.slot);
                CHECK(send.backward == backward);
                auto const channel = it.problem.programs[other].tasks[task.peer_task].channel;
                CHECK(channel == (task.peer == Peer::previous ? Channel::to_next : Channel::to_previous));
            }
        }
    });
}

TEST_CASE("a send waits for everything its pass computed and exchanged, weight gradients apart")
{
    for_every_schedule([](StepModel const& step, Iteration const& it) {
        for (bool const backward : {false, true})
            for (auto const& [key, pass] : passes(step.schedule, backward)) {
                auto const rank = static_cast<std::size_t>(pass.rank);
                std::uint32_t send = ~0U;
                for (std::uint32_t t = 0; t < it.labels[rank].size(); ++t) {
                    auto const& l = it.labels[rank][t];
                    if (l.slot == pass.slot && l.backward == backward && l.activity == Activity::pipeline_send)
                        send = t;
                }
                if (send == ~0U) continue;
                for (auto const task : tasks_of(it, pass, backward))
                    if (!backward || it.labels[rank][task].activity != Activity::compute)
                        CHECK(waits_for(it.problem.programs[rank], send, task));
            }
    });
}

TEST_CASE("where a V turns, the next stage on the same rank waits for the last exchange of the one before")
{
    for_every_schedule([](StepModel const& step, Iteration const& it) {
        int turns = 0;
        for (bool const backward : {false, true}) {
            auto const all = passes(step.schedule, backward);
            for (auto const& [key, pass] : all) {
                auto const from = all.find({key.first, key.second + (backward ? 1 : -1)});
                if (from == all.end() || from->second.rank != pass.rank) continue;
                ++turns;
                auto const consumer = tasks_of(it, pass, backward), producer = tasks_of(it, from->second, backward);
                auto const& labels = it.labels[static_cast<std::size_t>(pass.rank)];
                REQUIRE_FALSE(consumer.empty());
                for (auto const task : producer)
                    if (!backward || labels[task].activity != Activity::compute)
                        CHECK(waits_for(it.problem.programs[static_cast<std::size_t>(pass.rank)], consumer.front(),
                                        task));
            }
        }
        bool const v = step.schedule.kind == ScheduleKind::zb_v || step.schedule.kind == ScheduleKind::dualpipe_v;
        int const expected = v ? 2 * step.schedule.micro_batches : 0;
        CHECK(turns == expected);
    });
}

TEST_CASE("a backward pass waits for all of its own forward pass")
{
    for_every_schedule([](StepModel const& step, Iteration const& it) {
        auto const forward = passes(step.schedule, false), backward = passes(step.schedule, true);
        int const last =
            step.schedule.stages - 1; // elsewhere the gradient comes from a stage that waited for the forward
        for (int m = 0; m < step.schedule.micro_batches; ++m) {
            auto const produced = tasks_of(it, forward.at({m, last}), false);
            auto const first = tasks_of(it, backward.at({m, last}), true).front();
            auto const rank = static_cast<std::size_t>(backward.at({m, last}).rank);
            for (auto const task : produced) CHECK(waits_for(it.problem.programs[rank], first, task));
        }
    });
}

TEST_CASE("only the first stage's first pass and the gathering of weights start without waiting")
{
    for_every_schedule([](StepModel const& step, Iteration const& it) {
        for (std::size_t p = 0; p < it.labels.size(); ++p) {
            auto const& slots = step.schedule.slots[p];
            std::vector<TaskLabel> roots;
            for (std::uint32_t t = 0; t < it.labels[p].size(); ++t) {
                auto const& task = it.problem.programs[p].tasks[t];
                if (task.dependencies == 0 && task.peer == Peer::none) roots.push_back(it.labels[p][t]);
            }
            bool const starts = step.schedule.stage_of(static_cast<int>(p), slots.front().chunk) == 0;
            for (auto const& root : roots) {
                bool const gather = root.activity == Activity::data_parallel && root.slot < 0;
                bool const first = root.activity == Activity::compute && root.slot == 0 && starts;
                CHECK((gather || first));
            }
            CHECK(roots.size() <= 1); // the gathers come one after the other, and the first pass waits for its own
        }
    });
}

TEST_CASE("gradients move once per block after the last micro-batch, weights once before it is needed")
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 4, 32, 16, 6, false);
    auto const count = [](Iteration const& it, std::size_t p) {
        return std::count_if(it.labels[p].begin(), it.labels[p].end(),
                             [](auto const& l) { return l.activity == Activity::data_parallel; });
    };
    auto const expected = [](StageCost const& stage, int gradients, int weights) {
        long sum = 0;
        for (auto const& block : stage.blocks) sum += (gradients + weights) * (block.expert_bytes > 0 ? 2 : 1);
        return sum;
    };
    for (bool const overlap : {true, false})
        for (int const zero : {0, 1, 2, 3}) {
            c.plan.zero = zero, c.plan.overlap_dp = overlap;
            auto const step = price(c);
            auto const it = build_iteration(step, c.cluster);
            for (std::size_t p = 0; p < 4; ++p)
                CHECK(count(it, p) == expected(step.stages[p], zero >= 2 ? 6 : 1, zero == 3 ? 12 : 1));
        }
}

TEST_CASE("every block's gradients are reduced in every schedule, also those of blocks without weight products")
{
    for (auto const& s : schedules())
        for (bool const overlap : {true, false}) {
            DYNAMIC_SECTION(words(s) << (overlap ? "" : ", gradients not overlapped"))
            {
                auto c = moe_case(s.kind, 4, 32, 16, s.micro_batches, s.overlap);
                c.plan.overlap_dp = overlap;
                auto const step = price(c);
                auto const it = build_iteration(step, c.cluster);
                for (std::size_t p = 0; p < it.labels.size(); ++p) {
                    std::multiset<int> reduced, all;
                    for (std::uint32_t t = 0; t < it.labels[p].size(); ++t) {
                        auto const& task = it.problem.programs[p].tasks[t];
                        auto const& label = it.labels[p][t];
                        if (label.activity == Activity::data_parallel && task.channel == Channel::data_dense &&
                            label.backward)
                            reduced.insert(label.block);
                        if (task.peer == Peer::team) CHECK(task.peer_task < t);
                    }
                    for (std::size_t b = 0; b < step.stages[p].blocks.size(); ++b) all.insert(static_cast<int>(b));
                    CHECK(reduced == all);
                }
            }
        }
}

TEST_CASE("groups know their neighbours, and reduce gradients with all groups of their pipeline rank")
{
    auto const c = moe_case(ScheduleKind::one_f_one_b, 4, 32, 16, 6, false); // two groups a rank
    auto const problem = build_iteration(price(c), c.cluster).problem;
    REQUIRE(problem.groups.size() == 8);
    for (std::uint32_t g = 0; g < 8; ++g) {
        CHECK(problem.groups[g].program == g / 2);
        CHECK(problem.groups[g].next == (g + 2) % 8);
        CHECK(problem.groups[g].previous == (g + 6) % 8);
        CHECK(problem.teams.at(problem.groups[g].team) == std::vector{g / 2 * 2, g / 2 * 2 + 1});
    }
}

TEST_CASE("a slow GPU slows the group that it is in, aligned or spread, and the slower of two faults counts")
{
    auto c = moe_case(ScheduleKind::one_f_one_b, 2, 64, 32, 4, false); // two groups of four nodes a rank
    for (auto const placement : {Placement::aligned, Placement::spread}) {
        c.cluster.placement = placement;
        c.cluster.faults = {
            {Fault::Kind::slow_gpu, 72, 0.8}, {Fault::Kind::slow_gpu, 73, 0.5}, {Fault::Kind::slow_nic, 0, 0.5}};
        RankMap const map{c.plan, c.cluster};
        auto const problem = build_iteration(price(c), c.cluster).problem;
        int slow = 0;
        for (std::uint32_t g = 0; g < problem.groups.size(); ++g) {
            bool holds = false;
            for (int i = 0; i < map.group_size(); ++i) holds = holds || map.gpu(static_cast<int>(g), i) == 72;
            CHECK(problem.groups[g].slowdown == (holds ? 2 : 1));
            slow += holds;
        }
        CHECK(slow == 1);
        CHECK(problem.groups[placement == Placement::aligned ? 2 : 3].slowdown == 2);
    }
}

TEST_CASE("the causes of every group add up to the step, for every schedule, sound and with faults")
{
    for (auto const& s : schedules()) {
        DYNAMIC_SECTION(words(s))
        {
            auto c = moe_case(s.kind, 4, 32, 16, s.micro_batches, s.overlap);
            for (bool const faulty : {false, true}) {
                if (faulty) c.cluster.faults = {{Fault::Kind::slow_gpu, 40, 1 / 1.3}, {Fault::Kind::slow_nic, 3, 0.5}};
                auto const step = price(c);
                auto const it = build_iteration(step, c.cluster);
                auto const folded = fold(it.problem);
                auto const run = simulate(folded);
                auto const causes = split_by_cause(it, folded, run);
                auto const sum = [](CauseSeconds const& x) { return std::accumulate(x.begin(), x.end(), 0.0); };
                CHECK(sum(causes.mean) == Approx(run.makespan.value()).epsilon(1e-9));
                for (auto const& one : causes.by_class) {
                    CHECK(sum(one) == Approx(run.makespan.value()).epsilon(1e-9));
                    CHECK(*std::min_element(one.begin(), one.end()) >= -1e-12);
                }
                auto const& t = causes.slots;
                CHECK(t.forward + t.bubble + t.backward + t.weight + t.overlapped + t.optimizer ==
                      Approx(run.makespan.value()).epsilon(1e-9));
                CHECK(causes.exchange_hidden <= causes.exchange_busy * (1 + 1e-9));
                CHECK((causes.mean[static_cast<std::size_t>(Cause::straggler)] > 0) == faulty);
            }
        }
    }
}

TEST_CASE("under ZeRO-2 every block's gradients are reduced once in each of its backward passes")
{
    for (auto const kind : {ScheduleKind::one_f_one_b, ScheduleKind::zb_h1, ScheduleKind::dualpipe}) {
        auto c = moe_case(kind, 4, 32, 16, 8, kind == ScheduleKind::dualpipe);
        c.plan.zero = 2;
        auto const step = price(c);
        auto const it = build_iteration(step, c.cluster);
        std::vector<int> passes(step.stages[0].blocks.size(), 0), reduces(passes.size(), 0);
        for (auto const& slot : step.schedule.slots[0]) {
            if (slot.kind == SlotKind::forward || slot.kind == SlotKind::backward_weight) continue;
            auto const chunk = static_cast<std::size_t>(slot.kind == SlotKind::overlapped ? slot.backward_chunk : slot.chunk);
            for (int b = step.stages[0].chunk_begin[chunk]; b < step.stages[0].chunk_begin[chunk + 1]; ++b)
                ++passes[static_cast<std::size_t>(b)];
        }
        for (std::size_t t = 0; t < it.labels[0].size(); ++t) {
            auto const& task = it.problem.programs[0].tasks[t];
            if (task.kind == TaskKind::communicate && task.channel == Channel::data_dense && it.labels[0][t].backward)
                ++reduces[static_cast<std::size_t>(it.labels[0][t].block)];
        }
        INFO(name(kind));
        CHECK(reduces == passes);
    }
}
