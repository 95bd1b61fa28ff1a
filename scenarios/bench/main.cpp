// SPDX-License-Identifier: Apache-2.0
//
// trainfare-bench: how fast the answer comes, and how it grows. Prints figures, judges nothing. Times are wall seconds
// of this machine; the ratios are what to compare.
#include <chrono>
#include <vector>

#include <fmt/format.h>

#include "scenarios/estimate.hpp"
#include "scenarios/load.hpp"
#include "scenarios/run.hpp"

using namespace trainfare;

namespace {

template <class F>
double seconds_of(F&& work)
{
    auto const start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void reference_case()
{
    auto const scenario = load_scenario(shipped_folder() + "/examples/deepseek-v3-h800.toml");
    Result r;
    double const all = seconds_of([&] { r = run(scenario); });
    RunOptions bare;
    bare.intervals = bare.slopes = false;
    double const one = seconds_of([&] { run(scenario, bare); });
    auto const& slots = r.causes.slots;
    fmt::print("DeepSeek-V3 on 2,048 H800s, nothing fitted to the published step\n"
               "                1F  bubble      1B      1W    1F1B     opt     sum    pair of 4 layers\n"
               "  (s)                                                                 (ms)\n"
               "  published   1.13    2.06    1.99    0.48   13.95    0.29  19.926   129.0\n"
               "  trainfare {:6.2f}  {:6.2f}  {:6.2f}  {:6.2f}  {:6.2f}  {:6.2f}  {:6.3f}   {:5.1f}\n"
               "  a step: {:.3f} s wall; with intervals and slopes {:.3f} s\n\n",
               slots.forward, slots.bubble, slots.backward, slots.weight, slots.overlapped, slots.optimizer,
               r.projection.step_time_s.value, r.pair ? r.pair->seconds * 1e3 : 0.0, one, all);
}

/// DeepSeek's layer trace (profile-data, train.json): ms of one pair over four layers on the compute streams, by class.
struct TraceClass {
    OpClass op_class;
    double published_ms;
    char const* rate_from; // what our rate stands on
};
constexpr TraceClass trace[] = {
    {OpClass::expert_gemm, 22.9, "DeepGEMM benchmark x step factor, which stands on this trace"},
    {OpClass::wgrad, 32.8, "DeepGEMM benchmark x step factor (trace: 11.4 of it on a second stream)"},
    {OpClass::dense_gemm, 18.8, "DeepGEMM benchmark x step factor, which stands on this trace"},
    {OpClass::attention_backward, 17.0, "the same trace"},
    {OpClass::attention_forward, 4.9, "the same trace"},
    {OpClass::cast, 15.6, "the same trace"},
    {OpClass::permute, 5.1, "the same trace"},
    {OpClass::elementwise, 5.0, "the same trace"},
    {OpClass::norm, 3.4, "the same trace"},
    {OpClass::activation, 1.9, "the same trace"},
    {OpClass::rope, 1.5, "the same trace"},
    {OpClass::router, 0.5, "the same trace"},
};

void layer_trace()
{
    auto const r = run(load_scenario(shipped_folder() + "/examples/deepseek-v3-h800.toml"));
    if (!r.pair) return;
    double ours = 0, published = 0;
    fmt::print("One forward beside one backward over {} MoE layers, by class of operation\n"
               "                      published  trainfare  rate from\n"
               "                           (ms)       (ms)\n",
               r.pair->layers);
    for (auto const& row : trace) {
        double const ms = r.pair->by_class[static_cast<std::size_t>(row.op_class)] * 1e3;
        ours += ms, published += row.published_ms;
        fmt::print("  {:<19} {:9.1f}  {:9.1f}  {}\n", name(row.op_class), row.published_ms, ms, row.rate_from);
    }
    fmt::print("  {:<19} {:9.1f}  {:9.1f}\n  {:<19} {:9.1f}  {:9.1f}  {:+.1f} %\n  {:<19} {:9.1f}  {:9.1f}\n\n", "sum",
               published, ours, "the pair", 129.0, r.pair->seconds * 1e3, 100 * (r.pair->seconds / 0.129 - 1),
               "exchanges, busy", 113.0, r.pair->exchange_seconds * 1e3);
}

/// The reference plan at another size: as many micro-batches a rank (120), more data-parallel replicas. 256 GPUs: 4
/// pipeline ranks.
Scenario sized(int gpus)
{
    int const pp = gpus >= 1024 ? 16 : 4, dp = gpus / pp;
    return load_scenario(shipped_folder() + "/examples/deepseek-v3-h800.toml",
                         {fmt::format("cluster.gpus={}", gpus), fmt::format("plan.pp={}", pp),
                          fmt::format("plan.dp={}", dp), fmt::format("plan.global_batch={}", 120 * dp)});
}

void growth()
{
    fmt::print("One iteration, folded, 120 micro-batches a rank\n"
               "    GPUs  groups classes    flows   tasks   build    fold   simulate  child peak    step\n"
               "                                              (s)     (s)        (s)        (MB)     (s)\n");
    auto const tables = load_tables(default_tables_folder());
    for (int const gpus : {256, 2048, 16384, 65536}) {
        auto const scenario = sized(gpus);
        auto const model = step_model(step_inputs(scenario, tables, false));
        Iteration iteration;
        Folded folded;
        SimulationRun result;
        double const build = seconds_of([&] { iteration = build_iteration(model, scenario.cluster); });
        double const folding = seconds_of([&] {
            folded = fold(iteration.problem);
            if (!check_fold(folded).empty()) fmt::print("  the fold is not exact\n");
        });
        double const simulation = seconds_of([&] { result = simulate(folded); });
        fmt::print("{:8} {:7} {:7} {:8} {:7} {:7.3f} {:7.3f} {:10.3f} {:11.0f} {:7.3f}\n", gpus,
                   iteration.problem.groups.size(), folded.representative.size(), iteration.problem.flows.size(),
                   result.tasks, build, folding, simulation, result.peak_memory.value() / 1e6, result.makespan.value());
    }
    fmt::print("\n");
}

void closed_form_rate()
{
    auto const scenario = load_scenario(shipped_folder() + "/examples/deepseek-v3-h800.toml");
    auto const tables = load_tables(default_tables_folder());
    auto const inputs = step_inputs(scenario, tables, false);
    auto const model = step_model(inputs);
    constexpr int repeats = 200;
    double const priced = seconds_of([&] {
        for (int i = 0; i < repeats; ++i) closed_step(inputs);
    });
    double const known = seconds_of([&] {
        for (int i = 0; i < repeats; ++i) closed_form(model);
    });
    fmt::print("Closed form of the reference case: {:.0f} a second with every operation priced anew, {:.0f} with known "
               "costs\n",
               repeats / priced, repeats / known);
}

} // namespace

int main()
{
    try {
        reference_case();
        layer_trace();
        growth();
        closed_form_rate();
    } catch (std::exception const& error) {
        fmt::print(stderr, "trainfare-bench: {}\n", error.what());
        return 5;
    }
    return 0;
}
