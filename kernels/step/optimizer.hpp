// SPDX-License-Identifier: Apache-2.0
//
// From gradients to new weights: exchange, clipping by the global norm, AdamW on this rank's shard, and the weights of
// all shards to everyone (ZeRO-1, arXiv:1910.02054 s5.1).
#pragma once

#include "kernels/step/context.hpp"
#include "kernels/step/parameters.hpp"

namespace trainfare::kernels {

class Optimizer {
public:
    Optimizer(Context const&, Communicator& world, Parameters&);

    void clear_gradients();
    /// Sums a bucket's gradients over the ranks that hold its parameters: into the shard, or in place.
    void reduce(int bucket);
    void reduce_all();
    /// The same, but always in place and whole.
    void reduce_in_place();
    /// After all buckets were reduced. Never waits, so that it can be captured.
    void update();

    /// f32 [1, 1]: of the last update, over all parameters of all ranks, each once.
    [[nodiscard]] Tensor const& sum_of_squares() const { return squares_; }
    /// The same from gradients as reduce_in_place() leaves them.
    void measure_in_place();
    /// i32 [1, 1]: updates done.
    [[nodiscard]] Tensor const& steps() const { return steps_; }

private:
    void measure(Tensor const& dense, Tensor const& expert, bool sharded);
    [[nodiscard]] std::vector<FlatSpace*> spaces() const;

    Context const& context_;
    Communicator& world_;
    Parameters& parameters_;
    Tensor steps_, squares_, expert_squares_, grad_scale_;
};

} // namespace trainfare::kernels
