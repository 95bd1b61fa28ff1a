// SPDX-License-Identifier: Apache-2.0
//
// Numbers that look random and depend on their seed alone, on every machine: SplitMix64 (Steele et al., OOPSLA 2014).
#pragma once

#include <cstdint>
#include <string_view>

namespace trainfare::kernels {

class SplitMix {
public:
    explicit SplitMix(std::uint64_t seed) : state_{seed} {}

    std::uint64_t next()
    {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }
    /// In [0, 1).
    double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
    /// In [0, n); the bias of the remainder is below n / 2^64.
    std::uint64_t below(std::uint64_t n) { return next() % n; }

private:
    std::uint64_t state_;
};

/// One seed from several, in order.
template <class... More>
std::uint64_t mix_seeds(std::uint64_t first, More... more)
{
    std::uint64_t seed = SplitMix{first}.next();
    ((seed = SplitMix{seed ^ static_cast<std::uint64_t>(more)}.next()), ...);
    return seed;
}

/// FNV-1a, 64 bits, of @p bytes, going on from @p hash.
constexpr std::uint64_t fnv1a(std::string_view bytes, std::uint64_t hash = 0xcbf29ce484222325U)
{
    for (char const c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    return hash;
}

} // namespace trainfare::kernels
