// SPDX-License-Identifier: Apache-2.0
//
// What ranks say to each other. Two implementations: `threads` (ranks are threads of one process, host back-ends, any machine) and
// `nccl` (one process or thread a GPU). Calls are collective: every rank of the group makes them in the same order. Data is queued
// on the back-end's stream in use; a host back-end's calls return when done. Results do not depend on timing: reductions add in
// the order of ranks (threads) or as NCCL does for a given topology (nccl).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"

namespace trainfare::kernels {

class Communicator {
public:
    virtual ~Communicator() = default;
    [[nodiscard]] virtual std::string_view name() const = 0; // "threads", "nccl"
    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int size() const = 0;

    /// Ranks that pass the same @p color form a group, ordered by rank. Collective over this communicator.
    virtual std::unique_ptr<Communicator> split(int color) = 0;

    /// Sum over ranks, in place. f32, bf16 (summed in fp32, rounded once on threads) or i32.
    virtual void all_reduce(Tensor const&) = 0;
    /// in: size() equal parts, one after another; out: the sum over ranks of part rank(). f32 or bf16.
    virtual void reduce_scatter(Tensor const& in, Tensor const& out) = 0;
    /// out: size() equal parts, part r from rank r. in may be part rank() of out (in place). Any element.
    virtual void all_gather(Tensor const& in, Tensor const& out) = 0;
    /// Row blocks: rows sum(send_rows[0..r)) on go to rank r; out holds what came, in rank order. Any element. The counts must match:
    /// send_rows[r] here = receive_rows[here] on r. @throws InternalError where the row widths or sums do not fit the tensors.
    virtual void all_to_all_v(Tensor const& in, std::vector<std::int64_t> const& send_rows, Tensor const& out,
                              std::vector<std::int64_t> const& receive_rows) = 0;
    /// Rank @p from's tensor to everyone's.
    virtual void broadcast(Tensor const&, int from) = 0;
    virtual void send(Tensor const&, int to) = 0;      // pair with receive on the other rank, in the same group() or order
    virtual void receive(Tensor const&, int from) = 0;
    /// Everyone has arrived; for NCCL also everything queued is done.
    virtual void barrier() = 0;
};

/// A group of one: every call is a copy or nothing. For single-GPU runs on any back-end.
std::unique_ptr<Communicator> make_solo_communicator(Backend&);

/// Runs @p body once per rank, each on a thread of its own with its own back-end and communicator. The first exception of any rank is
/// thrown again here after all threads have ended; the others are woken with an error, so nothing hangs.
void run_ranks(int ranks, std::function<std::unique_ptr<Backend>()> const& make_backend,
               std::function<void(Backend&, Communicator&)> const& body);

/// How processes find each other: 128 bytes from rank 0 to all, by a file that all can read or by TCP.
struct Rendezvous {
    int rank = 0, size = 1, local_rank = 0;
    std::string file;          // used if not empty
    std::string address;       // else host of rank 0
    int port = 0;
    double timeout_s = 60;
};

/// Reads RANK/WORLD_SIZE/LOCAL_RANK (torchrun, which srun may have started once a node), else SLURM_PROCID/SLURM_NTASKS/
/// SLURM_LOCALID, else one rank; MASTER_ADDR/MASTER_PORT, else the first node of the Slurm step and a port from its number.
/// @throws InputError naming the variable that is missing or no number.
Rendezvous rendezvous_from_environment();
/// Rank 0's bytes on every rank. @throws InputError after timeout_s, saying who did not come.
std::vector<std::byte> exchange_identifier(Rendezvous const&, std::vector<std::byte> const& from_rank_0);

/// @p max_sms: blocks (CTAs) that each collective may use; 0: NCCL's choice. @throws InputError where NCCL is not built in or
/// refuses (two ranks on one device).
std::unique_ptr<Communicator> make_nccl_communicator(Backend& cuda, Rendezvous const&, int max_sms);
bool nccl_available(std::string* why = nullptr);
/// "2.28.9", of the library that is loaded; empty where NCCL is not built in.
std::string nccl_version();

} // namespace trainfare::kernels
