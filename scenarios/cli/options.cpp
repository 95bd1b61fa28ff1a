// SPDX-License-Identifier: Apache-2.0
//
// The command line, parsed by CLI11. Its help is the manual page.
#include "scenarios/cli/options.hpp"

#include <iostream>
#include <map>

#include <CLI/CLI.hpp>

#include "scenarios/cli/exit_codes.hpp"
#include "scenarios/load.hpp"

namespace trainfare {

namespace {

std::string footer()
{
    return "A scenario is a TOML file ('-' reads standard input); trainfare --dump-default prints one with every key "
           "explained.\n"
           "Files that a scenario names (include, model.config) are looked up beside it, then in\n  " +
           shipped_folder() +
           "\n"
           R"(
Examples:
  trainfare project examples/deepseek-v3-h800.toml
  trainfare project s.toml --set plan.pp=8 --set "cluster.nic=200 Gb/s" --json
  trainfare compare examples/deepseek-v3-h800.toml examples/deepseek-v3-h100.toml
  trainfare explain s.toml step_time_s
  trainfare project s.toml --trace step.json      (open it at https://ui.perfetto.dev)
  trainfare import hf config.json

Exit codes:
  0  answered                        4  a cost is not measured, under --strict
  1  answered "no": does not fit     5  internal failure
  2  wrong usage                     130  interrupted
  3  bad input

Environment:
  TRAINFARE_TABLES     folder of calibration tables (as --tables)
  TRAINFARE_SCENARIOS  folder of shipped models, clusters, prices and examples

The result goes to standard output; progress and notes go to standard error, only on a terminal.)";
}

/// Options that several commands share.
struct Shared {
    Options* out;
    std::string *tables, *measured, *file;

    void scenario(CLI::App* app) const
    {
        app->add_option("--set", out->set, "KEY=VALUE: override one key, e.g. plan.pp=8; may be repeated")
            ->allow_extra_args(false)
            ->type_name("KEY=VALUE");
        app->add_option("--tables", *tables, "folder of calibration tables instead of the shipped ones")
            ->type_name("DIR");
        app->add_option("--measured", *measured, "folder of own measurements (trainfare-calibrate run) laid over them")
            ->type_name("DIR");
        app->add_flag("-q,--quiet", out->quiet, "no progress and no notes on standard error");
    }
    void files(CLI::App* app, bool many) const
    {
        if (many)
            app->add_option("scenario", out->files, "scenario files; the others are held against the first")
                ->required()
                ->type_name("FILE");
        else
            app->add_option("scenario", *file, "scenario file, or -")->required()->type_name("FILE");
    }
    void simulation(CLI::App* app, std::map<std::string, Fidelity> const& fidelities) const
    {
        app->add_option("--fidelity", out->fidelity,
                        "closed (formulas), folded (simulation of classes; default), full (every GPU)")
            ->transform(CLI::CheckedTransformer(fidelities, CLI::ignore_case))
            ->type_name("NAME");
        app->add_flag("--strict", out->strict, "refuse costs that no measurement stands behind (exit code 4)");
        auto* json = app->add_flag("--json", out->json, "the result as JSON, schema trainfare/result");
        app->add_flag("--csv", out->csv, "the result as one CSV row a scenario, inputs first")->excludes(json);
    }
    void import(CLI::App* app) const
    {
        app->add_option("file", *file, "what the program printed")->required()->type_name("FILE");
        app->add_option("--accelerator", out->accelerator, "row of hardware.csv it ran on, e.g. H100-SXM")->required();
        app->add_option("--ranks", out->ranks, "GPUs, where the file does not say")->check(CLI::Range(1, 1 << 20));
        app->add_option("--nodes", out->nodes, "nodes, where the file does not say")->check(CLI::Range(1, 1 << 20));
        app->add_option("--source", out->source, "id of the row of sources.csv that describes the run")->required();
        app->add_flag("-q,--quiet", out->quiet, "no notes on standard error");
    }
};

/// What was asked for, once CLI11 has seen it.
void select(Options& out, CLI::App const& app, std::map<std::string, Command> const& commands)
{
    auto const* chosen = app.get_subcommands().front();
    std::string name = chosen->get_name();
    if (!chosen->get_subcommands().empty()) name += " " + chosen->get_subcommands().front()->get_name();
    out.command = commands.at(name);
    if (!out.trace.empty() && out.fidelity == Fidelity::closed)
        throw CLI::ValidationError("--trace", "needs a simulation; use --fidelity folded or full");
}

} // namespace

std::variant<Options, int> parse_options(int argc, char** argv)
{
    Options out;
    std::string tables, measured, file;
    bool dump_default = false;
    Shared const shared{&out, &tables, &measured, &file};
    std::map<std::string, Fidelity> const fidelities{
        {"closed", Fidelity::closed}, {"folded", Fidelity::folded}, {"full", Fidelity::full}};
    std::map<std::string, Command> const commands{{"project", Command::project},
                                                  {"compare", Command::compare},
                                                  {"explain", Command::explain},
                                                  {"topology", Command::topology},
                                                  {"memory", Command::memory},
                                                  {"import hf", Command::import_hf},
                                                  {"import nccl-tests", Command::import_nccl_tests},
                                                  {"import deepep", Command::import_deepep}};

    CLI::App app{"What does it cost to train this model on that cluster, what limits it, and how sure is that?",
                 "trainfare"};
    app.footer(footer());
    app.set_version_flag("--version", "trainfare " TRAINFARE_VERSION);
    app.add_flag("--dump-default", dump_default,
                 "print a complete scenario: every key, its default and its Megatron-LM flag");
    app.require_subcommand(0, 1);

    auto* project =
        app.add_subcommand("project", "days, GPU-hours, energy and dollars of a training, and what limits it");
    shared.files(project, false);
    shared.scenario(project);
    shared.simulation(project, fidelities);
    project->add_option("--trace", out.trace, "also write one step as Chrome/Perfetto trace")->type_name("FILE");

    auto* compare = app.add_subcommand("compare", "scenarios side by side, and why they differ");
    shared.files(compare, true);
    shared.scenario(compare);
    shared.simulation(compare, fidelities);

    auto* explain = app.add_subcommand("explain", "how one number comes about, down to the rows of the tables");
    shared.files(explain, false);
    explain->add_option("quantity", out.quantity, "e.g. step_time_s; without it, a list of them");
    shared.scenario(explain);

    auto* topology = app.add_subcommand("topology", "links, best paths and bisection of the cluster");
    shared.files(topology, false);
    shared.scenario(topology);

    auto* memory = app.add_subcommand("memory", "does it fit? memory of one GPU of each pipeline rank");
    shared.files(memory, false);
    shared.scenario(memory);
    memory->add_flag("--json", out.json, "as JSON, schema trainfare/memory");

    auto* import = app.add_subcommand("import", "read what other programs write")->require_subcommand(1);
    auto* hf = import->add_subcommand("hf", "a Hugging Face config.json: prints what it says and costs");
    hf->add_option("file", file, "config.json")->required()->type_name("FILE");
    shared.import(import->add_subcommand("nccl-tests", "the output of nccl-tests as rows for coll.csv"));
    shared.import(import->add_subcommand("deepep", "what DeepEP's tests print as rows for coll.csv"));

    try {
        app.parse(argc, argv);
        if (dump_default) {
            out.command = Command::dump_default;
            return out;
        }
        if (app.get_subcommands().empty()) throw CLI::RequiredError("A command");
        select(out, app, commands);
    } catch (CLI::ParseError const& error) {
        if (error.get_exit_code() == 0) { // help or version
            app.exit(error, std::cout, std::cerr);
            return exit_answered;
        }
        std::cerr << "trainfare: " << error.what()
                  << "\nRun trainfare --help, or trainfare COMMAND --help, for what there is.\n";
        return exit_usage;
    }
    if (!file.empty()) out.files = {file};
    if (!tables.empty()) out.set.push_back("tables=" + tables);
    if (!measured.empty()) out.set.push_back("measured=" + measured);
    return out;
}

} // namespace trainfare
