// SPDX-License-Identifier: Apache-2.0
//
// The thread ranks against direct computation, and what they do when ranks disagree: an error on the desk, never a
// hang.
#include <array>
#include <atomic>
#include <functional>
#include <numeric>
#include <set>

#include "kernels/comm/communicator.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

/// A whole number that depends on rank and place, small enough that any sum of ours is exact in bf16.
double value(int rank, std::int64_t i) { return static_cast<double>((7 * rank + i) % 11) - 5; }

Values values(int rank, std::int64_t count, std::int64_t first = 0)
{
    Values out;
    for (std::int64_t i = 0; i < count; ++i) out.push_back(value(rank, first + i));
    return out;
}

Values summed(int ranks, std::int64_t count, std::int64_t first = 0)
{
    Values out(static_cast<std::size_t>(count));
    for (int r = 0; r < ranks; ++r)
        for (std::int64_t i = 0; i < count; ++i) out[static_cast<std::size_t>(i)] += value(r, first + i);
    return out;
}

/// Runs body(backend, communicator) on every number of ranks and both host back-ends; Catch's macros are not for
/// threads, so the body throws where something is wrong.
void on_all_groups(std::function<void(Backend&, Communicator&)> const& body)
{
    for (bool const is_reference : {false, true})
        for (int const ranks : {1, 2, 4, 5}) {
            INFO(ranks << " ranks, " << (is_reference ? "ref" : "cpu"));
            std::atomic<int> ran = 0;
            run_ranks(
                ranks, [&] { return make_host_backend(is_reference); },
                [&](Backend& on, Communicator& group) {
                    body(on, group);
                    ++ran;
                });
            CHECK(ran == ranks);
        }
}

void expect(bool right, std::string const& what)
{
    if (!right) throw std::runtime_error(what);
}

void on_host(int ranks, std::function<void(Backend&, Communicator&)> const& body)
{
    run_ranks(
        ranks, [] { return make_host_backend(false); }, body);
}

/// What run_ranks throws.
std::string error_of(int ranks, std::function<void(Backend&, Communicator&)> const& body)
{
    try {
        on_host(ranks, body);
    } catch (std::exception const& error) {
        return error.what();
    }
    return "";
}

} // namespace

TEST_CASE("all_reduce gives every rank the sum")
{
    on_all_groups([](Backend& on, Communicator& group) {
        for (std::int64_t const count : {0, 1, 3, 64, 1001}) {
            for (auto const element : {Element::f32, Element::bf16}) {
                auto const t = tensor(on, element, 1, count, values(group.rank(), count));
                group.all_reduce(t);
                expect(on.download(t) == summed(group.size(), count), "sum of reals");
            }
            auto const mine = values(group.rank(), count);
            auto const t = tensor(on, 1, count, std::vector<std::int32_t>(mine.begin(), mine.end()));
            group.all_reduce(t);
            expect(on.download(t) == summed(group.size(), count), "sum of integers");
        }
    });
}

TEST_CASE("reduce_scatter gives each rank the sum of its part")
{
    on_all_groups([](Backend& on, Communicator& group) {
        auto const part = std::int64_t{21};
        for (auto const element : {Element::f32, Element::bf16}) {
            auto const in = tensor(on, element, 3 * group.size(), 7, values(group.rank(), part * group.size()));
            auto const out = poisoned(on, element, 3, 7);
            group.reduce_scatter(in, out);
            expect(on.download(out) == summed(group.size(), part, part * group.rank()), "sum of a part");
            expect(on.download(in) == values(group.rank(), part * group.size()), "the input stays");
            group.reduce_scatter(in, in.row_range(3 * group.rank(), 3));
            expect(on.download(in.row_range(3 * group.rank(), 3)) == on.download(out), "in place");
        }
    });
}

TEST_CASE("all_gather puts every rank's part in its place, also in place and for any element")
{
    on_all_groups([](Backend& on, Communicator& group) {
        for (auto const element : {Element::f32, Element::bf16, Element::e4m3, Element::i32}) {
            auto const part = on.make(element, 2, 5);
            std::vector<std::byte> bytes(static_cast<std::size_t>(part.size()) * part.bytes_each);
            for (std::size_t i = 0; i < bytes.size(); ++i)
                bytes[i] = static_cast<std::byte>(i + 31U * static_cast<unsigned>(group.rank()));
            on.upload_bytes(part, bytes);
            auto const out = poisoned(on, element, 2 * group.size(), 5);
            group.all_gather(part, out);
            for (int r = 0; r < group.size(); ++r) {
                auto const got = on.download_bytes(out.row_range(2 * r, 2));
                for (std::size_t i = 0; i < got.size(); ++i)
                    expect(got[i] == static_cast<std::byte>(i + 31U * static_cast<unsigned>(r)), "part of a rank");
            }
            auto const whole = poisoned(on, element, 2 * group.size(), 5);
            on.upload_bytes(whole.row_range(2 * group.rank(), 2), bytes);
            group.all_gather(whole.row_range(2 * group.rank(), 2), whole);
            expect(on.download_bytes(whole) == on.download_bytes(out), "in place");
        }
    });
}

TEST_CASE("all_to_all_v delivers row blocks of uneven size, empty ones too")
{
    on_all_groups([](Backend& on, Communicator& group) {
        int const n = group.size(), me = group.rank();
        auto const rows = [](int from, int to) { return std::int64_t{(from * 3 + to * 5) % 4}; };
        auto const first = [&](int from, int to) {
            std::int64_t sum = 0;
            for (int r = 0; r < to; ++r) sum += rows(from, r);
            return sum;
        };
        std::vector<std::int64_t> send, receive;
        for (int r = 0; r < n; ++r) send.push_back(rows(me, r)), receive.push_back(rows(r, me));
        auto const sent = std::accumulate(send.begin(), send.end(), std::int64_t{0});
        auto const received = std::accumulate(receive.begin(), receive.end(), std::int64_t{0});
        auto const in = tensor(on, Element::bf16, sent + 2, 3, values(me, (sent + 2) * 3)); // more room than is used
        auto const out = poisoned(on, Element::bf16, received, 3);
        group.all_to_all_v(in, send, out, receive);
        Values expected;
        for (int r = 0; r < n; ++r)
            for (auto const x : values(r, rows(r, me) * 3, first(r, me) * 3)) expected.push_back(x);
        expect(on.download(out) == expected, "what came");
    });
}

TEST_CASE("broadcast copies one rank's tensor to all")
{
    on_all_groups([](Backend& on, Communicator& group) {
        for (int from = 0; from < group.size(); ++from) {
            auto const t = tensor(on, Element::f32, 4, 4, values(group.rank(), 16));
            group.broadcast(t, from);
            expect(on.download(t) == values(from, 16), "the root's numbers");
        }
    });
}

TEST_CASE("send and receive pass a tensor round a ring, twice in a row without mixing the order")
{
    on_all_groups([](Backend& on, Communicator& group) {
        int const n = group.size(), me = group.rank();
        if (n == 1) return;
        for (std::int64_t round = 0; round < 3; ++round) {
            auto const mine = tensor(on, Element::f32, 1, 9, values(me, 9, round));
            auto const got = poisoned(on, Element::f32, 1, 9);
            if (me == 0)
                group.send(mine, 1), group.receive(got, n - 1); // a ring in which all send first stands still
            else
                group.receive(got, me - 1), group.send(mine, (me + 1) % n);
            expect(on.download(got) == values((me + n - 1) % n, 9, round), "the neighbour's numbers");
        }
    });
}

TEST_CASE("a bf16 sum is rounded once and adds in the order of ranks")
{
    // 256 + 1/2 + 1/2 + 1: in fp32 exactly 258; rounding after each addition would leave 256
    auto const result = [](bool is_reference) {
        std::vector<double> out;
        run_ranks(
            4, [&] { return make_host_backend(is_reference); },
            [&](Backend& on, Communicator& group) {
                auto const mine = std::array{256.0, 0.5, 0.5, 1.0}[static_cast<std::size_t>(group.rank())];
                auto const t = tensor(on, Element::bf16, 1, 1, {mine});
                group.all_reduce(t);
                if (group.rank() == 0) out = on.download(t);
            });
        return out.at(0);
    };
    CHECK(result(false) == 258);
    CHECK(result(true) == 258);

    std::vector<float> sums; // 1e8 + 1 - 1e8 in fp32, left to right: 0
    for (int again = 0; again < 20; ++again)
        on_host(3, [&](Backend& on, Communicator& group) {
            auto const t =
                tensor(on, Element::f32, 1, 1, {std::array{1e8, 1.0, -1e8}[static_cast<std::size_t>(group.rank())]});
            group.all_reduce(t);
            if (group.rank() == 2) sums.push_back(static_cast<float>(on.download(t).at(0)));
        });
    CHECK(std::set<float>(sums.begin(), sums.end()) == std::set<float>{0.0F});
}

TEST_CASE("a split makes groups in the order of ranks, and groups can be split again")
{
    on_host(6, [](Backend& on, Communicator& world) {
        auto const half = world.split(world.rank() % 2);
        expect(half->size() == 3 && half->rank() == world.rank() / 2, "every second rank");
        auto const t = tensor(on, Element::f32, 1, 1, {static_cast<double>(world.rank())});
        half->all_reduce(t);
        expect(on.download(t).at(0) == (world.rank() % 2 == 0 ? 6 : 9), "0 + 2 + 4 or 1 + 3 + 5");
        auto const one = half->split(half->rank());
        expect(one->size() == 1 && one->rank() == 0, "alone");
        one->barrier();
        auto const pair = world.split(world.rank() / 2);
        expect(pair->size() == 2, "neighbours");
        pair->barrier();
        world.barrier();
    });
}

TEST_CASE("a rank that throws wakes the others, and its error is the one that is reported")
{
    for (int const bad : {0, 2}) {
        std::atomic<int> woken = 0;
        auto const message = error_of(4, [&](Backend& on, Communicator& group) {
            auto const t = tensor(on, Element::f32, 1, 8, values(group.rank(), 8));
            group.all_reduce(t);
            if (group.rank() == bad) throw InputError("the disk is full");
            try {
                if (group.rank() == 3)
                    group.barrier();
                else
                    group.all_reduce(t);
            } catch (InternalError const& error) {
                if (std::string{error.what()}.find("failed") != std::string::npos) ++woken;
                throw;
            }
        });
        CHECK(message == "the disk is full");
        CHECK(woken == 3);
    }
}

TEST_CASE("a failure reaches groups of a split and ranks in send and receive")
{
    CHECK(error_of(4, [](Backend& on, Communicator& world) {
              auto const half = world.split(world.rank() / 2);
              if (world.rank() == 3) throw InputError("no memory");
              auto const t = tensor(on, Element::f32, 1, 1, {1});
              if (world.rank() == 0)
                  half->barrier();
              else if (world.rank() == 1)
                  world.receive(t, 3);
              else
                  world.send(t, 3);
          }) == "no memory");
}

TEST_CASE("a back-end that cannot be made is an error of the run")
{
    std::atomic<int> made = 0;
    CHECK_THROWS_AS(run_ranks(
                        3,
                        [&]() -> std::unique_ptr<Backend> {
                            if (++made == 2) throw InputError("no device");
                            return make_host_backend(false);
                        },
                        [](Backend&, Communicator& group) { group.barrier(); }),
                    InputError);
    CHECK_THROWS_AS(on_host(0, [](Backend&, Communicator&) {}), InternalError);
}

TEST_CASE("counts that do not match are named with both numbers")
{
    CHECK(error_of(2, [](Backend& on, Communicator& group) {
              auto const in = on.make(Element::bf16, 8, 4), out = on.make(Element::bf16, 8, 4);
              if (group.rank() == 0)
                  group.all_to_all_v(in, {1, 3}, out, {1, 2});
              else
                  group.all_to_all_v(in, {2, 2}, out, {4, 2});
          }) == "all_to_all_v: rank 0 sends 3 rows to rank 1, which expects 4");
}

TEST_CASE("calls that differ between ranks are an error that names both")
{
    CHECK(error_of(2, [](Backend& on, Communicator& group) {
              auto const t = on.make(Element::f32, 1, 4);
              if (group.rank() == 0)
                  group.all_reduce(t);
              else
                  group.barrier();
          }) == "all_reduce: rank 0 is here while rank 1 is in barrier");
    CHECK(error_of(2, [](Backend& on, Communicator& group) {
              group.all_reduce(on.make(Element::f32, 1, group.rank() == 0 ? 4 : 5));
          }) == "all_reduce: f32 [1, 4] on rank 0, f32 [1, 5] on rank 1");
    CHECK(error_of(3, [](Backend& on, Communicator& group) {
              group.broadcast(on.make(Element::f32, 1, 4), group.rank() == 2 ? 1 : 0);
          }) == "broadcast: from rank 0 on rank 0, from rank 1 on rank 2");
    CHECK(error_of(2, [](Backend& on, Communicator& group) {
              if (group.rank() == 0)
                  group.send(on.make(Element::f32, 1, 4), 1);
              else
                  group.receive(on.make(Element::f32, 1, 5), 0);
          }) == "receive: rank 0 sends f32 [1, 4], rank 1 expects f32 [1, 5]");
}

TEST_CASE("what would hang on a GPU is an error that says who waits for what")
{
    CHECK(error_of(3,
                   [](Backend&, Communicator& group) {
                       if (group.rank() != 2) group.barrier();
                   }) ==
          "every rank waits for another: rank 0 in barrier of 3 ranks, rank 1 in barrier of 3 ranks, rank 2 has ended");
    CHECK(error_of(2, [](Backend& on, Communicator& group) { // both send first
              auto const t = on.make(Element::f32, 1, 4);
              group.send(t, 1 - group.rank());
              group.receive(t, 1 - group.rank());
          }) == "every rank waits for another: rank 0 in send to rank 1, rank 1 in send to rank 0");
    CHECK(error_of(4,
                   [](Backend&, Communicator& world) { // two groups in opposite order
                       auto const rows = world.split(world.rank() / 2), cols = world.split(world.rank() % 2);
                       if (world.rank() == 0 || world.rank() == 3)
                           rows->barrier(), cols->barrier();
                       else
                           cols->barrier(), rows->barrier();
                   })
              .find("every rank waits for another: rank 0 in barrier of 2 ranks") == 0);
}

TEST_CASE("a wrong argument is refused before anyone waits")
{
    for (int const ranks : {1, 2}) {
        INFO(ranks << " ranks");
        on_host(ranks, [](Backend& on, Communicator& group) {
            int const n = group.size();
            auto const refused = [](std::function<void()> const& call) {
                try {
                    call();
                } catch (InternalError const&) {
                    return;
                }
                throw std::runtime_error("accepted a wrong argument");
            };
            auto const wide = on.make(Element::f32, 4, 8);
            auto const small = on.make(Element::f32, 4, 4);
            auto const columns = wide.column_range(2, 4);
            std::vector<std::int64_t> const none(static_cast<std::size_t>(n));
            auto too_many = none, negative = none;
            too_many[0] = 5, negative[0] = -1;
            refused([&] { group.all_reduce(columns); });
            refused([&] { group.all_reduce(on.make(Element::e4m3, 1, 4)); });
            refused([&] { group.reduce_scatter(on.make(Element::i32, n, 4), on.make(Element::i32, 1, 4)); });
            refused([&] { group.reduce_scatter(small, on.make(Element::f32, 3, 3)); });
            refused([&] { group.all_gather(columns, on.make(Element::f32, 4 * n, 4)); });
            refused([&] { group.all_gather(small, on.make(Element::bf16, 4 * n, 4)); });
            refused([&] { group.all_to_all_v(small, {}, wide, none); });
            refused([&] { group.all_to_all_v(small, too_many, wide, none); });
            refused([&] { group.all_to_all_v(small, negative, wide, none); });
            refused([&] { group.all_to_all_v(small, none, wide, none); }); // 4 columns into 8
            refused([&] { group.all_to_all_v(small, none, small, none); });
            refused([&] { group.broadcast(columns, 0); });
            refused([&] { group.broadcast(small, n); });
            refused([&] { group.send(small, group.rank()); });
            refused([&] { group.receive(small, -1); });
            refused([&] { group.split(-1); });
            group.all_reduce(wide.column_range(2, 4).row_range(1, 1)); // one row of a column range is one piece
            group.barrier();
        });
    }
}

TEST_CASE("a group of one copies or does nothing")
{
    auto const on = make_host_backend(false);
    auto const solo = make_solo_communicator(*on);
    CHECK(solo->name() == "solo");
    CHECK(solo->size() == 1);
    CHECK(solo->split(3)->size() == 1);
    for (auto const element : {Element::f32, Element::bf16}) {
        auto const t = tensor(*on, element, 2, 3, values(0, 6)), out = poisoned(*on, element, 2, 3);
        solo->all_reduce(t);
        solo->broadcast(t, 0);
        solo->barrier();
        CHECK(on->download(t) == values(0, 6));
        solo->all_gather(t, out);
        CHECK(on->download(out) == values(0, 6));
        poison(*on, out);
        solo->reduce_scatter(t, out);
        CHECK(on->download(out) == values(0, 6));
        solo->all_gather(t, t);
        auto const rows = poisoned(*on, element, 4, 3);
        solo->all_to_all_v(t, {2}, rows, {2});
        CHECK(on->download(rows.row_range(0, 2)) == values(0, 6));
        CHECK_THROWS_AS(solo->all_to_all_v(t, {1}, rows, {2}), InternalError);
    }
    CHECK_THROWS_AS(solo->send(on->make(Element::f32, 1, 1), 0), InternalError);
}
