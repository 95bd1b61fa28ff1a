// SPDX-License-Identifier: Apache-2.0
//
// Where the parameters live: flat buffers, so that gradients are exchanged and weights updated by few large operations.
// Two of them: dense parameters are held by all ranks alike, expert parameters only by the ranks that hold the same
// experts.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/comm/communicator.hpp"
#include "kernels/step/config.hpp"

namespace trainfare::kernels {

/// A matrix or vector of the model; views into a flat buffer, set by Parameters::allocate(). The experts of a layer are
/// one parameter, their matrices one below the other.
struct Parameter {
    std::string name; // experts: with "*" where the expert's number goes
    std::int64_t rows = 0, cols = 0;
    int experts = 0;      // held here; 0: dense
    int first_expert = 0; // number of the first in the whole model
    bool ones = false;    // norms start at 1, all else from a normal distribution
    std::int64_t offset = 0;
    Tensor weight, gradient;

    /// Name of one matrix; @p expert counts from 0 here. "layers.1.experts.*.up" -> "layers.1.experts.5.up".
    [[nodiscard]] std::string name_of(int expert) const;
    [[nodiscard]] std::int64_t rows_each() const { return experts == 0 ? rows : rows / experts; }
};

/// A stretch of a flat buffer that is exchanged at once: the parameters of one layer.
struct Bucket {
    std::int64_t begin = 0, count = 0;
};

/// Parameters that are reduced over the same ranks. With ZeRO-1, rank r of the group keeps the r-th part of each bucket
/// in master, moments and shard_*, one bucket after another; else these hold everything and shard_* are the flat
/// buffers themselves.
struct FlatSpace {
    Communicator* group = nullptr;
    int shards = 1;
    std::vector<Bucket> buckets;
    std::int64_t count = 0;
    Tensor weights, gradients;       // bf16, f32
    Tensor master, moment1, moment2; // f32; moments as configured
    Tensor shard_weights, shard_gradients;

    [[nodiscard]] bool sharded() const { return shards > 1; }
    /// Elements of @p bucket in a shard's numbering.
    [[nodiscard]] Bucket shard_of(Bucket const& bucket) const { return {bucket.begin / shards, bucket.count / shards}; }
};

/// Elements [first, first + count) of a contiguous tensor as a vector.
Tensor slice(Tensor const& flat, std::int64_t first, std::int64_t count);
inline Tensor slice(Tensor const& flat, Bucket const& b) { return slice(flat, b.begin, b.count); }

class Parameters {
public:
    /// @param world, expert_group over which gradients of dense and of expert parameters are summed
    Parameters(Backend&, StepConfig const&, Communicator& world, Communicator& expert_group);

    /// What is declared next is exchanged together; its number.
    int next_bucket();
    [[nodiscard]] int buckets() const { return static_cast<int>(dense_.buckets.size()); }
    Parameter const& matrix(std::string name, std::int64_t rows, std::int64_t cols);
    Parameter const& norm(std::string name, std::int64_t cols);
    /// @p rows each; @p name has a "*" for the expert's number.
    Parameter const& experts(std::string name, int count, int first, std::int64_t rows, std::int64_t cols);

    /// After the last declaration: memory and first values. These depend on seed and names alone, not on how experts
    /// are spread over ranks.
    void allocate();

    [[nodiscard]] std::deque<Parameter> const& all() const { return all_; }
    FlatSpace& dense() { return dense_; }
    FlatSpace& expert() { return expert_; }

private:
    Parameter const& declare(Parameter);
    FlatSpace& space_of(Parameter const& p) { return p.experts > 0 ? expert_ : dense_; }
    void allocate(FlatSpace&);
    void start_values(FlatSpace&, std::size_t bucket);

    Backend& backend_;
    StepConfig const& config_;
    FlatSpace dense_, expert_;
    std::deque<Parameter> all_; // a deque: references stay valid
};

} // namespace trainfare::kernels
