// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <set>

#include "kernels/step/corpus.hpp"
#include "model/error.hpp"
#include "tests/catch.hpp"

using namespace trainfare::kernels;

TEST_CASE("token frequencies of the corpus have the stationary entropy, pairs the entropy rate", "[step]")
{
    int const vocab = 32;
    MarkovCorpus const corpus{vocab, 3, 5};
    auto const ids = corpus.batch(200, 500, 0, 0);
    std::vector<double> count(vocab), pairs(vocab * vocab);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        ++count[static_cast<std::size_t>(ids[i])];
        if (i % 500 != 0) ++pairs[static_cast<std::size_t>(ids[i - 1] * vocab + ids[i])];
    }
    auto entropy = [](std::vector<double> const& n) {
        double total = 0, h = 0;
        for (double const x : n) total += x;
        for (double const x : n)
            if (x > 0) h -= x / total * std::log(x / total);
        return h;
    };
    CHECK(entropy(count) == Approx(corpus.unigram_entropy()).epsilon(0.01));
    CHECK(entropy(pairs) - entropy(count) == Approx(corpus.entropy_rate()).epsilon(0.02));
    CHECK(corpus.unigram_entropy() < std::log(vocab) - 0.05); // frequencies differ
}

TEST_CASE("three branches with weights 4/7, 2/7 and 1/7 leave 0.956 nats", "[step]")
{
    CHECK(MarkovCorpus(64, 3, 1).entropy_rate() == Approx(0.9557).epsilon(1e-4));
    CHECK(MarkovCorpus(64, 1, 1).entropy_rate() == 0);
}

TEST_CASE("a batch depends on seed, step and rank alone", "[step]")
{
    MarkovCorpus const corpus{64, 3, 5};
    auto const a = corpus.batch(2, 50, 3, 1);
    CHECK(a == MarkovCorpus(64, 3, 5).batch(2, 50, 3, 1));
    CHECK(a != corpus.batch(2, 50, 4, 1));
    CHECK(a != corpus.batch(2, 50, 3, 0));
    CHECK(a != MarkovCorpus(64, 3, 6).batch(2, 50, 3, 1));
    CHECK(std::set(a.begin(), a.end()).size() > 10);
}

TEST_CASE("a corpus that cannot exist is refused", "[step]")
{
    CHECK_THROWS_AS(MarkovCorpus(1, 1, 0), trainfare::InputError);
    CHECK_THROWS_AS(MarkovCorpus(4, 5, 0), trainfare::InputError);
    CHECK_NOTHROW(MarkovCorpus(4, 4, 0));
}
