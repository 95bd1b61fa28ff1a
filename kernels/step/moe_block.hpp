// SPDX-License-Identifier: Apache-2.0
//
// The mixture-of-experts part of a layer: router, rows to their experts (on this rank or others) and back, the weighted
// sum, and the shared expert beside it.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernels/step/exchange.hpp"
#include "kernels/step/mlp.hpp"
#include "kernels/step/program.hpp"

namespace trainfare::kernels {

/// What one micro-batch brings to a MoE layer: how experts are chosen, and where to note it.
struct MoeTask {
    ExpertPlan const* plan = nullptr; // known ahead; null: asked for
    Tensor forced;                    // i32 [T, k]; empty: the gate chooses
    Tensor chosen;                    // i32 [T, k], written
    std::span<std::int32_t> counts;   // per expert of the model; added to where plan is null
};

class MoeBlock {
public:
    /// What backward needs, and what passes from one segment to the next.
    struct Saved {
        MoeTask task;
        ExpertPlan plan;
        Tensor y;  // normed input, bf16: the router's
        Operand x; // the same as the experts and the shared expert take it
        Tensor logits, weights;
        Tensor position; // of each choice among the rows that leave (without exchange: that experts get)
        Tensor arrived;  // of each row that came, among those that experts get
        Tensor source;   // the other way round
        Tensor rows;     // outputs in the order of `position`
        Tensor gradient; // of those, and of what goes back
        Tensor d_logits;
        Parcel parcel;
        Mlp::Saved experts, shared;
    };

    MoeBlock(Context const&, Parameters&, Experts const&, std::string const& prefix);

    /// The quantised copies of the weights.
    void prepare();

    /// Adds segments to @p program; they read and write what is referred to when they run. @p y: normed input; @p out:
    /// to be added to the residual.
    void forward(Program& program, Saved&, Tensor const& y, Tensor& out) const;
    /// @p d_out gradient of out; @p d_y: written.
    void backward(Program& program, Saved&, Tensor const& d_out, Tensor& d_y) const;

    /// Correction of the scores against the load, f32 [1, E]; empty: none.
    [[nodiscard]] Tensor const& bias() const { return bias_; }

private:
    void route(Saved&) const;
    void ask_for_counts(Saved&, Tensor const& counts) const;
    [[nodiscard]] Operand to_experts(Saved&) const;
    [[nodiscard]] Operand gather(Operand const& x, Tensor const& source, int divide) const;
    [[nodiscard]] Tensor gather_plain(Tensor const& x, Tensor const& source) const;

    Context const& context_;
    Experts shape_;
    Gate gate_;
    int local_;
    Linear router_;
    Mlp experts_;
    std::unique_ptr<Mlp> shared_;
    RowExchange exchange_;
    Tensor bias_;
    Tensor local_number_; // i32 [E, 1]: number of an expert on the rank that holds it
};

} // namespace trainfare::kernels
