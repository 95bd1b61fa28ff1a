// SPDX-License-Identifier: Apache-2.0
//
// Slots -> tasks. One program per pipeline rank; groups of a rank run the same program.
#include "sim/iteration.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "model/error.hpp"
#include "sim/slot_steps.hpp"
#include "sim/traffic.hpp"

namespace trainfare {
namespace {

constexpr std::uint32_t none = ~std::uint32_t{0};

/// Where the output of a pass of one micro-batch over one model stage comes from.
struct Produced {
    int rank = -1;
    std::uint32_t done = none; // task that completes it on its rank
    std::uint32_t sent = none; // its pipeline send; none where the next stage lives on the same rank
};

/// Everything that ranks need to know of each other, by (micro-batch, stage).
class Passes {
public:
    explicit Passes(PipelineSchedule const& schedule)
        : stages_{schedule.stages}, home_(static_cast<std::size_t>(schedule.micro_batches * schedule.stages), -1)
    {
        produced_[0].resize(home_.size()), produced_[1].resize(home_.size());
        for (int rank = 0; rank < schedule.ranks; ++rank)
            for (auto const& slot : schedule.slots[static_cast<std::size_t>(rank)])
                if (slot.kind == SlotKind::forward || slot.kind == SlotKind::overlapped)
                    home_[index(slot.micro_batch, schedule.stage_of(rank, slot.chunk))] = rank;
    }
    [[nodiscard]] int home(int micro_batch, int stage) const { return home_[index(micro_batch, stage)]; }
    [[nodiscard]] Produced& of(bool backward, int micro_batch, int stage)
    {
        return produced_[backward][index(micro_batch, stage)];
    }

private:
    [[nodiscard]] std::size_t index(int micro_batch, int stage) const
    {
        return static_cast<std::size_t>(micro_batch) * static_cast<std::size_t>(stages_) +
               static_cast<std::size_t>(stage);
    }
    int stages_;
    std::vector<int> home_;
    std::vector<Produced> produced_[2];
};

/// A task that waits for a neighbour's send; the send's index is known when all programs are built.
struct Receive {
    int rank;
    std::uint32_t task;
    bool backward;
    int micro_batch, stage; // of the pass that is waited for
};

class ProgramBuilder {
public:
    ProgramBuilder(StepModel const& step, int rank, Passes& passes, Iteration& out, std::vector<Receive>& receives,
                   std::map<ClassSeconds const*, std::uint32_t>& segments)
        : step_{step}, stage_{step.stages[static_cast<std::size_t>(rank)]}, rank_{rank}, passes_{passes}, out_{out},
          receives_{receives}, segments_{segments}, gathered_(stage_.blocks.size(), none),
          freed_(stage_.blocks.size(), none)
    {
    }

    Program build(std::vector<TaskLabel>& labels)
    {
        auto const& slots = step_.schedule.slots[static_cast<std::size_t>(rank_)];
        bool const overlap = step_.plan.overlap_dp;
        bool const gathers = moves_gradients() && step_.plan.zero < 3; // ZeRO-3 does it in every pass
        if (overlap && gathers) gather_all(none);
        find_last_uses(slots);
        for (std::size_t i = 0; i < slots.size(); ++i) slot(slots[i], static_cast<int>(i));
        if (moves_gradients() && !overlap && step_.plan.zero < 2)
            for (std::size_t b = 0; b < stage_.blocks.size(); ++b) reduce(b, freed_[b]);
        auto const update = optimizer(data_);
        if (gathers && !overlap) gather_all(update);
        labels = std::move(labels_);
        return std::move(program_);
    }

private:
    // ---- tasks ----------------------------------------------------------------------------------------------------
    std::uint32_t add(Task const& task, std::vector<std::uint32_t> after, TaskLabel const& label)
    {
        std::erase(after, none);
        std::sort(after.begin(), after.end());
        after.erase(std::unique(after.begin(), after.end()), after.end());
        labels_.push_back(label);
        return program_.add(task, after);
    }

    std::uint32_t compute(ClassSeconds const& parts, std::vector<std::uint32_t> after, TaskLabel label)
    {
        auto const [entry, fresh] = segments_.try_emplace(&parts, static_cast<std::uint32_t>(out_.segments.size()));
        if (fresh) out_.segments.push_back(parts);
        label.segment = entry->second;
        Task task;
        task.kind = TaskKind::compute;
        task.seconds = seconds(parts);
        after.push_back(compute_);
        before_ = compute_;
        return compute_ = add(task, std::move(after), label);
    }

    std::uint32_t communicate(Channel channel, double payload, double latency, std::uint32_t& stream,
                              std::vector<std::uint32_t> after, TaskLabel label, Activity activity)
    {
        Task task;
        task.kind = TaskKind::communicate;
        task.channel = channel;
        task.seconds = latency;
        task.payload = payload;
        label.activity = activity;
        after.push_back(stream);
        return stream = add(task, std::move(after), label);
    }

    // ---- one slot -------------------------------------------------------------------------------------------------
    void slot(Slot const& s, int index)
    {
        TaskLabel label;
        label.slot_kind = s.kind;
        label.slot = index;
        std::uint32_t chain[2] = {input_here(s, false), input_here(s, true)};
        for (auto const& step : slot_steps(step_, rank_, s)) {
            label.backward = step.backward;
            label.block = static_cast<std::int16_t>(step.block);
            auto& at = chain[step.backward ? 1 : 0];
            auto const block = static_cast<std::size_t>(step.block);
            std::uint32_t first = none;
            if (step.gathers) gathered_[block] = gather(block, step_.plan.overlap_dp ? before_ : compute_);
            if (step.compute) {
                std::vector<std::uint32_t> after{step.weight ? none : at};
                if (step.block_begin) after.push_back(gathered_[block]);
                label.activity = Activity::compute;
                first = compute(*step.compute, std::move(after), label);
                if (!step.weight) at = first;
            }
            if (step.exchanges) {
                at = communicate(Channel::expert, step.payload, step_.exchange_latency, exchange_, {at}, label,
                                 step.is_dispatch ? Activity::dispatch : Activity::combine);
                if (first == none) first = at;
            }
            if (step.first) take_input(s, step.backward, first);
            if (step.block_end && step.backward && last_use_[block] == index) freed_[block] = compute_;
            bool const last = step.block_end && freed_[block] == compute_;
            if (moves_gradients() && (step.reduces || (last && step_.plan.zero < 2 && step_.plan.overlap_dp))) {
                auto const reduced = reduce(block, compute_);
                if (!step_.plan.overlap_dp) compute_ = reduced;
            }
        }
        bool const forward = s.kind == SlotKind::forward || s.kind == SlotKind::overlapped;
        if (forward) give_output(s.chunk, s.micro_batch, false, chain[0], label);
        if (s.kind == SlotKind::overlapped)
            give_output(s.backward_chunk, s.backward_micro_batch, true, chain[1], label);
        if (s.kind == SlotKind::backward || s.kind == SlotKind::backward_input)
            give_output(s.chunk, s.micro_batch, true, chain[1], label);
    }

    /// Where the input of a slot's forward or backward half comes from: the stage before or after it.
    struct Input {
        int micro_batch = 0, stage = -1;
    };
    [[nodiscard]] Input input_of(Slot const& s, bool backward) const
    {
        bool const second = backward && s.kind == SlotKind::overlapped;
        int const chunk = second ? s.backward_chunk : s.chunk;
        return {second ? s.backward_micro_batch : s.micro_batch,
                step_.schedule.stage_of(rank_, chunk) + (backward ? 1 : -1)};
    }
    [[nodiscard]] bool comes_from_a_stage(Input const& in) const
    {
        return in.stage >= 0 && in.stage < step_.schedule.stages;
    }

    /// On the same rank (the turn of a V) the producer is an earlier slot: its last task; elsewhere or at the ends:
    /// none.
    [[nodiscard]] std::uint32_t input_here(Slot const& s, bool backward) const
    {
        bool const has = backward ? s.kind != SlotKind::forward && s.kind != SlotKind::backward_weight
                                  : s.kind == SlotKind::forward || s.kind == SlotKind::overlapped;
        if (!has) return none;
        auto const in = input_of(s, backward);
        if (!comes_from_a_stage(in) || passes_.home(in.micro_batch, in.stage) != rank_) return none;
        return passes_.of(backward, in.micro_batch, in.stage).done;
    }

    void take_input(Slot const& s, bool backward, std::uint32_t task)
    {
        auto const in = input_of(s, backward);
        if (comes_from_a_stage(in) && passes_.home(in.micro_batch, in.stage) != rank_)
            receives_.push_back({rank_, task, backward, in.micro_batch, in.stage});
    }

    void give_output(int chunk, int micro_batch, bool backward, std::uint32_t done, TaskLabel label)
    {
        int const stage = step_.schedule.stage_of(rank_, chunk), target = stage + (backward ? -1 : 1);
        auto& produced = passes_.of(backward, micro_batch, stage);
        produced.rank = rank_, produced.done = done;
        if (target < 0 || target >= step_.schedule.stages) return;
        int const home = passes_.home(micro_batch, target);
        if (home == rank_) return;
        bool const next = home == (rank_ + 1) % step_.schedule.ranks;
        label.backward = backward;
        produced.sent =
            communicate(next ? Channel::to_next : Channel::to_previous, step_.send_payload, step_.send_latency,
                        next ? send_next_ : send_previous_, {done}, label, Activity::pipeline_send);
        if (!step_.plan.overlap_pp) compute_ = join({compute_, produced.sent}, label);
    }

    std::uint32_t join(std::vector<std::uint32_t> after, TaskLabel label)
    {
        label.activity = Activity::wait;
        return add(Task{}, std::move(after), label);
    }

    // ---- data-parallel exchange -------------------------------------------------------------------------------------
    [[nodiscard]] bool moves_gradients() const { return stage_.reduce_seconds > 0; }

    void find_last_uses(std::vector<Slot> const& slots)
    {
        last_use_.assign(stage_.blocks.size(), -1);
        for (std::size_t i = 0; i < slots.size(); ++i) {
            auto const& s = slots[i];
            if (s.kind == SlotKind::forward) continue;
            auto const chunk = static_cast<std::size_t>(s.kind == SlotKind::overlapped ? s.backward_chunk : s.chunk);
            for (int b = stage_.chunk_begin[chunk]; b < stage_.chunk_begin[chunk + 1]; ++b) {
                auto const block = static_cast<std::size_t>(b);
                // A block without weight products (an embedding) has no part in weight slots: its input gradient is all
                // there is.
                bool const postponed = weight_seconds(stage_.blocks[block].priced) > 0;
                if (s.kind == (postponed ? SlotKind::backward_input : SlotKind::backward_weight)) continue;
                last_use_[block] = static_cast<int>(i);
            }
        }
    }

    /// Gradients of one block, once all groups of the rank have them.
    std::uint32_t reduce(std::size_t block, std::uint32_t after)
    {
        TaskLabel label;
        label.block = static_cast<std::int16_t>(block);
        label.backward = true;
        auto const ready = join({after}, label);
        Task& barrier = program_.tasks[ready];
        barrier.peer = Peer::team, barrier.peer_task = after;
        return exchange_data(block, 1, {ready}, label);
    }

    std::uint32_t gather(std::size_t block, std::uint32_t after)
    {
        TaskLabel label;
        label.block = static_cast<std::int16_t>(block);
        return exchange_data(block, step_.gather_share, {after}, label);
    }

    void gather_all(std::uint32_t after)
    {
        for (std::size_t b = 0; b < stage_.blocks.size(); ++b) gathered_[b] = gather(b, after);
    }

    std::uint32_t exchange_data(std::size_t block, double share, std::vector<std::uint32_t> const& after,
                                TaskLabel const& label)
    {
        auto const& cost = stage_.blocks[block];
        auto const dense = communicate(Channel::data_dense, cost.dense_bytes * share, step_.data_latency, data_, after,
                                       label, Activity::data_parallel);
        if (cost.expert_bytes == 0) return dense;
        return communicate(Channel::data_expert, cost.expert_bytes * share, step_.data_latency, data_, after, label,
                           Activity::data_parallel);
    }

    std::uint32_t optimizer(std::uint32_t reduced)
    {
        TaskLabel label;
        label.activity = Activity::optimizer;
        optimizer_time_[static_cast<std::size_t>(OpClass::optimizer)] = stage_.optimizer_seconds;
        Task task;
        task.kind = TaskKind::compute;
        task.seconds = stage_.optimizer_seconds;
        label.segment = static_cast<std::uint32_t>(out_.segments.size());
        out_.segments.push_back(optimizer_time_);
        return compute_ = add(task, {compute_, reduced}, label);
    }

    StepModel const& step_;
    StageCost const& stage_;
    int rank_;
    Passes& passes_;
    Iteration& out_;
    std::vector<Receive>& receives_;
    std::map<ClassSeconds const*, std::uint32_t>& segments_;
    std::vector<std::uint32_t> gathered_, freed_;
    std::vector<int> last_use_;
    ClassSeconds optimizer_time_{};
    Program program_;
    std::vector<TaskLabel> labels_;
    std::uint32_t compute_ = none, before_ = none, exchange_ = none, send_next_ = none, send_previous_ = none,
                  data_ = none;
};

/// Now that every send has an index, let the receivers wait for it.
void connect(StepModel const& step, Passes& passes, std::vector<Receive> const& receives,
             std::vector<Program>& programs)
{
    int const ranks = step.schedule.ranks;
    for (auto const& r : receives) {
        auto const& from = passes.of(r.backward, r.micro_batch, r.stage);
        auto& task = programs[static_cast<std::size_t>(r.rank)].tasks[r.task];
        if (from.sent == none)
            throw InternalError(fmt::format("rank {} waits for micro-batch {} of stage {}, which nobody sends", r.rank,
                                            r.micro_batch, r.stage));
        task.peer = from.rank == (r.rank + ranks - 1) % ranks ? Peer::previous : Peer::next;
        task.peer_task = from.sent;
    }
}

} // namespace

Iteration build_iteration(StepModel const& step, Cluster const& cluster)
{
    Iteration out;
    auto const& plan = step.plan;
    RankMap const map{plan, cluster};
    Network const network{cluster};

    Passes passes{step.schedule};
    std::vector<Receive> receives;
    std::map<ClassSeconds const*, std::uint32_t> segments;
    out.labels.resize(static_cast<std::size_t>(step.schedule.ranks));
    for (int rank = 0; rank < step.schedule.ranks; ++rank)
        out.problem.programs.push_back(ProgramBuilder{step, rank, passes, out, receives, segments}.build(
            out.labels[static_cast<std::size_t>(rank)]));
    connect(step, passes, receives, out.problem.programs);

    int const per_rank = map.groups_per_rank(), ranks = map.pipeline_ranks();
    for (int id = 0; id < ranks * per_rank; ++id) {
        int const rank = id / per_rank, index = id % per_rank;
        Group group;
        group.program = static_cast<std::uint32_t>(rank);
        group.previous = static_cast<std::uint32_t>(map.group_id((rank + ranks - 1) % ranks, index));
        group.next = static_cast<std::uint32_t>(map.group_id((rank + 1) % ranks, index));
        group.team = static_cast<std::uint32_t>(rank);
        out.problem.groups.push_back(group);
    }
    for (auto const& fault : cluster.faults) { // a slow GPU slows its whole group: they meet in every layer
        if (fault.kind != Fault::Kind::slow_gpu) continue;
        for (int id = 0; id < ranks * per_rank; ++id)
            for (int i = 0; i < map.group_size(); ++i)
                if (map.gpu(id, i) == fault.index) {
                    auto& slowdown = out.problem.groups[static_cast<std::size_t>(id)].slowdown;
                    slowdown = std::max(slowdown, 1 / fault.factor);
                }
    }
    out.problem.teams.resize(static_cast<std::size_t>(ranks));
    for (int id = 0; id < ranks * per_rank; ++id)
        out.problem.teams[static_cast<std::size_t>(id / per_rank)].push_back(static_cast<std::uint32_t>(id));
    out.problem.links = network.links();
    out.problem.flows = make_flows(plan, cluster, map, network, step.routing.count > 0 ? &step.routing : nullptr);
    return out;
}

} // namespace trainfare
