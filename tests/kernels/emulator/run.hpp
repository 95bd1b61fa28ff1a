// SPDX-License-Identifier: Apache-2.0
//
// Runs a GPU kernel on the CPU: blocks one after another, the threads of a block in turns, each until it must wait for
// others (__syncthreads, __syncwarp, a shuffle). Turns go forward or backward through the threads: a kernel that lacks
// a barrier gives different results. A kernel that would hang a GPU, or that a GPU would refuse to start, is an
// InternalError that names it.
//
// The order is forward, or what the environment says: TRAINFARE_EMULATOR_ORDER=backward. Tests run once in each order,
// as two processes: a second run of the same kernel would find in __shared__ memory what it forgot to wait for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

#include <vector_types.h>

namespace trainfare::kernels::emulator {

enum class Order { forward, backward };

/// For launches from now on; for tests of the emulator itself.
void set_order(Order);

void run_grid(char const* name, dim3 grid, dim3 block, std::size_t shared_bytes,
              std::function<void()> const& thread_body);

// --- what a running thread sees -----------------------------------------------------------------------------------

uint3 const& thread_index();
uint3 const& block_index();
dim3 const& block_size();
dim3 const& grid_size();
std::byte* dynamic_memory();

void meet_block(std::source_location);

/// What lanes of a warp do when they meet.
struct Exchange {
    enum class Kind { nothing, shuffle, ballot } kind = Kind::nothing;
    unsigned mask = 0;
    std::uint64_t value = 0; // what this lane offers
    int source = 0;          // lane whose value it wants; a ballot: unused
};
/// @returns the source's value, or the ballot. A lane outside the mask offers a recognisable wrong value.
std::uint64_t meet_warp(Exchange const&, std::source_location);

int lane();

template <class T>
T shuffle(unsigned mask, T value, int source, std::source_location where)
{
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
    Exchange mine{Exchange::Kind::shuffle, mask, 0, source};
    std::memcpy(&mine.value, &value, sizeof value);
    auto const got = meet_warp(mine, where);
    std::memcpy(&value, &got, sizeof value);
    return value;
}

} // namespace trainfare::kernels::emulator
