// SPDX-License-Identifier: Apache-2.0
//
// What will be measured. Points come from the model's own operations (block_ops), so that what is measured is exactly
// what projections look up.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.hpp"
#include "model/cluster.hpp"
#include "model/op.hpp"
#include "model/plan.hpp"

namespace trainfare::measure {

enum class Group : std::uint8_t {
    ceilings, // what the chip reaches at best: HBM, large products, PCIe, launches
    dense,    // the model's matrix products but the experts'
    experts,  // grouped products over local experts, rows and skew of the load
    attention,
    memory,     // kernels bound by memory
    sms,        // a few operations on part of the SMs
    contention, // the same beside a kernel that copies memory
    sustained,  // a mix until clocks have settled
    closure,    // the real step, end to end
    drift,      // some points again at the end
    count
};
std::string_view name(Group);
std::optional<Group> group_from(std::string_view);

/// One thing to measure.
struct Point {
    Group group = Group::dense;
    std::string
        method; // how it is run: "gemm", "add_rms_norm" ... (subjects.cpp); of ceilings what is measured: "hbm_copy"
    Op op;      // as the model counts it; operations bound by memory carry rows, width and a third size in m, n, k
    double share = 1;    // of the kernel's time: below 1 where one kernel does two of the model's operations
    double load_cv = 0;  // of the rows per expert
    int sm_budget = 0;   // SMs the operation may use; 0: all
    int comm_sms = 0;    // SMs that a copying kernel holds meanwhile; the operation has the others
    int repeat = 0;      // drift: 1
    std::string variant; // not what the step runs: another library of grouped products, or "free-order" (attention)

    /// Text that no other point of a plan has: its group, then what is run.
    [[nodiscard]] std::string key() const;
    [[nodiscard]] std::string what() const;
    /// Alone on the whole chip, evenly loaded, one of the model's operations: what projections look up.
    [[nodiscard]] bool plain() const;
};

/// How far each group goes.
struct Sizes {
    std::vector<std::int64_t> tokens;       // of one micro-batch on one GPU: dense and router, head
    std::vector<std::int64_t> moved_tokens; // the same for operations bound by memory
    std::vector<int> local_experts;
    std::vector<std::int64_t> expert_rows;   // per expert
    std::int64_t most_rows = 0;              // over all local experts
    std::vector<double> load_cv;             // beyond 0, at the plan's own number of local experts
    std::vector<int> sequences, head_shares; // attention: lengths; all heads divided by
    std::vector<double> parameters;          // optimizer
    std::int64_t square = 0;                 // ceilings: m = n = k
    double hbm_bytes = 0;
    std::vector<int> fewer_sms, comm_sms;
    std::int64_t subset_tokens = 0; // of the operations under sms, contention and sustained
    int subset = 10;
    bool variants = true; // other libraries as well
    double sustained_s = 0;
    double repeat_share = 0; // of all points, repeated for drift
};
Sizes full_sizes();
Sizes quick_sizes(); // about 100 points in one precision, a minute
Sizes host_sizes();  // for a tiny model on the host back-end

struct Request {
    Architecture model;
    int ep = 0, tp = 1, seq = 4096, micro_batch = 1; // ep 0: the largest power of two up to 64 that divides the experts
    std::vector<Precision> precisions{Precision::bf16, Precision::fp8_block};
    std::set<Group> groups; // empty: all
    int sms = 132;
    Sizes sizes = full_sizes();
    std::uint64_t seed = 1;

    [[nodiscard]] bool wants(Group) const;
    [[nodiscard]] Plan plan(Precision, std::int64_t tokens) const;
    [[nodiscard]] int experts_per_gpu() const; // of the first layer with experts; 0: the model has none
};

/// @throws InputError where the model cannot be laid out so.
void check(Request const&);

/// Every point once, in the order they are to be measured: first ceilings, then the shapes of the step itself (dense,
/// experts, attention, memory), then other sizes and conditions, last the real step, the sustained mix and the
/// repetitions. Within each of these shuffled by seed. Deterministic.
std::vector<Point> make_points(Request const&);

/// 16 hexadecimal digits that change with any point; the order does not matter.
std::string plan_hash(std::vector<Point> const&);

/// Launches in a row whose mean is the gap between them.
inline constexpr int tiny_launches = 100;

/// What it will take on @p gpu, set-up included: a guess for progress, not a projection. Of a host: for tiny models.
double seconds_guess(Point const&, Accelerator const& gpu, double measuring_s, double sustained_s);

} // namespace trainfare::measure
