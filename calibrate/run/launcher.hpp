// SPDX-License-Identifier: Apache-2.0
//
// Starts the ranks of one machine, for where no srun or torchrun does it.
#pragma once

#include <functional>

namespace trainfare {

struct LocalLaunch {
    int processes = 1;
    /// All ranks see one GPU and pass for separate machines, because NCCL refuses two ranks of a machine on one GPU.
    bool shared_gpu = false;
    double limit_s = 0; // all are stopped after that; 0: no limit
};

/// Forks and runs @p body(rank) in each child, with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set. What
/// it returns is the child's exit code; what it throws becomes 3 (InputError) or 5, and the first is printed on stderr.
/// When one ends with another code than 0 the others are stopped.
/// @returns 0 when all did, else the first other code; 130 when SIGINT or SIGTERM came, which is passed on.
/// @throws InternalError where a child was killed or the time was up. Nothing must have touched CUDA before.
int launch_local(LocalLaunch const&, std::function<int(int rank)> const& body);

} // namespace trainfare
