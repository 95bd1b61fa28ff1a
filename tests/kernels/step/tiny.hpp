// SPDX-License-Identifier: Apache-2.0
//
// Small training runs for the tests of the step.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/step/corpus.hpp"
#include "kernels/step/trainer.hpp"
#include "model/parts.hpp"

namespace trainfare::kernels {

inline StepConfig tiny_config(Architecture const& model = tiny_model())
{
    StepConfig c;
    c.model = model;
    c.seq_len = 16, c.micro_batch = 2;
    c.init_deviation = 0.08F; // a small model needs larger weights for its layers to matter
    c.head_rows = 24;         // no divisor of 32 tokens: the last chunk is short
    c.adam.lr = 3e-3F;
    return c;
}

/// Latent attention, experts and a module for further tokens in sizes that fp8_block takes.
inline StepConfig blocks_config()
{
    Experts experts;
    experts.count = 8, experts.top_k = 2, experts.width = 128, experts.shared_width = 128;
    Architecture m;
    m.name = "blocks", m.model_type = "toml", m.hidden = 128, m.vocab = 64, m.other_parameters = 128;
    auto const attention = latent_attention(128, 4, 32, {128, 128, 32, 32});
    m.layers = {{attention, dense_ffn(128, 128), 256.0}, {attention, moe_ffn(128, experts), 256.0}};
    m.mtp = mtp_modules(m, 1);
    auto c = tiny_config(m);
    c.seq_len = 64;
    return c;
}

inline int sequence_length(StepConfig const& c) { return c.seq_len + 1 + static_cast<int>(c.model.mtp.size()); }

inline std::vector<std::int32_t> tokens_of(StepConfig const& c, std::uint64_t step = 0, int rank = 0)
{
    return MarkovCorpus{c.model.vocab, 3, 7}.batch(c.micro_batches * c.micro_batch, sequence_length(c), step, rank);
}

/// A back-end, a group of one and a trainer.
struct SoloRun {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Communicator> world;
    Trainer trainer;

    explicit SoloRun(StepConfig const& c, bool reference = false)
        : backend{make_host_backend(reference)}, world{make_solo_communicator(*backend)}, trainer{*backend, *world, c}
    {
    }

    std::vector<double> weight(std::string const& name) { return backend->download(trainer.weight(name)); }
    std::vector<double> gradient(std::string const& name) { return backend->download(trainer.gradient(name)); }
};

/// ||a - b|| / ||b||.
inline double relative_distance(std::vector<double> const& a, std::vector<double> const& b)
{
    double difference = 0, length = 0;
    for (std::size_t i = 0; i < b.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), length += b[i] * b[i];
    return a.size() == b.size() ? std::sqrt(difference / std::max(length, 1e-300)) : 1e300;
}

} // namespace trainfare::kernels
