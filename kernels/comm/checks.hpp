// SPDX-License-Identifier: Apache-2.0
//
// What every communicator asks of its arguments before it touches memory: a wrong size that only one transport notices
// would be found on the cluster and not on the desk.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kernels/tensor.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::comm {

inline std::string_view name(Element element)
{
    switch (element) {
    case Element::f32: return "f32";
    case Element::bf16: return "bf16";
    case Element::e4m3: return "e4m3";
    case Element::i32: return "i32";
    }
    return "?";
}

inline std::string shape(Tensor const& t) { return fmt::format("{} [{}, {}]", name(t.element), t.rows, t.cols); }

inline std::size_t bytes(Tensor const& t) { return static_cast<std::size_t>(t.size()) * t.bytes_each; }

[[noreturn]] inline void fail(std::string_view operation, std::string const& what)
{
    throw InternalError(fmt::format("{}: {}", operation, what));
}

/// Ranks move whole pieces of memory, so a tensor must be one.
inline void check_memory(std::string_view operation, Tensor const& t)
{
    if (!t.contiguous() && t.rows > 1)
        fail(operation, fmt::format("{} is a column range; copy it to a tensor of its own first", shape(t)));
    if (t.empty() && t.size() > 0) fail(operation, fmt::format("{} has no memory", shape(t)));
}

inline void check_rank(std::string_view operation, int rank, int size)
{
    if (rank < 0 || rank >= size) fail(operation, fmt::format("rank {} in a group of {}", rank, size));
}

/// Point to point: a rank has nothing to say to itself.
inline void check_peer(std::string_view operation, int peer, int rank, int size)
{
    check_rank(operation, peer, size);
    if (peer == rank) fail(operation, fmt::format("rank {} would wait for itself", rank));
}

inline void check_sum(std::string_view operation, Tensor const& t, std::initializer_list<Element> allowed)
{
    check_memory(operation, t);
    if (std::find(allowed.begin(), allowed.end(), t.element) == allowed.end())
        fail(operation, fmt::format("{} cannot be summed", shape(t)));
}

/// @p whole is @p part once per rank.
inline void check_parts(std::string_view operation, Tensor const& part, Tensor const& whole, int size)
{
    check_memory(operation, part);
    check_memory(operation, whole);
    if (part.element != whole.element || part.size() * size != whole.size())
        fail(operation, fmt::format("{} is not {} parts of {}", shape(whole), size, shape(part)));
}

inline void check_color(int color) // NCCL would take a negative one as "no group"
{
    if (color < 0) fail("split", fmt::format("color {} is negative", color));
}

/// The row blocks of one side lie inside its tensor.
inline void check_blocks(std::string_view word, Tensor const& t, std::vector<std::int64_t> const& rows, int size)
{
    check_memory("all_to_all_v", t);
    if (std::ssize(rows) != size) fail("all_to_all_v", fmt::format("{} counts for {} ranks", rows.size(), size));
    std::int64_t sum = 0;
    for (auto const count : rows) {
        if (count < 0 || count > t.rows - sum)
            fail("all_to_all_v", fmt::format("{} rows {} after {} others do not fit {}", count, word, sum, shape(t)));
        sum += count;
    }
}

inline void check_all_to_all_v(Tensor const& in, std::vector<std::int64_t> const& send_rows, Tensor const& out,
                               std::vector<std::int64_t> const& receive_rows, int size)
{
    check_blocks("sent", in, send_rows, size);
    check_blocks("received", out, receive_rows, size);
    if (in.element != out.element || in.cols != out.cols || in.bytes_each != out.bytes_each)
        fail("all_to_all_v", fmt::format("rows of {} do not fit {}", shape(in), shape(out)));
    auto const* const a = static_cast<std::byte const*>(in.data);
    auto const* const b = static_cast<std::byte const*>(out.data);
    bool const apart = bytes(in) == 0 || bytes(out) == 0 || std::less_equal<>{}(a + bytes(in), b) ||
                       std::less_equal<>{}(b + bytes(out), a);
    if (!apart) fail("all_to_all_v", "input and output share memory; use two tensors");
}

} // namespace trainfare::kernels::comm
