// SPDX-License-Identifier: Apache-2.0
//
// trainfare-step: trains the small model of the tests and prints what one step takes and where the loss gets, for each number format
// and way of sharing the work.   trainfare-step [STEPS] [cuda]
#include <charconv>
#include <chrono>
#include <exception>
#include <functional>
#include <string_view>

#include <fmt/format.h>

#include "kernels/comm/communicator.hpp"
#include "kernels/step/corpus.hpp"
#include "kernels/step/trainer.hpp"
#include "model/parts.hpp"

using namespace trainfare;
using namespace trainfare::kernels;

namespace {

/// Multi-head latent attention, a dense layer, a layer of 8 experts and a module for further tokens; fp8 needs multiples of 128.
Architecture small_model()
{
    Experts experts;
    experts.count = 8, experts.top_k = 2, experts.width = 128, experts.shared_width = 128;
    Architecture m;
    m.name = "small", m.model_type = "toml", m.hidden = 128, m.vocab = 64, m.other_parameters = 128;
    auto const attention = latent_attention(128, 4, 32, {128, 128, 32, 32});
    m.layers = {{attention, dense_ffn(128, 128), 256.0}, {attention, moe_ffn(128, experts), 256.0}};
    m.mtp = mtp_modules(m, 1);
    return m;
}

struct Way {
    char const* name;
    Precision precision;
    int ranks, ep;
    bool zero1;
};

struct Outcome {
    double parameters = 0, first = 0, last = 0, seconds = 0;
};

Outcome train(Way const& way, int steps, bool cuda)
{
    StepConfig c;
    c.model = small_model();
    c.seq_len = 64, c.micro_batch = 2;
    c.init_deviation = 0.08F, c.adam.lr = 3e-3F;
    c.precision = way.precision, c.ep = way.ep, c.zero1 = way.zero1;
    MarkovCorpus const corpus{c.model.vocab, 4, 1};
    Outcome out;
    auto const body = [&](Backend& backend, Communicator& world) {
        Trainer trainer{backend, world, c};
        auto const start = std::chrono::steady_clock::now();
        double first = 0, last = 0;
        for (int i = 0; i < steps; ++i) {
            auto const tokens = corpus.batch(c.micro_batch, c.seq_len + 2, static_cast<std::uint64_t>(i), world.rank());
            last = trainer.step(tokens).loss;
            if (i == 0) first = last;
        }
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - start;
        if (world.rank() == 0) out = {trainer.parameters(), first, last, took.count() / steps};
    };
    if (cuda) {
        auto const backend = make_cuda_backend(0);
        body(*backend, *make_solo_communicator(*backend));
    } else {
        run_ranks(way.ranks, [] { return make_host_backend(false); }, body);
    }
    return out;
}

} // namespace

int main(int argc, char** argv)
{
    int steps = 40;
    bool cuda = false;
    for (int i = 1; i < argc; ++i) {
        std::string_view const word{argv[i]};
        auto const [end, error] = std::from_chars(word.data(), word.data() + word.size(), steps);
        if (word == "cuda")
            cuda = true;
        else if (error != std::errc{} || end != word.data() + word.size() || steps < 1 || steps > 1'000'000) {
            fmt::print(stderr, "usage: trainfare-step [STEPS] [cuda]     STEPS from 1 to 1000000, default 40\n");
            return 2;
        }
    }
    try {
        MarkovCorpus const corpus{64, 4, 1};
        fmt::print("Training a small model (MLA, 8 experts, MTP), {} steps of 128 tokens a rank, on {}\n", steps,
                   cuda ? "cuda" : "cpu");
        fmt::print("Loss of guessing by frequency {:.3f} nats, by the token before {:.3f}\n\n", corpus.unigram_entropy(),
                   corpus.entropy_rate());
        fmt::print("  {:<34} {:>10} {:>12} {:>11} {:>10}\n", "", "parameters", "ms per step", "first loss", "last loss");
        for (Way const& way : {Way{"bf16", Precision::bf16, 1, 1, false},
                               Way{"fp8 in blocks", Precision::fp8_block, 1, 1, false},
                               Way{"bf16, 2 ranks, ZeRO-1", Precision::bf16, 2, 1, true},
                               Way{"bf16, 4 ranks, EP 4, ZeRO-1", Precision::bf16, 4, 4, true}}) {
            if (cuda && way.ranks > 1) continue;
            auto const r = train(way, steps, cuda);
            fmt::print("  {:<34} {:>10.0f} {:>12.1f} {:>11.3f} {:>10.3f}\n", way.name, r.parameters, 1e3 * r.seconds,
                       r.first, r.last);
        }
    } catch (std::exception const& error) {
        fmt::print(stderr, "trainfare-step: {}\n", error.what());
        return 3;
    }
    return 0;
}
