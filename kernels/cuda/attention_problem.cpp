// SPDX-License-Identifier: Apache-2.0
//
// An attention problem as a key of the plan cache and in words. No CUDA here.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "kernels/cuda/attention.hpp"

namespace trainfare::kernels::cuda {

AttentionProblem::Key AttentionProblem::key() const
{
    return {shape.batch,
            shape.seq,
            shape.heads,
            shape.kv_heads,
            shape.qk_dim,
            shape.v_dim,
            shape.causal,
            shape.deterministic,
            std::bit_cast<std::int32_t>(shape.scale),
            backward,
            q,
            k,
            v,
            o,
            d_o,
            d_q,
            d_k,
            d_v};
}

std::string describe(AttentionProblem const& p)
{
    auto const& s = p.shape;
    return fmt::format("{}/{} wide, {}/{} heads, {} x {} tokens{}{}", s.qk_dim, s.v_dim, s.heads, s.kv_heads, s.batch,
                       s.seq, s.causal ? ", causal" : "",
                       !p.backward       ? ", forward"
                       : s.deterministic ? ", backward"
                                         : ", backward in any order");
}

AttentionShape backward_at_once(AttentionShape const& s)
{
    auto const limit = std::int64_t{4} << 30, each_head = 2 * std::int64_t{s.seq} * s.seq;
    if (!s.deterministic || each_head * s.batch * s.heads <= limit) return s;
    auto const sharing = s.heads / s.kv_heads; // query heads of one gradient of keys: they stay together
    auto kv_heads = static_cast<int>(std::clamp<std::int64_t>(limit / (each_head * sharing), 1, s.kv_heads));
    while (s.kv_heads % kv_heads != 0) --kv_heads;
    auto part = s;
    part.batch = 1, part.kv_heads = kv_heads, part.heads = kv_heads * sharing;
    return part;
}

void require_supported(AttentionProblem const& p)
{
    auto const& s = p.shape;
    auto const refuse = [](std::string const& why) { throw Unsupported("attention on cuda: " + why); };
    if (s.batch < 1 || s.seq < 2) refuse(fmt::format("{} sequences of {} tokens", s.batch, s.seq));
    if (s.kv_heads < 1 || s.heads % s.kv_heads != 0)
        refuse(fmt::format("{} heads cannot share {} heads of keys and values evenly", s.heads, s.kv_heads));
    for (auto const width : {s.qk_dim, s.v_dim})
        if (width < 8 || width > 256 || width % 8 != 0)
            refuse(fmt::format("a head of {} columns (8 to 256, a multiple of 8)", width));
    for (auto const pitch : {p.q, p.k, p.v, p.o, p.d_o, p.d_q, p.d_k, p.d_v})
        if (pitch % 8 != 0) refuse(fmt::format("rows {} elements apart (a multiple of 8: 16 bytes)", pitch));
}

} // namespace trainfare::kernels::cuda
