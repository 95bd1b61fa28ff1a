// SPDX-License-Identifier: Apache-2.0
//
// Ranks on GPUs: each call queues one NCCL operation on the back-end's stream in use. Sums are NCCL's; everything that
// only moves data is moved as bytes, so that any element can travel. NCCL's header is in this file alone.
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "kernels/comm/checks.hpp"
#include "kernels/comm/communicator.hpp"
#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/check.hpp"

namespace trainfare::kernels {

using namespace comm;

namespace {

/// NCCL's own words, in one line.
std::string reason(ncclResult_t result)
{
    std::string last = ncclGetLastError(nullptr);
    std::replace(last.begin(), last.end(), '\n', ' ');
    last.erase(last.find_last_not_of(' ') + 1);
    return last.empty() ? ncclGetErrorString(result) : fmt::format("{} ({})", ncclGetErrorString(result), last);
}

void check(ncclResult_t result, std::string_view operation)
{
    if (result != ncclSuccess) fail(operation, "NCCL: " + reason(result));
}

/// Between a group's start and end everything is one operation. The end must come even when a call in between failed.
class CallGroup {
public:
    explicit CallGroup(std::string_view operation) : operation_{operation} { check(ncclGroupStart(), operation_); }
    ~CallGroup()
    {
        if (!ended_) static_cast<void>(ncclGroupEnd()); // an exception is under way and says more
    }
    CallGroup(CallGroup const&) = delete;
    CallGroup& operator=(CallGroup const&) = delete;

    void end()
    {
        ended_ = true;
        check(ncclGroupEnd(), operation_);
    }

private:
    std::string_view operation_;
    bool ended_ = false;
};

/// Only of elements that can be summed; check_sum() has seen to it.
ncclDataType_t type_of(Element element)
{
    switch (element) {
    case Element::f32: return ncclFloat32;
    case Element::bf16: return ncclBfloat16;
    case Element::i32: return ncclInt32;
    case Element::e4m3: break;
    }
    return ncclFloat8e4m3;
}

std::size_t count_of(Tensor const& t) { return static_cast<std::size_t>(t.size()); }

class NcclCommunicator final : public Communicator {
public:
    /// Takes @p communicator over.
    NcclCommunicator(CudaBackend& backend, ncclComm_t communicator, int rank, int size)
        : backend_{backend}, communicator_{communicator}, rank_{rank}, size_{size}, token_{backend.make(Element::i32, 1,
                                                                                                        1)}
    {
        backend_.fill(token_, 0);
    }

    // Destroying waits for the other ranks, which a rank that failed must not do.
    ~NcclCommunicator() override
    {
        if (communicator_ == nullptr) return;
        bool const failing = std::uncaught_exceptions() > exceptions_before_;
        static_cast<void>(failing ? ncclCommAbort(communicator_) : ncclCommDestroy(communicator_));
    }

    NcclCommunicator(NcclCommunicator const&) = delete;
    NcclCommunicator& operator=(NcclCommunicator const&) = delete;

    [[nodiscard]] std::string_view name() const override { return "nccl"; }
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return size_; }

    std::unique_ptr<Communicator> split(int color) override
    {
        check_color(color);
        ncclComm_t made = nullptr;
        check(ncclCommSplit(communicator(), color, rank_, &made, nullptr), "split");
        int rank = 0, size = 0;
        check(ncclCommUserRank(made, &rank), "split");
        check(ncclCommCount(made, &size), "split");
        return std::make_unique<NcclCommunicator>(backend_, made, rank, size);
    }

    void all_reduce(Tensor const& t) override
    {
        check_sum("all_reduce", t, {Element::f32, Element::bf16, Element::i32});
        if (t.size() == 0) return;
        check(
            ncclAllReduce(t.data, t.data, count_of(t), type_of(t.element), ncclSum, communicator(), backend_.stream()),
            "all_reduce");
    }

    void reduce_scatter(Tensor const& in, Tensor const& out) override
    {
        check_sum("reduce_scatter", in, {Element::f32, Element::bf16});
        check_parts("reduce_scatter", out, in, size_);
        if (out.size() == 0) return;
        check(ncclReduceScatter(in.data, out.data, count_of(out), type_of(in.element), ncclSum, communicator(),
                                backend_.stream()),
              "reduce_scatter");
    }

    void all_gather(Tensor const& in, Tensor const& out) override
    {
        check_parts("all_gather", in, out, size_);
        if (in.size() == 0) return;
        check(ncclAllGather(in.data, out.data, bytes(in), ncclUint8, communicator(), backend_.stream()), "all_gather");
    }

    /// Counts are those of this rank alone, so it cannot know whether all ranks have equal ones: always sends and
    /// receives in one group, which is also what NCCL makes of its own all-to-all.
    void all_to_all_v(Tensor const& in, std::vector<std::int64_t> const& send_rows, Tensor const& out,
                      std::vector<std::int64_t> const& receive_rows) override
    {
        check_all_to_all_v(in, send_rows, out, receive_rows, size_);
        CallGroup group{"all_to_all_v"};
        std::int64_t sent = 0, received = 0;
        for (int r = 0; r < size_; ++r) {
            auto const leaving = in.row_range(sent, send_rows[static_cast<std::size_t>(r)]);
            auto const arriving = out.row_range(received, receive_rows[static_cast<std::size_t>(r)]);
            queue_send("all_to_all_v", leaving, r);
            queue_receive("all_to_all_v", arriving, r);
            sent += leaving.rows, received += arriving.rows;
        }
        group.end();
    }

    void broadcast(Tensor const& t, int from) override
    {
        check_rank("broadcast", from, size_);
        check_memory("broadcast", t);
        if (t.size() == 0) return;
        check(ncclBroadcast(t.data, t.data, bytes(t), ncclUint8, from, communicator(), backend_.stream()), "broadcast");
    }

    void send(Tensor const& t, int to) override
    {
        check_peer("send", to, rank_, size_);
        check_memory("send", t);
        queue_send("send", t, to);
    }

    void receive(Tensor const& t, int from) override
    {
        check_peer("receive", from, rank_, size_);
        check_memory("receive", t);
        queue_receive("receive", t, from);
    }

    void barrier() override
    {
        all_reduce(token_);
        wait_for_stream();
        backend_.synchronise(); // the other streams
    }

private:
    ncclComm_t communicator() const
    {
        if (communicator_ == nullptr) fail("nccl", "the group has failed before; nothing can be exchanged any more");
        return communicator_;
    }

    void queue_send(std::string_view operation, Tensor const& t, int to)
    {
        if (t.size() == 0) return;
        check(ncclSend(t.data, bytes(t), ncclUint8, to, communicator(), backend_.stream()), operation);
    }

    void queue_receive(std::string_view operation, Tensor const& t, int from)
    {
        if (t.size() == 0) return;
        check(ncclRecv(t.data, bytes(t), ncclUint8, from, communicator(), backend_.stream()), operation);
    }

    /// A rank that died leaves kernels of the others spinning, and then only NCCL knows. Waiting in CUDA would be for
    /// ever.
    void wait_for_stream()
    {
        for (;;) {
            auto const status = cudaStreamQuery(backend_.stream());
            if (status == cudaSuccess) return;
            if (status != cudaErrorNotReady) cuda::check(status, "barrier");
            static_cast<void>(cudaGetLastError()); // "not ready" must not look like the error of a later launch
            ncclResult_t asynchronous = ncclSuccess;
            check(ncclCommGetAsyncError(communicator(), &asynchronous), "barrier");
            if (asynchronous != ncclSuccess && asynchronous != ncclInProgress) {
                auto const why = reason(asynchronous);
                static_cast<void>(ncclCommAbort(std::exchange(communicator_, nullptr)));
                fail("barrier", "another rank or the network failed; NCCL: " + why);
            }
            std::this_thread::sleep_for(std::chrono::microseconds{20});
        }
    }

    CudaBackend& backend_;
    ncclComm_t communicator_;
    int rank_, size_;
    Tensor token_; // what a barrier reduces
    int exceptions_before_ = std::uncaught_exceptions();
};

/// NCCL refuses what users try first on a desk with one GPU; say how to go on.
[[noreturn]] void refuse(ncclResult_t result)
{
    auto const why = reason(result);
    if (why.find("Duplicate GPU") != std::string::npos)
        throw InputError(
            "nccl: several ranks are on one GPU (NCCL needs one GPU per rank); start as many processes as there "
            "are GPUs, or exercise the code without measuring with --shared-gpu");
    throw InputError(fmt::format("nccl: the ranks cannot form a group: {}; NCCL_DEBUG=WARN says more", why));
}

} // namespace

bool nccl_available(std::string* why) { return cuda_available(why); }

std::string nccl_version()
{
    int code = 0;
    if (ncclGetVersion(&code) != ncclSuccess) return "";
    return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100); // 22809 is 2.28.9
}

std::unique_ptr<Communicator> make_nccl_communicator(Backend& cuda, Rendezvous const& rendezvous, int max_sms)
{
    auto* const backend = dynamic_cast<CudaBackend*>(&cuda);
    if (backend == nullptr)
        throw InputError(
            fmt::format("nccl moves GPU memory (back-end {} has none); use the threads communicator or back-end "
                        "cuda",
                        cuda.name()));
    if (max_sms < 0) fail("make_nccl_communicator", fmt::format("{} SMs", max_sms));
    ncclUniqueId id{};
    std::vector<std::byte> identifier(sizeof id.internal);
    if (rendezvous.rank == 0) {
        if (auto const result = ncclGetUniqueId(&id); result != ncclSuccess) refuse(result);
        std::memcpy(identifier.data(), id.internal, sizeof id.internal);
    }
    identifier = exchange_identifier(rendezvous, identifier);
    if (identifier.size() != sizeof id.internal)
        throw InputError(
            fmt::format("rank 0 sent {} bytes to start NCCL, not {} (are all ranks of one build?); start the same "
                        "program everywhere",
                        identifier.size(), sizeof id.internal));
    std::memcpy(id.internal, identifier.data(), sizeof id.internal);

    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    if (max_sms > 0) config.maxCTAs = max_sms;
    ncclComm_t made = nullptr;
    auto const result = ncclCommInitRankConfig(&made, rendezvous.size, id, rendezvous.rank, &config);
    if (result != ncclSuccess) refuse(result);
    return std::make_unique<NcclCommunicator>(*backend, made, rendezvous.rank, rendezvous.size);
}

} // namespace trainfare::kernels
