// SPDX-License-Identifier: Apache-2.0
//
// Synthetic text with something to learn: a first-order Markov chain over the vocabulary. A model that has learnt only how
// often each token occurs reaches the unigram entropy; one that uses the previous token gets below it, down to the entropy rate.
#pragma once

#include <cstdint>
#include <vector>

namespace trainfare::kernels {

class MarkovCorpus {
public:
    /// Each token is followed by one of @p branches tokens with geometric weights. Deterministic in @p seed.
    MarkovCorpus(int vocab, int branches, std::uint64_t seed);

    /// @p sequences x @p length ids, different for each (step, rank).
    [[nodiscard]] std::vector<std::int32_t> batch(int sequences, int length, std::uint64_t step, int rank) const;
    [[nodiscard]] double unigram_entropy() const; // nats, of the stationary distribution
    [[nodiscard]] double entropy_rate() const;    // nats: what remains when the previous token is known

private:
    int vocab_, branches_;
    std::uint64_t seed_;
    std::vector<std::int32_t> next_;   // [vocab][branches]
    std::vector<double> cumulative_;   // of the branch weights
    std::vector<double> stationary_;
};

} // namespace trainfare::kernels
