// SPDX-License-Identifier: Apache-2.0
//
// What one operation costs on one accelerator, how sure that is, and where it comes from.
//
// time = kernels x gap + max( FLOPs / (rate x SM share x contention), bytes / (share of HBM bandwidth) )
//
// The rate of a matrix product is looked up by its exact (N, K, groups) and interpolated along its rows only
// (GEMM rates are a sawtooth in N and K: notes on wave quantisation in calibrate/tables/README.md); otherwise the
// nearest shape serves and the cost says so; otherwise a class rate of rates.csv. A memory-bound operation is looked up by its
// bytes. Measured rows go before published ones.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "calibrate/tables.hpp"
#include "model/op.hpp"

namespace trainfare {

enum class Quality { exact, interpolated, extrapolated, class_rate };
std::string_view name(Quality);

/// "m=4096 n=2112 k=7168", "1 x 4096 tokens, 128 heads, 192/128 wide", "117.4 MB".
std::string shape_words(Op const&);

/// What of the chip an operation has. A training step slows a benchmarked kernel by two factors, not one: the SMs that
/// communication kernels hold, and what sustained load costs beyond that (Contention::matrix).
struct Conditions {
    int comm_sms = 0; // SMs set aside for communication; 0: the whole chip computes
    friend bool operator==(Conditions const&, Conditions const&) = default;
};

struct Cost {
    Seconds time;
    double spread = 0; // relative half-width of a 90 % interval
    Quality quality = Quality::class_rate;
    int source = -1;        // index into Tables::sources
    std::string derivation; // filled only by explain(): each factor with its row
};

/// What-if factors: 1.1 on flops means 10 % more FLOP/s. by_class multiplies the time of a class (interval
/// propagation).
struct WhatIf {
    double flops = 1, hbm = 1;
    std::array<double, static_cast<std::size_t>(OpClass::count)> by_class;
    WhatIf() { by_class.fill(1); }
};

/// Factors that two sets of published timings of the same thing imply: in a benchmark of its own, and in a training
/// step.
///
/// matrix: what a training step got out of kernels that benchmarks of their newest release promise. DeepSeek's layer
/// trace (2025-02) over DeepGEMM's newest figures gives about 0.88 on H800. Three causes cannot be told apart with
/// public data: the kernels of the trace were older (against the release of the same month the factor is 1.01), clocks
/// fall under sustained load (1,600 of 1,830 MHz would be 0.87: FlashMLA deep-dive, 2025-04), and L2 and HBM are
/// shared. It is a software date as much as a physical factor.
struct Contention {
    double matrix = 1; // rate of matrix products in a step, beyond the SMs lost; <= 1
    double matrix_spread = 0;
    double exchange = 1; // time of dispatch and combine beside compute, over alone; >= 1
    double exchange_spread = 0;
    double memory = 1;      // bandwidth of memory-bound kernels beside communication, over alone; <= 1
    double memory_spread = 0;
    double sm_exponent = 1; // rate of a product confined to a share s of the SMs is s^exponent of the whole chip's
    int matrix_pairs = 0;   // kernels behind each figure
    int exchange_pairs = 0;
    int memory_pairs = 0;
    int sm_pairs = 0;
};

/// From ops.csv rows with and without comm_sms of the same shape (measured pairs where there are any, else published ones), rows with
/// sm_budget against the whole chip, and expert exchanges of a training trace against the same exchange benchmarked alone
/// (geometric means). An accelerator without pairs borrows those of the others,
/// with more spread; tables without any pair give factors of 1.
Contention derive_contention(Tables const&, Accelerator const&);

class CostModel {
public:
    /// @param strict refuse class rates: @throws MissingCalibration on the first operation without a measured row.
    CostModel(Tables const& tables, Accelerator const& gpu, bool strict = false, WhatIf what_if = {});

    [[nodiscard]] Cost cost(Op const&, Conditions) const;
    /// The same with the derivation in words, one line per factor.
    [[nodiscard]] Cost explain(Op const&, Conditions) const;
    /// Rate of the operation alone on the chip (FLOP/s of a matrix product, B/s of others) and how it was found; no
    /// contention, no launch gap. For judging look-ups (calibrate/fit.hpp).
    struct Alone {
        double rate = 0;
        Quality quality = Quality::class_rate;
    };
    [[nodiscard]] Alone alone(Op const&) const;

    [[nodiscard]] Tables const& tables() const { return *tables_; }
    [[nodiscard]] Accelerator const& gpu() const { return gpu_; }
    [[nodiscard]] Seconds launch_gap() const { return gap_; }
    [[nodiscard]] Contention const& contention() const { return contention_; }

private:
    struct Rate {
        double value = 0; // FLOP/s or B/s, alone on the chip
        double spread = 0;
        Quality quality = Quality::class_rate;
        int source = -1;
        bool measured = false;  // of a memory-bound operation: its time holds all kernels of the operation
        bool counted = false;   // the time is part of another operation's row: nothing to add
        std::string words;      // explain() only
    };
    /// What a look-up in ops.csv found.
    struct Found {
        double rate = 0, spread = 0;
        Quality quality = Quality::exact;
        OpRow const* row = nullptr;
        bool other_shape = false; // from other shapes, not from other sizes of this one
        double undo = 1;          // factor of the row's own conditions
    };
    [[nodiscard]] Rate look_up(Op const&, bool words) const;
    [[nodiscard]] Rate matrix_rate(Op const&, bool words) const;
    [[nodiscard]] Rate attention_rate(Op const&, bool words) const;
    [[nodiscard]] Rate memory_rate(Op const&, bool words) const;
    [[nodiscard]] Rate finish(Found const&, std::string const& how, bool words) const;
    [[nodiscard]] double guess_spread(Found const&) const;
    [[nodiscard]] double beside_factor(OpRow const&) const;
    [[nodiscard]] Rate class_rate(Op const&, std::string_view quantity, bool words) const;
    [[nodiscard]] Cost price(Op const&, Conditions, bool words) const;
    [[nodiscard]] double peak(Precision) const;

    Tables const* tables_;
    Accelerator gpu_;
    bool strict_;
    WhatIf what_if_;
    Seconds gap_;
    Contention contention_;
    std::string donor_;              // same-die part whose rows stand in where the own table has none; empty: none
    std::vector<OpRow const*> rows_; // own rows and the donor's
};

} // namespace trainfare
