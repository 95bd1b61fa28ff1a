// SPDX-License-Identifier: Apache-2.0
//
// One function a command: read, ask, print.
#include "scenarios/cli/commands.hpp"

#include <sstream>

#include <fmt/format.h>

#include "calibrate/import.hpp"
#include "model/hf_config.hpp"
#include "model/text_units.hpp"
#include "model/topology.hpp"
#include "scenarios/cli/exit_codes.hpp"
#include "scenarios/cli/output.hpp"
#include "scenarios/load.hpp"
#include "scenarios/report.hpp"

namespace trainfare {

namespace {

RunOptions run_options(Options const& o)
{
    RunOptions out;
    out.fidelity = o.fidelity;
    out.strict = o.strict;
    out.keep_timeline = !o.trace.empty();
    return out;
}

Result ask(std::string const& file, Options const& o)
{
    auto const scenario = load_scenario(file, o.set);
    note(o.quiet, fmt::format("{}: projecting ({})", scenario.name, name(o.fidelity)));
    return run(scenario, run_options(o));
}

} // namespace

int command_project(Options const& o)
{
    auto const result = ask(o.files.front(), o);
    if (!o.trace.empty()) {
        write_file(o.trace, [&](std::ostream& out) { write_trace(out, result); });
        note(o.quiet, fmt::format("trace written to {}; open it at https://ui.perfetto.dev", o.trace));
    }
    std::ostringstream out;
    if (o.json)
        out << to_json(result);
    else if (o.csv)
        write_csv(out, {result});
    else
        print_report(out, result);
    write_result(out.str());
    return result.fits ? exit_answered : exit_no;
}

int command_compare(Options const& o)
{
    std::vector<Result> results;
    for (auto const& file : o.files) results.push_back(ask(file, o));
    std::ostringstream out;
    if (o.json)
        out << comparison_to_json(results);
    else if (o.csv)
        write_csv(out, results);
    else
        print_comparison(out, results);
    write_result(out.str());
    return exit_answered;
}

int command_explain(Options const& o)
{
    auto const scenario = load_scenario(o.files.front(), o.set);
    if (!o.quantity.empty()) {
        write_result(explain(scenario, o.quantity));
        return exit_answered;
    }
    std::string list = "Quantities that can be explained:\n";
    for (auto const& quantity : explainable_quantities(scenario)) list += "  " + quantity + "\n";
    write_result(list);
    return exit_answered;
}

int command_memory(Options const& o)
{
    Result result;
    result.scenario = load_scenario(o.files.front(), o.set);
    auto const& s = result.scenario;
    auto const schedule =
        make_schedule(s.plan.schedule, s.plan.pp, s.plan.vpp, s.plan.micro_batches(), s.plan.overlap_ep);
    result.memory = memory_per_stage(s.model, s.plan, schedule, s.cluster.gpu.memory);
    result.fits = result.memory.fits();
    std::ostringstream out;
    if (o.json)
        out << memory_to_json(result);
    else
        print_memory(out, result);
    write_result(out.str());
    return result.fits ? exit_answered : exit_no;
}

int command_topology(Options const& o)
{
    auto const scenario = load_scenario(o.files.front(), o.set);
    auto const& c = scenario.cluster;
    std::string out = fmt::format(
        "{}\n{} x {} in {} nodes of {}, NVLink domains of {}, {} fabric, {} nodes a leaf, {}:1\n\n", scenario.name,
        c.gpus, c.gpu.key, c.nodes(), c.gpus_per_node, c.domain, name(c.fabric), c.nodes_per_leaf, c.oversubscription);
    auto const path = [&](std::string const& what, int from, int to) {
        if (to >= c.gpus || to == from) return;
        auto const best = widest_path(c, from, to);
        out += fmt::format("{:<28}{}, limited by {}\n", what, format(best.bandwidth), best.limit);
    };
    auto const last = (c.gpus / c.domain - 1) * c.domain;
    path("inside a domain", 0, c.domain > 1 ? 1 : c.gpus);
    path("to the next domain", 0, c.domain);
    path("to the last domain", 0, last);
    path("to its last GPU", 0, c.gpus - 1);
    if (c.gpus > 1) {
        auto const cut = bisection(c);
        out += fmt::format("{:<28}{}, across\n", "half against half", format(cut.bandwidth));
        for (auto const& links : cut.links) out += fmt::format("{:<28}{}\n", "", links);
    }
    out += "\nPayload rates:\n";
    for (auto const& line : c.provenance) out += "  " + line + "\n";
    write_result(out);
    return exit_answered;
}

int command_import_hf(Options const& o)
{
    auto const model = read_hf_config(o.files.front());
    auto const count = count_parameters(model);
    int moe = 0;
    for (auto const& layer : model.layers) moe += layer.is_moe();
    int const seq_len = 4096;
    auto const flops = flops_per_token(model, seq_len);
    auto const per_token = [](double f) { return format(Flops{f}); };
    std::string out = fmt::format("{} ({})\n", model.name, model.model_type);
    out += fmt::format("layers       {} ({} with experts), hidden {}, vocabulary {}\n", model.layers.size(), moe,
                       model.hidden, model.vocab);
    out += fmt::format("parameters   {} in all, {} active, {} embedding, {} head\n", format_count(count.total),
                       format_count(count.active), format_count(count.embedding),
                       model.tied_embeddings ? "tied" : format_count(count.head));
    if (!model.mtp.empty())
        out +=
            fmt::format("MTP          {} module(s), {} more parameters\n", model.mtp.size(), format_count(count.mtp));
    out += fmt::format("FLOPs/token  {} causal, {} causal with MTP, {} non-causal, {} as 6N (sequences of {})\n",
                       per_token(flops.causal), per_token(flops.causal_mtp), per_token(flops.noncausal),
                       per_token(flops.six_n), seq_len);
    for (auto const& line : model.notes) out += "note         " + line + "\n";
    out += fmt::format("\nIn a scenario:\n  [model]\n  config = \"{}\"\n", o.files.front());
    write_result(out);
    return exit_answered;
}

int command_import_measurements(Options const& o)
{
    auto const read = o.command == Command::import_deepep ? import_deepep : import_nccl_tests;
    auto const imported = read(o.files.front(), o.accelerator, o.ranks, o.nodes);
    for (auto const& line : imported.notes) note(o.quiet, line);
    write_result(to_csv(imported, o.source));
    return exit_answered;
}

int command_dump_default()
{
    write_result(default_scenario_toml());
    return exit_answered;
}

} // namespace trainfare
