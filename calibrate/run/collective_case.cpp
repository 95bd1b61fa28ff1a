// SPDX-License-Identifier: Apache-2.0
//
// Values with which a wrong result shows. Moved data holds (31 rank + place) mod 251, so that a block of another rank
// or another place differs. Summed data holds small whole numbers, of which no partial sum exceeds 192: bf16 holds them
// all exactly, so the sum is the same in any order. Both repeat after 251 elements, which lets a buffer of any size be
// written by a few copies on the device.
#include "calibrate/run/collective_case.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "model/error.hpp"

namespace trainfare {

using kernels::Backend;
using kernels::Communicator;
using kernels::Element;
using kernels::Tensor;

namespace {

constexpr std::int64_t period = 251; // prime, and small enough for bf16 to hold all numbers below it

double moved_value(int rank, std::int64_t place) { return static_cast<double>((31L * rank + place) % period); }

/// At most 64 of @p ranks say something else than 0 at any place.
double summed_value(int rank, std::int64_t place, int ranks)
{
    auto const phase = place % period;
    return (7 * phase + rank) % ranks < 64 ? static_cast<double>(1 + (phase + rank) % 3) : 0;
}

/// Element i of @p t becomes value(i), which must repeat after `period`.
void write(Backend& on, Tensor const& t, std::function<double(std::int64_t)> const& value)
{
    constexpr std::int64_t first_rows = period * 64; // rows hold whole periods after every 251 of them
    auto written = std::min(t.rows, first_rows);
    std::vector<float> numbers(static_cast<std::size_t>(written * t.cols));
    for (std::size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = static_cast<float>(value(static_cast<std::int64_t>(i)));
    if (written > 0) on.upload(t.row_range(0, written), numbers);
    while (written < t.rows) {
        auto const more = std::min(written, t.rows - written);
        on.copy(t.row_range(written, more), t.row_range(0, more));
        written += more;
    }
}

/// Elements of @p t that are not expected(place in t). Of a large tensor 17 pieces spread over it are looked at.
std::int64_t wrong_elements(Backend& on, Tensor const& t, std::function<double(std::int64_t)> const& expected)
{
    constexpr std::int64_t piece = 1 << 16, most_pieces = 17; // 8 million elements
    auto const pieces = std::clamp<std::int64_t>((t.rows + piece - 1) / piece, 1, most_pieces);
    std::int64_t wrong = 0;
    for (std::int64_t p = 0; p < pieces; ++p) {
        auto const last_begin = std::max<std::int64_t>(t.rows - piece, 0);
        auto const begin = pieces == 1 ? 0 : last_begin * p / (pieces - 1);
        auto const values = on.download(t.row_range(begin, std::min(piece, t.rows)));
        for (std::size_t i = 0; i < values.size(); ++i)
            wrong += values[i] != expected(begin * t.cols + static_cast<std::int64_t>(i)) ? 1 : 0;
    }
    return wrong;
}

/// Buffers of a case and the one call that is timed.
class Exchange {
public:
    Exchange(Backend& on, Communicator& group, CollectiveCase const& what) : on_{on}, group_{group}, case_{what}
    {
        int const n = group.size();
        auto const rows = what.rows, part = rows / n;
        auto const& op = what.operation;
        if (rows < n || rows % n != 0) throw InternalError("collectives: rows are no multiple of the ranks");
        auto const make = [&](std::int64_t count) { return on.make(what.element, count, collective_row); };
        if (op == "all_gather")
            in_ = make(part), out_ = make(rows);
        else if (op == "reduce_scatter")
            in_ = make(rows), out_ = make(part);
        else if (op == "all_reduce")
            in_ = out_ = make(rows);
        else if (op == "p2p")
            (sends() ? in_ : out_) = make(sends() || receives() ? rows : 0);
        else if (op == "all_to_all" || op == "all_to_all_v") {
            send_ = op == "all_to_all" ? std::vector<std::int64_t>(static_cast<std::size_t>(n), part) : what.rows_to;
            receive_.assign(static_cast<std::size_t>(n), send_.at(static_cast<std::size_t>(group.rank())));
            in_ = make(rows), out_ = make(receive_.front() * n);
        } else
            throw InternalError("collectives: no operation " + op);
    }

    void run()
    {
        auto const& op = case_.operation;
        if (op == "all_reduce")
            group_.all_reduce(in_);
        else if (op == "all_gather")
            group_.all_gather(in_, out_);
        else if (op == "reduce_scatter")
            group_.reduce_scatter(in_, out_);
        else if (op != "p2p")
            group_.all_to_all_v(in_, send_, out_, receive_);
        else if (sends())
            group_.send(in_, group_.rank() + 1);
        else if (receives())
            group_.receive(out_, group_.rank() - 1);
    }

    /// Runs once on known values.
    std::int64_t wrong()
    {
        int const n = group_.size(), me = group_.rank();
        bool const summed = case_.operation == "all_reduce" || case_.operation == "reduce_scatter";
        if (!case_.in_place() && !out_.empty()) on_.fill(out_, -1);
        if (!in_.empty())
            write(on_, in_, [&](std::int64_t i) { return summed ? summed_value(me, i, n) : moved_value(me, i); });
        run();
        if (out_.empty()) return 0;
        return summed ? wrong_sums(n) : wrong_blocks(n, me);
    }

    /// Sums in place would grow without bound.
    void make_neutral()
    {
        if (case_.in_place()) on_.fill(in_, 0);
    }

private:
    [[nodiscard]] bool sends() const { return group_.rank() % 2 == 0 && group_.rank() + 1 < group_.size(); }
    [[nodiscard]] bool receives() const { return group_.rank() % 2 == 1; }

    std::int64_t wrong_sums(int n)
    {
        std::array<double, period> expected{};
        for (int r = 0; r < n; ++r)
            for (std::int64_t i = 0; i < period; ++i) expected[static_cast<std::size_t>(i)] += summed_value(r, i, n);
        auto const first = case_.in_place() ? 0 : group_.rank() * out_.size();
        return wrong_elements(on_, out_,
                              [&](std::int64_t i) { return expected[static_cast<std::size_t>((first + i) % period)]; });
    }

    std::int64_t wrong_blocks(int n, int me)
    {
        if (case_.operation == "p2p")
            return wrong_elements(on_, out_, [&](std::int64_t i) { return moved_value(me - 1, i); });
        auto const rows = out_.rows / n;
        auto const first = send_.empty() ? 0 : std::accumulate(send_.begin(), send_.begin() + me, std::int64_t{0});
        std::int64_t wrong = 0;
        for (int r = 0; r < n; ++r)
            wrong += wrong_elements(on_, out_.row_range(r * rows, rows),
                                    [&](std::int64_t i) { return moved_value(r, first * collective_row + i); });
        return wrong;
    }

    Backend& on_;
    Communicator& group_;
    CollectiveCase const& case_;
    Tensor in_, out_;
    std::vector<std::int64_t> send_, receive_;
};

/// Element-wise largest over ranks.
std::vector<double> slowest(Backend& on, Communicator& group, std::vector<float> const& mine)
{
    auto const count = std::ssize(mine);
    auto const all = on.make(Element::f32, group.size(), count);
    auto const own = all.row_range(group.rank(), 1);
    on.upload(own, mine);
    group.all_gather(own, all);
    auto const values = on.download(all);
    std::vector<double> out(mine.size());
    for (std::size_t i = 0; i < values.size(); ++i) out[i % mine.size()] = std::max(out[i % mine.size()], values[i]);
    return out;
}

std::int64_t sum_over_ranks(Backend& on, Communicator& group, std::int64_t mine)
{
    auto const t = on.make(Element::i32, 1, 1);
    constexpr std::int64_t most = 1 << 20; // a million ranks of them would not fit an int; one is enough
    on.upload(t, std::array{static_cast<std::int32_t>(std::min(mine, most / group.size() + 1))});
    group.all_reduce(t);
    return on.download_ints(t).at(0);
}

double uniform(std::uint64_t seed, std::uint64_t i)
{
    std::uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ULL; // splitmix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (static_cast<double>((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

} // namespace

CollectiveTimes time_collective(Backend& on, Communicator& group, CollectiveCase const& what, int warm_up, int repeats)
{
    Exchange exchange{on, group, what};
    CollectiveTimes out;
    out.wrong = sum_over_ranks(on, group, exchange.wrong());
    exchange.make_neutral();
    // Events cost a microsecond or two, so short calls are timed ten at a time.
    int const calls = what.rows * collective_row <= 1 << 19 ? 10 : 1;
    for (int i = 0; i < warm_up; ++i) exchange.run();
    group.barrier();
    std::vector<kernels::Event> events{on.record()};
    for (int i = 0; i < repeats; ++i) {
        for (int call = 0; call < calls; ++call) exchange.run();
        events.push_back(on.record());
    }
    group.barrier();
    std::vector<float> mine;
    for (std::size_t i = 1; i < events.size(); ++i)
        mine.push_back(static_cast<float>(on.seconds(events[i - 1], events[i]) / calls));
    out.seconds = slowest(on, group, mine);
    return out;
}

std::optional<double> bus_factor(std::string const& operation, int ranks)
{
    if (ranks < 2) return {};
    if (operation == "p2p") return 1;
    double const others = (ranks - 1.0) / ranks;
    return operation == "all_reduce" ? 2 * others : others;
}

std::vector<std::int64_t> uneven_rows(std::int64_t total, int ranks, double load_cv, std::uint64_t seed)
{
    // a log-normal variable of mean 1 has the variance exp(sigma^2) - 1
    double const sigma = std::sqrt(std::log1p(load_cv * load_cv));
    std::vector<double> edges{0}; // cumulative loads
    for (int r = 0; r < ranks; ++r) {
        auto const i = static_cast<std::uint64_t>(r);
        double const normal =
            std::sqrt(-2 * std::log(uniform(seed, 2 * i))) * std::cos(2 * std::numbers::pi * uniform(seed, 2 * i + 1));
        edges.push_back(edges.back() + std::exp(sigma * normal));
    }
    std::vector<std::int64_t> out;
    std::int64_t before = 0;
    for (int r = 1; r <= ranks; ++r) {
        auto const share = edges[static_cast<std::size_t>(r)] / edges.back();
        auto const upto =
            r == ranks ? total : static_cast<std::int64_t>(std::floor(share * static_cast<double>(total)));
        out.push_back(upto - before);
        before = upto;
    }
    return out;
}

} // namespace trainfare
