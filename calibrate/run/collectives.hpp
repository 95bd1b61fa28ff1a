// SPDX-License-Identifier: Apache-2.0
//
// `trainfare-calibrate collectives`: times collectives over message sizes and appends rows of coll.csv as they finish,
// so that a sweep that was killed goes on where it stopped.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace trainfare {

struct CollectiveOptions {
    enum class Communicator { nccl, threads };
    Communicator communicator = Communicator::nccl;
    int ranks = 4; // of `threads`
    int local = 0; // nccl: start that many processes here, one a GPU; 0: this process is one of those started already
    /// With local: all on GPU 0, to exercise the code; rows are marked and price nothing.
    bool shared_gpu = false;
    /// nccl over several nodes: a path that all can write; empty: TCP to MASTER_ADDR:MASTER_PORT.
    std::string rendezvous_file;

    std::vector<std::string> operations; // of collective_operations(); empty: all
    std::string dtype = "bf16";          // or fp32
    // message sizes, of the whole buffer as nccl-tests counts; absent max: 1 GiB on nccl, 4 MiB on threads
    double min_bytes = 1024, factor = 2;
    std::optional<double> max_bytes;
    int warm_up = 5, repeats = 20;
    double load_cv = 0.5; // all_to_all_v: coefficient of variation of the ranks' loads
    std::uint64_t seed = 1;
    int max_sms = 0; // blocks that NCCL may use; 0: its choice

    std::string out = "coll.csv";
    std::string source_id = "own-run"; // a row of sources.csv
    std::string accelerator;           // nccl: a row of hardware.csv; `threads` writes cpu
    std::string network;               // free text
    double timeout_s = 60;             // to find each other; a run on a shared GPU is stopped after ten times as long
    bool terminal = false;             // progress may rewrite its line
    bool quiet = false;                // no progress
};

/// all_reduce, all_gather, reduce_scatter, all_to_all, all_to_all_v, p2p.
std::vector<std::string> const& collective_operations();

/// Exit code: 0 measured; 1 a check of the result's values failed; 130 interrupted; with `local`, the first code of a
/// process that failed. @throws InputError for options or an output file that do not fit; InternalError where the
/// transport broke. Must be called before anything else touches CUDA when `local` is set: it forks.
int run_collectives(CollectiveOptions const&, std::ostream& progress);

} // namespace trainfare
