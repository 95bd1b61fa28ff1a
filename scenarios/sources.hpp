// SPDX-License-Identifier: Apache-2.0
//
// Which table rows priced the step, and how much of it. Private to run() and explain().
#pragma once

#include <vector>

#include "scenarios/estimate.hpp"
#include "scenarios/run.hpp"

namespace trainfare {

/// Every operation of the step once per block it occurs in, with how often a step runs it on an average GPU.
struct OpUse {
    Op op;
    double times = 0;    // per step, mean over pipeline ranks
    Cost cost;           // of one run, under the conditions in which most of them run
};
std::vector<OpUse> op_uses(StepInputs const&);

/// Time-weighted spread of each class, and the source that prices most of it.
struct ClassUse {
    OpClass op_class;
    double seconds = 0;
    double spread = 0;
    std::string source;
};
std::vector<ClassUse> class_uses(StepInputs const&);

std::vector<UsedSource> used_sources(StepInputs const&);
/// Those whose exact shape has no row, largest share of compute first.
std::vector<GuessedOp> guessed_ops(StepInputs const&);

/// Name of an operation for explain(): "op:q_b_proj.forward".
std::string op_key(Op const&);

} // namespace trainfare
