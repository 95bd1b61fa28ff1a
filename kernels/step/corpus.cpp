// SPDX-License-Identifier: Apache-2.0
//
// A Markov chain whose entropies are known: what a model can and cannot learn from it is a number.
#include "kernels/step/corpus.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "kernels/step/random.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

double entropy_term(double p) { return p > 0 ? -p * std::log(p) : 0; }

/// Geometric: 1/2, 1/4, ..., normalised. Three branches: 4/7, 2/7, 1/7.
std::vector<double> branch_weights(int branches)
{
    std::vector<double> w(index(branches));
    double total = 0;
    for (std::size_t b = 0; b < w.size(); ++b)
        total += w[b] = std::ldexp(1.0, -static_cast<int>(std::min<std::size_t>(b, 60)));
    for (auto& x : w) x /= total;
    return w;
}

} // namespace

MarkovCorpus::MarkovCorpus(int vocab, int branches, std::uint64_t seed)
    : vocab_{vocab}, branches_{branches}, seed_{seed}
{
    if (vocab < 2 || branches < 1 || branches > vocab)
        throw InputError(
            fmt::format("a corpus of {} tokens with {} branches each does not exist (it needs 2 tokens and 1 branch at "
                        "least, and branches to different tokens); try 64 and 3",
                        vocab, branches));
    auto const weights = branch_weights(branches);
    SplitMix random{mix_seeds(seed, 1)};
    next_.reserve(index(vocab) * index(branches));
    for (int v = 0; v < vocab; ++v) {
        // The least likely branch leads to the next token, so that every token can be reached. Squared numbers favour
        // low tokens: the tokens' frequencies differ, and a model has something to learn from them alone.
        std::vector<std::int32_t> row{(v + 1) % vocab};
        while (static_cast<int>(row.size()) < branches) {
            double const u = random.uniform();
            auto token = static_cast<std::int32_t>(u * u * vocab);
            while (std::find(row.begin(), row.end(), token) != row.end()) token = (token + 1) % vocab;
            row.push_back(token);
        }
        next_.insert(next_.end(), row.rbegin(), row.rend());
    }
    cumulative_.resize(weights.size());
    std::partial_sum(weights.begin(), weights.end(), cumulative_.begin());
    cumulative_.back() = 1;

    // Power iteration; half of the mass stays where it is, so that a periodic chain converges too.
    stationary_.assign(index(vocab), 1.0 / vocab);
    for (int i = 0; i < 2000; ++i) {
        std::vector<double> to(stationary_.size(), 0.0);
        for (std::size_t v = 0; v < to.size(); ++v) {
            to[v] += stationary_[v] / 2;
            for (std::size_t b = 0; b < weights.size(); ++b)
                to[index(next_[v * weights.size() + b])] += stationary_[v] * weights[b] / 2;
        }
        double change = 0;
        for (std::size_t v = 0; v < to.size(); ++v) change += std::abs(to[v] - stationary_[v]);
        stationary_ = std::move(to);
        if (change < 1e-15) break;
    }
}

std::vector<std::int32_t> MarkovCorpus::batch(int sequences, int length, std::uint64_t step, int rank) const
{
    SplitMix random{mix_seeds(seed_, 2, step, rank)};
    std::vector<std::int32_t> out;
    out.reserve(index(sequences) * index(length));
    for (int s = 0; s < sequences; ++s) {
        double left = random.uniform();
        std::size_t token = 0;
        while (token + 1 < stationary_.size() && left >= stationary_[token]) left -= stationary_[token++];
        for (int i = 0; i < length; ++i) {
            out.push_back(static_cast<std::int32_t>(token));
            auto const branch =
                std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, random.uniform()) - cumulative_.begin();
            token = index(next_[token * index(branches_) + index(branch)]);
        }
    }
    return out;
}

double MarkovCorpus::unigram_entropy() const
{
    double h = 0;
    for (double const p : stationary_) h += entropy_term(p);
    return h;
}

double MarkovCorpus::entropy_rate() const
{
    double h = 0; // the same for every token: all have the same weights, to different tokens
    for (double const p : branch_weights(branches_)) h += entropy_term(p);
    return h;
}

} // namespace trainfare::kernels
