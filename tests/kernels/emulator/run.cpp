// SPDX-License-Identifier: Apache-2.0
//
// See run.hpp. One launch at a time in the program: __shared__ variables are static.
#include "tests/kernels/emulator/run.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "model/error.hpp"
#include "tests/kernels/emulator/fiber.hpp"

namespace trainfare::kernels::emulator {
namespace {

constexpr std::size_t warp_size = 32;
constexpr std::uint64_t nobody = ~std::uint64_t{0}; // NaN as a float

struct Thread {
    enum class State { ready, at_block_barrier, at_warp_point, ended } state = State::ready;
    uint3 index{};
    Exchange exchange;
    std::uint64_t received = 0;
    std::source_location where;
};

/// The launch that runs.
struct Launch {
    std::string name;
    dim3 grid, block;
    uint3 block_index{};
    std::vector<std::byte> shared; // exactly as asked for: the address sanitizer sees what is beyond
    std::function<void()> const* body = nullptr;
    std::vector<Thread> threads;
    std::size_t current = 0;
};

Order order_from_environment()
{
    char const* const wanted = std::getenv("TRAINFARE_EMULATOR_ORDER");
    return wanted != nullptr && std::string_view{wanted} == "backward" ? Order::backward : Order::forward;
}

std::mutex one_at_a_time;
Order order = order_from_environment();
Launch launch;

Fibers& fibers()
{
    static Fibers all;
    return all;
}

std::string place(Thread const& t)
{
    std::string_view const path = t.where.file_name();
    return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), t.where.line());
}

[[noreturn]] void fail(std::string const& what)
{
    auto const& at = launch.block_index;
    throw InternalError(fmt::format("kernel {}, block ({}, {}, {}): {}", launch.name, at.x, at.y, at.z, what));
}

/// Lets a warp's lanes go on once all that are named have come. @returns whether any can.
bool release_warp(std::size_t first)
{
    auto const count = std::min(warp_size, launch.threads.size() - first);
    bool released = false;
    for (std::size_t l = 0; l < count; ++l) {
        auto const& asking = launch.threads[first + l];
        if (asking.state != Thread::State::at_warp_point) continue;
        unsigned const mask = asking.exchange.mask;
        if ((mask >> l & 1U) == 0)
            fail(fmt::format("thread {} at {} is not in the mask {:#x} that it gives", first + l, place(asking), mask));
        bool complete = true;
        for (std::size_t other = 0; other < count && complete; ++other) {
            if ((mask >> other & 1U) == 0) continue;
            auto const& t = launch.threads[first + other];
            complete = t.state == Thread::State::at_warp_point && t.exchange.mask == mask &&
                       t.exchange.kind == asking.exchange.kind && t.where.line() == asking.where.line();
        }
        if (!complete) continue;
        std::uint64_t votes = 0;
        std::array<std::uint64_t, warp_size> offered{};
        offered.fill(nobody);
        for (std::size_t other = 0; other < count; ++other) {
            if ((mask >> other & 1U) == 0) continue;
            offered[other] = launch.threads[first + other].exchange.value;
            if (offered[other] != 0) votes |= std::uint64_t{1} << other;
        }
        for (std::size_t other = 0; other < count; ++other) {
            if ((mask >> other & 1U) == 0) continue;
            auto& t = launch.threads[first + other];
            bool const ballot = t.exchange.kind == Exchange::Kind::ballot;
            t.received = ballot ? votes : offered[static_cast<std::size_t>(t.exchange.source) % warp_size];
            t.state = Thread::State::ready;
        }
        released = true;
    }
    return released;
}

/// All wait for each other at the block's barrier, or some for those that never come.
void release_block()
{
    Thread const* waiting = nullptr;
    for (auto const& t : launch.threads)
        if (t.state == Thread::State::at_block_barrier && waiting == nullptr) waiting = &t;
    for (std::size_t i = 0; i < launch.threads.size(); ++i) {
        auto const& t = launch.threads[i];
        if (t.state == Thread::State::at_warp_point)
            fail(fmt::format("deadlock: thread {} waits at {} for lanes of its warp that do not come", i, place(t)));
        if (t.state == Thread::State::ended)
            fail(fmt::format("deadlock: threads wait at the barrier {}, thread {} has ended", place(*waiting), i));
        if (t.where.line() != waiting->where.line())
            fail(fmt::format("threads meet at different barriers, {} and {}", place(*waiting), place(t)));
    }
    for (auto& t : launch.threads) t.state = Thread::State::ready;
}

void run_block()
{
    auto const count = launch.threads.size();
    std::fill(launch.shared.begin(), launch.shared.end(), std::byte{0xff}); // NaN: shared memory starts undefined
    fibers().prepare(count, [] { (*launch.body)(); });
    for (auto& t : launch.threads) t.state = Thread::State::ready;
    for (std::size_t left = count; left > 0;) {
        bool progress = false;
        for (std::size_t turn = 0; turn < count; ++turn) {
            std::size_t const i = order == Order::forward ? turn : count - 1 - turn;
            auto& t = launch.threads[i];
            if (t.state != Thread::State::ready) continue;
            progress = true;
            launch.current = i;
            fibers().resume(i);
            if (fibers().ended(i)) t.state = Thread::State::ended, --left;
        }
        for (std::size_t first = 0; first < count; first += warp_size) progress = release_warp(first) || progress;
        if (!progress) release_block();
    }
}

void check_shape(char const* name, dim3 grid, dim3 block, std::size_t shared_bytes)
{
    auto const volume = [](dim3 d) { return std::uint64_t{d.x} * d.y * d.z; };
    bool const fits = volume(block) >= 1 && volume(block) <= 1024 && block.z <= 64 && volume(grid) >= 1 &&
                      grid.x <= 0x7fffffffU && grid.y <= 65535 && grid.z <= 65535;
    if (!fits)
        throw InternalError(fmt::format("kernel {}: a GPU refuses ({}, {}, {}) blocks of ({}, {}, {}) threads", name,
                                        grid.x, grid.y, grid.z, block.x, block.y, block.z));
    constexpr std::size_t hopper_limit = std::size_t{227} << 10U;
    if (shared_bytes > hopper_limit)
        throw InternalError(fmt::format("kernel {}: {} bytes of shared memory are more than a block can have", name,
                                        shared_bytes));
}

void wait_in(Thread::State state, std::source_location where)
{
    auto& me = launch.threads[launch.current];
    me.state = state, me.where = where;
    fibers().stop();
}

} // namespace

void set_order(Order new_order)
{
    std::scoped_lock const lock{one_at_a_time};
    order = new_order;
}

void run_grid(char const* name, dim3 grid, dim3 block, std::size_t shared_bytes,
              std::function<void()> const& thread_body)
{
    std::scoped_lock const lock{one_at_a_time};
    check_shape(name, grid, block, shared_bytes);
    launch.name = name;
    launch.grid = grid, launch.block = block;
    launch.body = &thread_body;
    launch.shared = std::vector<std::byte>(shared_bytes);
    launch.threads.assign(std::size_t{block.x} * block.y * block.z, {});
    for (std::size_t i = 0; i < launch.threads.size(); ++i) {
        auto const n = static_cast<unsigned>(i);
        launch.threads[i].index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
    }
    std::uint64_t const blocks = std::uint64_t{grid.x} * grid.y * grid.z;
    for (std::uint64_t turn = 0; turn < blocks; ++turn) {
        std::uint64_t const b = order == Order::forward ? turn : blocks - 1 - turn;
        launch.block_index = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                              static_cast<unsigned>(b / grid.x / grid.y)};
        run_block();
    }
}

uint3 const& thread_index() { return launch.threads[launch.current].index; }
uint3 const& block_index() { return launch.block_index; }
dim3 const& block_size() { return launch.block; }
dim3 const& grid_size() { return launch.grid; }
std::byte* dynamic_memory() { return launch.shared.data(); }
int lane() { return static_cast<int>(launch.current % warp_size); }

void meet_block(std::source_location where) { wait_in(Thread::State::at_block_barrier, where); }

std::uint64_t meet_warp(Exchange const& exchange, std::source_location where)
{
    launch.threads[launch.current].exchange = exchange;
    wait_in(Thread::State::at_warp_point, where);
    return launch.threads[launch.current].received;
}

} // namespace trainfare::kernels::emulator
