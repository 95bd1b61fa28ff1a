// SPDX-License-Identifier: Apache-2.0
//
// The command line, parsed by CLI11. Its help is the manual page.
#include "calibrate/run/options.hpp"

#include <iostream>
#include <map>

#include <CLI/CLI.hpp>

#include "calibrate/run/exit_codes.hpp"

namespace trainfare::measure {

namespace {

constexpr char const* footer = R"(
Examples:
  trainfare-calibrate plan                                   what would be measured for DeepSeek-V3
  trainfare-calibrate run --quick --out quick                about a minute
  trainfare-calibrate run --out h100                         all of it; run again to go on after an interruption
  trainfare-calibrate show h100
  trainfare-calibrate check h100                             does the sum of the parts give the real step?
  trainfare-calibrate run --backend cpu --model tiny.json --out try   to try the program without a GPU
  srun trainfare-calibrate collectives --accelerator H100-SXM --out coll.csv

A folder that `run` wrote is put under calibrate/tables/measured/ (or beside your tables); projections then use it.
Clocks and power are recorded and never set. No host names, serial numbers or environment are written.

Exit codes:
  0  answered                              3  bad input, or no GPU
  1  answered "no": does not close         5  internal failure
  2  wrong usage                           130  interrupted; run again to go on)";

struct Parser {
    Options& out;

    void request(CLI::App* app) const
    {
        app->add_option("--model", out.model, "Hugging Face config.json; default: DeepSeek-V3")->type_name("FILE");
        app->add_option("--ep", out.ep, "expert parallel ranks; default: 64, or fewer")->check(CLI::Range(1, 4096));
        app->add_option("--tp", out.tp, "tensor parallel ranks")->check(CLI::Range(1, 64))->capture_default_str();
        app->add_option("--seq", out.seq, "tokens of a sequence")->check(CLI::Range(1, 1 << 20))->capture_default_str();
        app->add_option("--micro-batch", out.micro_batch, "sequences of a pass")
            ->check(CLI::Range(1, 1 << 16))
            ->capture_default_str();
        app->add_option("--precision", out.precisions, "bf16, fp8_block; default: both")
            ->delimiter(',')
            ->check(CLI::IsMember({"bf16", "fp8_block"}))
            ->type_name("NAME,...");
        app->add_option("--groups", out.groups,
                        "ceilings, dense (or gemm), experts, attention, memory, sms, contention, sustained, "
                        "closure, drift; default: all")
            ->delimiter(',')
            ->check(CLI::IsMember({"ceilings", "gemm", "dense", "experts", "attention", "memory", "sms", "contention",
                                   "sustained", "closure", "drift"}))
            ->type_name("NAME,...");
        app->add_flag("--quick", out.quick,
                      "the model's own shapes in one precision (fp8_block; bf16 where there is none): about a minute");
        app->add_option("--accelerator", out.accelerator,
                        "row of hardware.csv; checked against what the device reports")
            ->type_name("KEY");
        app->add_option("--backend", "cuda; or cpu, to try the program without a GPU: its rows are never shipped")
            ->check(CLI::IsMember({"cuda", "cpu"}))
            ->each([this](std::string const& name) { out.host = name == "cpu"; })
            ->type_name("NAME");
        tables(app);
    }
    void tables(CLI::App* app) const
    {
        app->add_option("--tables", out.tables, "folder of calibration tables instead of the shipped ones")
            ->type_name("DIR");
    }
    void folder(CLI::App* app, bool required) const
    {
        auto* option = app->add_option("folder", out.folder, "what `run` wrote")->type_name("DIR");
        if (required) option->required();
    }
    void collectives(CLI::App* app) const
    {
        auto& c = out.collective;
        std::map<std::string, CollectiveOptions::Communicator> const kinds{
            {"nccl", CollectiveOptions::Communicator::nccl}, {"threads", CollectiveOptions::Communicator::threads}};
        app->add_option("--communicator", c.communicator, "nccl; or threads, on any machine")
            ->transform(CLI::CheckedTransformer(kinds))
            ->type_name("NAME");
        app->add_option("--ranks", c.ranks, "threads: how many")->check(CLI::Range(1, 256))->capture_default_str();
        app->add_option("--local", c.local,
                        "nccl: start that many processes here, one a GPU; else srun or torchrun started them")
            ->check(CLI::Range(0, 64));
        app->add_flag("--shared-gpu", c.shared_gpu, "with --local: all on GPU 0; exercises the code, measures nothing");
        app->add_option("--rendezvous", c.rendezvous_file,
                        "a path that all nodes can write, instead of MASTER_ADDR:MASTER_PORT")
            ->type_name("FILE");
        app->add_option("--operations", c.operations,
                        "all_reduce, all_gather, reduce_scatter, all_to_all, all_to_all_v, p2p; default: all")
            ->delimiter(',')
            ->check(CLI::IsMember(collective_operations()))
            ->type_name("NAME,...");
        app->add_option("--dtype", c.dtype)->check(CLI::IsMember({"bf16", "fp32"}))->capture_default_str();
        app->add_option("--min-bytes", c.min_bytes, "of the whole buffer")
            ->check(CLI::Range(1.0, 1e12))
            ->capture_default_str();
        app->add_option("--max-bytes", c.max_bytes)->check(CLI::Range(1.0, 1e12))->capture_default_str();
        app->add_option("--factor", c.factor, "from one size to the next")
            ->check(CLI::Range(1.01, 1e6))
            ->capture_default_str();
        app->add_option("--repeats", c.repeats)->check(CLI::Range(1, 100000))->capture_default_str();
        app->add_option("--load-cv", c.load_cv, "all_to_all_v: how uneven the ranks' loads are")
            ->check(CLI::Range(0.0, 10.0))
            ->capture_default_str();
        app->add_option("--max-sms", c.max_sms, "blocks that NCCL may use; 0: its choice")
            ->check(CLI::Range(0, 64))
            ->capture_default_str();
        app->add_option("--timeout", c.timeout_s, "seconds to find each other")
            ->check(CLI::Range(1.0, 3600.0))
            ->capture_default_str();
        app->add_option("--out", c.out, "coll.csv to write or go on with")->capture_default_str()->type_name("FILE");
        app->add_option("--source", c.source_id, "id of the row of sources.csv that describes the run")
            ->capture_default_str();
        app->add_option("--accelerator", c.accelerator, "row of hardware.csv")->type_name("KEY");
        app->add_option("--network", c.network, "free text, e.g. NVLink4; CX7 400 Gb/s");
    }
    void import(CLI::App* app) const
    {
        app->add_option("file", out.folder, "what the program printed")->required()->type_name("FILE");
        app->add_option("--accelerator", out.accelerator, "row of hardware.csv it ran on, e.g. H100-SXM")->required();
        app->add_option("--ranks", out.ranks, "GPUs it ran on")->required()->check(CLI::Range(1, 1 << 20));
        app->add_option("--nodes", out.nodes, "nodes it ran on")->required()->check(CLI::Range(1, 1 << 20));
        app->add_option("--source", out.source, "id of the row of sources.csv that describes the run")->required();
    }
};

} // namespace

std::variant<Options, int> parse_options(int argc, char** argv)
{
    Options out;
    Parser const parser{out};
    std::map<std::string, Command> const commands{{"plan", Command::plan},
                                                  {"run", Command::run},
                                                  {"collectives", Command::collectives},
                                                  {"check", Command::check},
                                                  {"fit", Command::fit},
                                                  {"show", Command::show},
                                                  {"import nccl-tests", Command::import_nccl_tests},
                                                  {"import deepep", Command::import_deepep}};
    CLI::App app{"Measures what a Mixture-of-Experts training step costs on this GPU, operation by operation.",
                 "trainfare-calibrate"};
    app.footer(footer);
    app.set_version_flag("--version", "trainfare-calibrate " TRAINFARE_VERSION);
    app.require_subcommand(1);

    auto* plan = app.add_subcommand("plan", "what would be measured, and how long it takes");
    parser.request(plan);
    plan->add_flag("--list", out.list, "every point, in the order of measuring");
    auto* run = app.add_subcommand("run", "measure on this GPU; goes on where an earlier run of the same plan stopped");
    parser.request(run);
    run->add_option("--out", out.out, "folder to write or go on with")->capture_default_str()->type_name("DIR");
    run->add_option("--device", out.device, "CUDA device")->check(CLI::Range(0, 63))->capture_default_str();
    run->add_option("--seconds", out.seconds, "stop after that long, the most useful points first; run again to go on")
        ->check(CLI::Range(1.0, 1e6));
    run->add_flag("-q,--quiet", out.quiet, "no progress on standard error");
    auto* collectives = app.add_subcommand("collectives", "time collectives between GPUs");
    parser.collectives(collectives);
    collectives->add_flag("-q,--quiet", out.quiet, "no progress on standard error");
    auto* check = app.add_subcommand(
        "check", "predict the real step from the rows of a folder and compare (give the options of its run)");
    parser.folder(check, true);
    parser.request(check);
    auto* fit = app.add_subcommand("fit", "how far off look-ups are: errors with each timed kernel left out");
    parser.folder(fit, false);
    parser.tables(fit);
    fit->add_option("--accelerator", out.accelerator, "only that one")->type_name("KEY");
    fit->add_option("--csv", out.out, "also write tables/fit.csv's text there")->type_name("FILE");
    auto* show = app.add_subcommand("show", "what a folder holds");
    parser.folder(show, true);
    parser.tables(show);
    auto* import =
        app.add_subcommand("import", "rows for coll.csv from what other programs print")->require_subcommand(1);
    parser.import(import->add_subcommand("nccl-tests", "the output of nccl-tests"));
    parser.import(import->add_subcommand("deepep", "what DeepEP's tests print"));

    try {
        app.parse(argc, argv);
        auto const* chosen = app.get_subcommands().front();
        auto name = chosen->get_name();
        if (!chosen->get_subcommands().empty()) name += " " + chosen->get_subcommands().front()->get_name();
        out.command = commands.at(name);
    } catch (CLI::ParseError const& error) {
        if (error.get_exit_code() == 0) { // help or version
            app.exit(error, std::cout, std::cerr);
            return exit_answered;
        }
        std::cerr << "trainfare-calibrate: " << error.what()
                  << "\nRun trainfare-calibrate --help, or trainfare-calibrate COMMAND --help, for what there is.\n";
        return exit_usage;
    }
    if (out.command == Command::fit && fit->count("--csv") == 0) out.out.clear();
    out.collective.quiet = out.quiet;
    return out;
}

} // namespace trainfare::measure
