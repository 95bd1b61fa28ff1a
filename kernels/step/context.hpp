// SPDX-License-Identifier: Apache-2.0
//
// What every part of the step needs to know: the machine, the configuration, and the ranks that share the experts.
#pragma once

#include "kernels/comm/communicator.hpp"
#include "kernels/step/config.hpp"

namespace trainfare::kernels {

struct Context {
    Backend& backend;
    StepConfig const& config;
    Communicator& experts; // ranks that share the experts: rows travel here ...
    Communicator& counts;  // ... and their numbers here, so that these need not wait for rows under way

    [[nodiscard]] bool fp8() const { return config.precision == Precision::fp8_block; }
    /// Tokens of a micro-batch.
    [[nodiscard]] std::int64_t tokens() const { return std::int64_t{config.micro_batch} * config.seq_len; }
    [[nodiscard]] std::int64_t hidden() const { return config.model.hidden; }
    /// Rows of an expert start at multiples of this: a scale block must not span two experts, nor a tile of the tensor
    /// core.
    [[nodiscard]] std::int64_t alignment() const { return fp8() ? 128 : 16; }
    /// Rows travel even where one rank plays a whole group.
    [[nodiscard]] bool exchanges() const { return config.ep > 1 || config.emulated_ep > 1; }
    [[nodiscard]] int local_experts(int count) const { return count / config.ep / config.emulated_ep; }

    [[nodiscard]] Tensor bf16(std::int64_t rows, std::int64_t cols) const
    {
        return backend.make(Element::bf16, rows, cols);
    }
    [[nodiscard]] Tensor f32(std::int64_t rows, std::int64_t cols) const
    {
        return backend.make(Element::f32, rows, cols);
    }
    [[nodiscard]] Tensor i32(std::int64_t rows, std::int64_t cols) const
    {
        return backend.make(Element::i32, rows, cols);
    }
    [[nodiscard]] Operand quantised(std::int64_t rows, std::int64_t cols) const
    {
        return make_quantised(backend, Scaling::vector128, rows, cols);
    }
};

} // namespace trainfare::kernels
