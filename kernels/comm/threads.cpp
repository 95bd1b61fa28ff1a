// SPDX-License-Identifier: Apache-2.0
//
// Ranks as threads of one process. Each call has the same three steps: everyone writes down what it was called
// with, everyone waits, then everyone reads from the others' memory; a second wait keeps that memory as it is until all
// have read. Sums add in the order of ranks, so results do not depend on which thread is faster.
#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <numeric>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "kernels/comm/checks.hpp"
#include "kernels/comm/communicator.hpp"
#include "kernels/comm/world.hpp"
#include "kernels/host/backend.hpp"

namespace trainfare::kernels {

using namespace comm;

namespace {

struct Group;

/// What a rank was called with, for the others to read. The tensor is a copy: it keeps the memory alive for a reader
/// even when the rank itself is woken by a failure and leaves.
struct Call {
    std::string_view operation{};
    Tensor in{};
    std::vector<std::int64_t> send_rows{};
    int number = 0; // color or root
    std::shared_ptr<Group> made{};
};

/// A send that waits for its receive.
struct Offer {
    Tensor tensor;
    bool taken = false;
};

struct Group {
    Group(World& all, int ranks) : world{all}, size{ranks}, calls(static_cast<std::size_t>(ranks)) {}

    World& world;
    int const size;
    std::vector<Call> calls; // by rank; read by others only between two waits
    int arrived = 0;         // under the world's lock, as what follows
    std::uint64_t generation = 0;
    std::map<std::pair<int, int>, std::deque<std::shared_ptr<Offer>>> offers; // by (from, to)
};

template <class Real>
void sum_reals(std::vector<Call> const& calls, std::int64_t first, std::int64_t count, Tensor const& to,
               std::int64_t to_first)
{
    for (std::int64_t i = 0; i < count; ++i) {
        Real sum = 0;
        for (auto const& call : calls) sum += reals<Real>(call.in)[first + i];
        reals<Real>(to)[to_first + i] = stored<Real>(to.element, sum);
    }
}

void sum_ints(std::vector<Call> const& calls, std::int64_t first, std::int64_t count, Tensor const& to,
              std::int64_t to_first)
{
    for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t sum = 0;
        for (auto const& call : calls) sum += ints(call.in)[first + i];
        ints(to)[to_first + i] = static_cast<std::int32_t>(sum);
    }
}

/// to[to_first + i] = sum over ranks of in[first + i], for i < count.
void sum(std::vector<Call> const& calls, std::int64_t first, std::int64_t count, Tensor const& to,
         std::int64_t to_first)
{
    if (to.element == Element::i32)
        sum_ints(calls, first, count, to, to_first);
    else if (to.bytes_each == sizeof(double))
        sum_reals<double>(calls, first, count, to, to_first);
    else
        sum_reals<float>(calls, first, count, to, to_first);
}

std::byte* at(Tensor const& t, std::int64_t element)
{
    return static_cast<std::byte*>(t.data) + static_cast<std::size_t>(element) * t.bytes_each;
}

void copy(Tensor const& to, std::int64_t to_first, Tensor const& from, std::int64_t first, std::int64_t count)
{
    if (count > 0 && at(to, to_first) != at(from, first))
        std::memcpy(at(to, to_first), at(from, first), static_cast<std::size_t>(count) * to.bytes_each);
}

class ThreadCommunicator final : public Communicator {
public:
    ThreadCommunicator(std::shared_ptr<Group> group, int rank, int world_rank)
        : group_{std::move(group)}, rank_{rank}, world_rank_{world_rank}
    {
    }

    [[nodiscard]] std::string_view name() const override { return "threads"; }
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return group_->size; }

    std::unique_ptr<Communicator> split(int color) override
    {
        check_color(color);
        meet({.operation = "split", .number = color});
        std::vector<int> members;
        for (int r = 0; r < size(); ++r)
            if (calls()[static_cast<std::size_t>(r)].number == color) members.push_back(r);
        if (members.front() == rank_)
            mine().made = std::make_shared<Group>(group_->world, static_cast<int>(std::ssize(members)));
        arrive("split");
        auto const group = calls()[static_cast<std::size_t>(members.front())].made;
        auto const new_rank = std::find(members.begin(), members.end(), rank_) - members.begin();
        part("split");
        return std::make_unique<ThreadCommunicator>(group, static_cast<int>(new_rank), world_rank_);
    }

    void all_reduce(Tensor const& t) override
    {
        check_sum("all_reduce", t, {Element::f32, Element::bf16, Element::i32});
        meet({.operation = "all_reduce", .in = t});
        same_tensors(t);
        // rank r sums slice r of everyone's tensor into its own, then all collect the slices
        auto const begin = [&](int r) { return t.size() / size() * r + std::min<std::int64_t>(r, t.size() % size()); };
        sum(calls(), begin(rank_), begin(rank_ + 1) - begin(rank_), t, begin(rank_));
        arrive("all_reduce");
        for (int r = 0; r < size(); ++r) copy(t, begin(r), input(r), begin(r), begin(r + 1) - begin(r));
        part("all_reduce");
    }

    void reduce_scatter(Tensor const& in, Tensor const& out) override
    {
        check_sum("reduce_scatter", in, {Element::f32, Element::bf16});
        check_parts("reduce_scatter", out, in, size());
        meet({.operation = "reduce_scatter", .in = in});
        same_tensors(in);
        sum(calls(), rank_ * out.size(), out.size(), out, 0);
        part("reduce_scatter");
    }

    void all_gather(Tensor const& in, Tensor const& out) override
    {
        check_parts("all_gather", in, out, size());
        meet({.operation = "all_gather", .in = in});
        same_tensors(in);
        for (int r = 0; r < size(); ++r) copy(out, r * in.size(), input(r), 0, in.size());
        part("all_gather");
    }

    void all_to_all_v(Tensor const& in, std::vector<std::int64_t> const& send_rows, Tensor const& out,
                      std::vector<std::int64_t> const& receive_rows) override
    {
        check_all_to_all_v(in, send_rows, out, receive_rows, size());
        meet({.operation = "all_to_all_v", .in = in, .send_rows = send_rows});
        std::int64_t row = 0;
        for (int r = 0; r < size(); ++r) {
            auto const expected = receive_rows[static_cast<std::size_t>(r)];
            auto const& sent = calls()[static_cast<std::size_t>(r)].send_rows;
            auto const mine_begin = sent.begin() + rank_;
            if (*mine_begin != expected)
                disagree("all_to_all_v", fmt::format("rank {} sends {} rows to rank {}, which expects {}", r,
                                                     *mine_begin, rank_, expected));
            if (input(r).cols != out.cols || !same_kind(input(r), out))
                disagree("all_to_all_v", fmt::format("rank {} sends rows of {}, rank {} expects {}", r, shape(input(r)),
                                                     rank_, shape(out)));
            auto const first = std::accumulate(sent.begin(), mine_begin, std::int64_t{0});
            copy(out, row * out.cols, input(r), first * out.cols, expected * out.cols);
            row += expected;
        }
        part("all_to_all_v");
    }

    void broadcast(Tensor const& t, int from) override
    {
        check_rank("broadcast", from, size());
        check_memory("broadcast", t);
        meet({.operation = "broadcast", .in = t, .number = from});
        same_tensors(t);
        for (int r = 0; r < size(); ++r)
            if (auto const theirs = calls()[static_cast<std::size_t>(r)].number; theirs != from)
                disagree("broadcast",
                         fmt::format("from rank {} on rank {}, from rank {} on rank {}", from, rank_, theirs, r));
        if (rank_ != from) copy(t, 0, input(from), 0, t.size());
        part("broadcast");
    }

    void send(Tensor const& t, int to) override
    {
        check_peer("send", to, rank_, size());
        check_memory("send", t);
        auto const offer = std::make_shared<Offer>(Offer{t});
        auto lock = group_->world.lock();
        group_->world.check("send");
        group_->offers[{rank_, to}].push_back(offer);
        group_->world.changed();
        wait(lock, fmt::format("send to rank {}", to), [offer] { return offer->taken; });
    }

    void receive(Tensor const& t, int from) override
    {
        check_peer("receive", from, rank_, size());
        check_memory("receive", t);
        auto lock = group_->world.lock();
        group_->world.check("receive");
        auto& queue = group_->offers[{from, rank_}];
        wait(lock, fmt::format("receive from rank {}", from), [&queue] { return !queue.empty(); });
        auto const offer = queue.front();
        queue.pop_front();
        lock.unlock(); // the sender waits, so its tensor stays as it is
        if (!same_kind(offer->tensor, t) || offer->tensor.size() != t.size())
            disagree("receive",
                     fmt::format("rank {} sends {}, rank {} expects {}", from, shape(offer->tensor), rank_, shape(t)));
        copy(t, 0, offer->tensor, 0, t.size());
        lock.lock();
        offer->taken = true;
        group_->world.changed();
    }

    void barrier() override
    {
        meet({.operation = "barrier"});
        part("barrier");
    }

private:
    std::vector<Call> const& calls() const { return group_->calls; }
    Call& mine() { return group_->calls[static_cast<std::size_t>(rank_)]; }
    Tensor const& input(int rank) const { return calls()[static_cast<std::size_t>(rank)].in; }

    static bool same_kind(Tensor const& a, Tensor const& b)
    {
        return a.element == b.element && a.bytes_each == b.bytes_each;
    }

    /// For what only shows once all are here: the others wait already and must be woken.
    [[noreturn]] void disagree(std::string_view operation, std::string const& what)
    {
        group_->world.rank_failed(world_rank_);
        fail(operation, what);
    }

    void wait(World::Lock& lock, std::string const& what, std::function<bool()> ready)
    {
        group_->world.wait(lock, world_rank_, what, std::move(ready));
    }

    /// Waits until all ranks of the group are here.
    void arrive(std::string_view operation)
    {
        auto lock = group_->world.lock();
        group_->world.check(operation);
        auto& group = *group_;
        auto const generation = group.generation;
        if (++group.arrived == group.size) {
            group.arrived = 0;
            ++group.generation;
            group.world.changed();
            return;
        }
        wait(lock, fmt::format("{} of {} ranks", operation, group.size),
             [&group, generation] { return group.generation != generation; });
    }

    /// Shows the others @p call and waits for theirs, which must be of the same operation.
    void meet(Call call)
    {
        auto const operation = call.operation;
        mine() = std::move(call);
        arrive(operation);
        for (int r = 0; r < size(); ++r) {
            auto const theirs = calls()[static_cast<std::size_t>(r)].operation;
            if (theirs != operation)
                disagree(operation, fmt::format("rank {} is here while rank {} is in {}", rank_, r, theirs));
        }
    }

    /// All have read: memory is the caller's again.
    void part(std::string_view operation)
    {
        arrive(operation);
        mine() = {};
    }

    void same_tensors(Tensor const& t)
    {
        for (int r = 0; r < size(); ++r)
            if (!same_kind(input(r), t) || input(r).size() != t.size())
                disagree(calls()[static_cast<std::size_t>(r)].operation,
                         fmt::format("{} on rank {}, {} on rank {}", shape(t), rank_, shape(input(r)), r));
    }

    std::shared_ptr<Group> group_;
    int rank_, world_rank_;
};

/// What became of one rank.
struct Outcome {
    std::exception_ptr error, woken;
};

/// Not allowed to throw: a thread that ends by an exception ends the program.
void run_rank(World& world, std::shared_ptr<Group> const& group, int rank, std::unique_ptr<Backend>& backend,
              std::function<std::unique_ptr<Backend>()> const& make_backend,
              std::function<void(Backend&, Communicator&)> const& body, Outcome& outcome) noexcept
{
    try {
        backend = make_backend();
        if (backend->name() == "cuda")
            throw InputError("threads share host memory (a CUDA back-end has none); use the nccl communicator");
        ThreadCommunicator communicator{group, rank, rank};
        body(*backend, communicator);
        world.rank_ended(rank);
        return;
    } catch (Woken const&) {
        outcome.woken = std::current_exception();
    } catch (...) {
        outcome.error = std::current_exception();
    }
    world.rank_failed(rank);
}

} // namespace

void run_ranks(int ranks, std::function<std::unique_ptr<Backend>()> const& make_backend,
               std::function<void(Backend&, Communicator&)> const& body)
{
    if (ranks < 1) fail("run_ranks", fmt::format("{} ranks", ranks));
    auto const count = static_cast<std::size_t>(ranks);
    std::vector<std::unique_ptr<Backend>> backends(count); // outlive what the group may still hold of a failed call
    World world{ranks};
    auto const group = std::make_shared<Group>(world, ranks);
    std::vector<Outcome> outcomes(count);
    {
        std::vector<std::jthread> threads; // joined at the end of this block, also when one cannot be started
        for (int r = 0; r < ranks; ++r) {
            auto const i = static_cast<std::size_t>(r);
            try {
                threads.emplace_back(
                    [&, r, i] { run_rank(world, group, r, backends[i], make_backend, body, outcomes[i]); });
            } catch (...) {
                outcomes[i].error = std::current_exception();
                world.rank_failed(r);
                break;
            }
        }
    }
    for (auto const& outcome : outcomes)
        if (outcome.error) std::rethrow_exception(outcome.error);
    for (auto const& outcome : outcomes) // a body that swallowed the cause
        if (outcome.woken) std::rethrow_exception(outcome.woken);
}

} // namespace trainfare::kernels
