// SPDX-License-Identifier: Apache-2.0
//
// The training step: forward, backward, optimizer, over any back-end and communicator.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/comm/communicator.hpp"
#include "kernels/step/config.hpp"

namespace trainfare::kernels {

/// Experts chosen by each token of one rank and step: [micro-batch][MoE layer, MTP last][token x top_k]. Recorded from one run, it
/// makes another take the same discrete choices, so that back-ends can be compared; and it makes sizes known ahead, which capture needs.
struct Routing {
    std::vector<std::vector<std::vector<std::int32_t>>> chosen;
};

/// A routing in which loads of experts have the given coefficient of variation (0: equal to one row), the same for every layer.
/// Deterministic in @p seed.
Routing make_routing(StepConfig const&, double load_cv, std::uint64_t seed);

struct StepResult {
    double loss = 0;             // mean next-token loss of all tokens of this rank's batch, nats; MTP not included
    std::optional<double> mtp_loss;
    double gradient_norm = 0;    // before clipping, over all parameters
};

class Trainer {
public:
    /// @throws InputError listing check()'s reasons.
    Trainer(Backend&, Communicator& world, StepConfig const&);
    ~Trainer();

    /// One optimizer step. tokens: micro_batches x micro_batch x (seq_len + 1 + MTP modules) ids; each sequence carries its targets.
    /// @p routing forces experts; absent: the gate chooses (live; waits once per MoE layer for the counts).
    StepResult step(std::span<std::int32_t const> tokens, Routing const* routing = nullptr);

    /// Captures a whole step for @p routing; replay(tokens) then runs it without the host in between. @throws InternalError unless a
    /// step() has run before.
    void capture(Routing const& routing);
    StepResult replay(std::span<std::int32_t const> tokens);

    /// Parts of the last step() or replay(), for calibration: seconds of forward+backward and of gradient exchange + optimizer.
    struct Times { double passes = 0, update = 0; };
    [[nodiscard]] Times last_times() const;

    /// What the gate chose in the last step().
    [[nodiscard]] Routing last_routing() const;

    /// Weights, optimizer state, step count and gate biases of this rank, bitwise. The file names format version and shapes; written
    /// beside and renamed, so an interrupted save leaves the old file. @throws InputError when a file does not fit this configuration.
    void save(std::filesystem::path const&) const;
    void restore(std::filesystem::path const&);

    [[nodiscard]] double parameters() const; // held by this rank
    /// For gradient checks: flat weights and gradients of this rank by parameter name.
    [[nodiscard]] std::vector<std::string> parameter_names() const;
    [[nodiscard]] Tensor weight(std::string const& name) const;
    [[nodiscard]] Tensor gradient(std::string const& name) const;
    /// Forward and backward without optimizer: gradients stay for inspection.
    StepResult gradients(std::span<std::int32_t const> tokens, Routing const* routing = nullptr);

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace trainfare::kernels
