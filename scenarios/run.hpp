// SPDX-License-Identifier: Apache-2.0
//
// The one question everything asks: run(Scenario) -> Result. The CLI and the window call it, so they cannot disagree.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibrate/tables.hpp"
#include "model/memory.hpp"
#include "scenarios/scenario.hpp"
#include "sim/causes.hpp"
#include "sim/closed_form.hpp"

namespace trainfare {

/// The ladder of DESIGN s4. `folded` is exact for symmetric traffic; with skewed experts its exchanges are surrogates.
enum class Fidelity { closed, folded, full };
std::string_view name(Fidelity);
std::optional<Fidelity> fidelity_from(std::string_view);

struct RunOptions {
    Fidelity fidelity = Fidelity::folded;
    bool strict = false;      // refuse class rates
    bool keep_timeline = false; // for --trace
    bool slopes = true;       // what 10 % more of each resource brings
    bool intervals = true;
};

struct Slope {
    std::string resource;      // "NVLink", "NIC", "HBM", "FLOP/s", "memory"
    double change = 0.1;       // +10 %
    double step_change = 0;    // relative change of the step time, negative is faster
    std::string words;         // "no effect: every exchange is hidden"
};

/// How much one uncertain input moves the step time; the interval is their root sum of squares.
struct SpreadPart {
    std::string name;          // "expert GEMM rate"
    double spread = 0;         // relative half-width of its 90 % interval
    double step_effect = 0;    // relative half-width it causes in the step time
    std::string source;
};

struct UsedSource {
    std::string id, provenance, title, date;
    std::string what;          // operations priced from it
    std::string quality;       // exact, interpolated, extrapolated, class_rate
    double share_of_compute = 0;
};

/// An operation whose shape nobody timed on this accelerator: its cost comes from other shapes or a class rate.
struct GuessedOp {
    std::string key;           // as explain takes it: "op:shared_up.forward"
    std::string shape;         // "m=4096 n=4096 k=7168"
    std::string quality;       // interpolated, extrapolated, class rate
    double share_of_compute = 0;
};

/// The pair of DeepSeek's trace: forward of one micro-batch beside backward of another over identical MoE layers.
struct PairReport {
    int layers = 0;
    double seconds = 0;
    ClassSeconds by_class{};       // compute, both directions
    double exchange_seconds = 0;   // all dispatches and combines, run one after another
};

struct Timeline;               // task times with labels, for the trace

struct Result {
    Scenario scenario;
    Fidelity fidelity = Fidelity::folded;
    ParameterCount parameters;
    FlopsPerToken flops;
    MemoryReport memory;
    bool fits = false;
    Projection projection;
    StepCauses causes;
    std::optional<PairReport> pair;
    Seconds closed_form_step;
    std::string closed_form_words; // where and why the two part
    std::vector<Slope> slopes;
    std::vector<SpreadPart> spreads;
    std::vector<UsedSource> sources;
    std::vector<GuessedOp> guessed;  // by share, descending
    std::vector<std::string> topology; // analytic reasons, one line each
    std::string limited_by;        // one sentence
    std::vector<std::string> warnings;
    double mfu_causal = 0;         // of the bf16 peak
    int group_classes = 0, groups = 0;
    std::shared_ptr<Timeline const> timeline; // only with keep_timeline
};

struct Timeline {
    Iteration iteration;
    Folded folded;             // points into iteration.problem
    SimulationRun run;
};

/// @throws InputError, MissingCalibration, InternalError.
Result run(Scenario const&, RunOptions const& = {});

/// The derivation of one number of the result, down to table rows: "step_time_s", "cost_usd", "gpu_hours", "op:q_b_proj.forward", ...
std::string explain(Scenario const&, std::string const& quantity);
std::vector<std::string> explainable_quantities(Scenario const&);

} // namespace trainfare
