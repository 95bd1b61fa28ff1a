// SPDX-License-Identifier: Apache-2.0
//
// Back-end `cuda`: the device, transfers, streams and events. Memory is in pool.cpp, recording in graph.cpp.
#include "kernels/cuda/backend.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/formats.hpp"
#include "kernels/cuda/graph.hpp"
#include "kernels/cuda/pool.hpp"
#include "kernels/cuda/state.hpp"

namespace trainfare::kernels {
namespace {

/// The kernels are compiled for this compute capability alone (Hopper's own instructions are not portable).
constexpr int major_wanted = 9, minor_wanted = 0;

int attribute(cudaDeviceAttr which, int device)
{
    int value = 0;
    cuda::check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
    return value;
}

/// Why back-end `cuda` cannot use @p device; empty if it can.
std::string obstacle(int device)
{
    int count = 0;
    auto const status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess && status != cudaErrorNoDevice) {
        static_cast<void>(cudaGetLastError()); // not an error of later calls
        if (status == cudaErrorInsufficientDriver) return "no NVIDIA driver, or one older than this program's CUDA";
        return std::string{"the NVIDIA driver answers: "} + cudaGetErrorString(status);
    }
    static_cast<void>(cudaGetLastError());
    if (count == 0) return "no NVIDIA GPU is visible";
    if (device < 0 || device >= count)
        return fmt::format("no CUDA device {} (there are {}, counted from 0)", device, count);
    int const major = attribute(cudaDevAttrComputeCapabilityMajor, device);
    int const minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
    if (major == major_wanted && minor == minor_wanted) return "";
    return fmt::format("device {} has compute capability {}.{} (the kernels are for {}.{}: H100, H200, H800, H20)",
                       device, major, minor, major_wanted, minor_wanted);
}

void not_while_recording(cuda::Runtime const& runtime, char const* what)
{
    if (runtime.capturing != nullptr)
        throw InternalError(fmt::format("{}: the host cannot take part in what a graph records", what));
}

std::size_t row_bytes(Tensor const& t) { return static_cast<std::size_t>(t.cols) * t.bytes_each; }
std::size_t pitch_bytes(Tensor const& t) { return static_cast<std::size_t>(t.pitch) * t.bytes_each; }

/// One piece of memory where it is one: the runtime's 2D copy takes rows of less than 2 GiB only.
void copy_rows(void* to, std::size_t to_pitch, void const* from, std::size_t from_pitch, Tensor const& shape,
               cudaMemcpyKind kind, cudaStream_t stream)
{
    auto const rows = static_cast<std::size_t>(shape.rows), width = row_bytes(shape);
    bool const one_piece = rows == 1 || (to_pitch == width && from_pitch == width);
    cuda::check(one_piece ? cudaMemcpyAsync(to, from, rows * width, kind, stream)
                          : cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, rows, kind, stream),
                one_piece ? "cudaMemcpyAsync" : "cudaMemcpy2DAsync");
}

cuda::Moment& moment(Event const& event)
{
    if (!event) throw InternalError("an event that was never recorded");
    return *static_cast<cuda::Moment*>(event.get());
}

} // namespace

CudaBackend::CudaBackend(int device) : state_{std::make_unique<State>()}
{
    if (auto const why = obstacle(device); !why.empty())
        throw InputError("cuda: " + why + "; use back-end cpu, or run on a machine with such a GPU");
    cuda::check(cudaSetDevice(device), "cudaSetDevice");
    state_->device = device;
    state_->all_sms = attribute(cudaDevAttrMultiProcessorCount, device);
    state_->pool = std::make_shared<cuda::Pool>(device);
    int lowest = 0, highest = 0;
    cuda::check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    for (std::size_t s = 0; s < cuda::stream_count; ++s) {
        // What communicates goes first: it is what others wait for, and it needs few SMs.
        int const priority = s == static_cast<std::size_t>(Stream::compute) ? lowest : highest;
        cuda::check(cudaStreamCreateWithPriority(&state_->streams[s], cudaStreamNonBlocking, priority),
                    "cudaStreamCreateWithPriority");
    }
}

// Errors here are those of earlier work, or of a process that is ending; there is nobody left to tell.
CudaBackend::~CudaBackend()
{
    static_cast<void>(cudaSetDevice(state_->device));
    for (auto* const stream : state_->streams) static_cast<void>(cudaStreamSynchronize(stream));
    state_->gemm.reset(), state_->grouped.reset(), state_->attention.reset();
    for (auto* const stream : state_->streams) static_cast<void>(cudaStreamDestroy(stream));
}

CUstream_st* CudaBackend::stream() const { return state_->streams[static_cast<std::size_t>(state_->in_use)]; }

int CudaBackend::sms() const { return state_->sm_limit > 0 ? state_->sm_limit : state_->all_sms; }

unsigned CudaBackend::blocks(std::int64_t work, int per_sm) const
{
    return static_cast<unsigned>(std::clamp<std::int64_t>(work, 1, std::int64_t{sms()} * per_sm));
}

void CudaBackend::limit_sms(int sms)
{
    if (sms < 0) throw InternalError(fmt::format("limit_sms: {}", sms));
    state_->sm_limit = std::min(sms, state_->all_sms);
}

void* CudaBackend::scratch(std::size_t bytes)
{
    auto const index = static_cast<std::size_t>(state_->in_use);
    bool const beside = state_->in_use != Stream::compute;
    auto* const capture = state_->capturing;
    auto& kept = capture != nullptr ? capture->scratch[index] : state_->scratch[index];
    if (!kept.empty() && std::cmp_greater_equal(kept.size(), bytes)) return kept.data;

    // Memory goes back to, and comes from, the compute stream: another stream is done with the old and waits for the
    // new.
    if (capture != nullptr)
        capture->outgrown_scratch.push_back(kept);
    else if (beside)
        cuda::check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
    kept = Tensor{};
    kept = make(Element::e4m3, 1, static_cast<std::int64_t>(cuda::size_class(bytes)));
    if (beside) {
        cuda::EventHandle const last_use;
        auto* const compute = state_->streams[static_cast<std::size_t>(Stream::compute)];
        cuda::check(cudaEventRecord(last_use.get(), compute), "cudaEventRecord");
        cuda::check(cudaStreamWaitEvent(stream(), last_use.get(), 0), "cudaStreamWaitEvent");
    }
    return kept.data;
}

// --- memory -------------------------------------------------------------------------------------------------------

Tensor CudaBackend::make(Element element, std::int64_t rows, std::int64_t cols)
{
    constexpr std::int64_t limit = std::int64_t{1} << 40; // far beyond any GPU, and products stay far from overflow
    if (rows < 0 || cols < 0 || (cols > 0 && rows > limit / cols))
        throw InternalError(fmt::format("make: [{}, {}] is no shape of a tensor", rows, cols));
    Tensor t;
    t.element = element;
    t.rows = rows, t.cols = t.pitch = cols;
    t.bytes_each = cuda::size_of(element);
    auto& pool = state_->capturing != nullptr ? *state_->capturing->pool : *state_->pool;
    t.owner = pool.take(static_cast<std::size_t>(t.size()) * t.bytes_each);
    t.data = t.owner.get();
    return t;
}

void CudaBackend::upload_bytes(Tensor const& to, std::span<std::byte const> from)
{
    not_while_recording(*state_, "upload");
    if (from.size() != static_cast<std::size_t>(to.rows) * row_bytes(to))
        throw InternalError(fmt::format("upload: {} bytes for a tensor [{}, {}]", from.size(), to.rows, to.cols));
    if (from.empty()) return;
    copy_rows(to.data, pitch_bytes(to), from.data(), row_bytes(to), to, cudaMemcpyHostToDevice, stream());
    cuda::check(cudaStreamSynchronize(stream()), "upload"); // the caller's memory may go now
}

void CudaBackend::upload(Tensor const& to, std::span<float const> from)
{
    upload_bytes(to, cuda::encoded(to.element, from));
}

void CudaBackend::upload(Tensor const& to, std::span<std::int32_t const> from)
{
    if (to.element != Element::i32) throw InternalError("upload: integers go to i32");
    upload_bytes(to, std::as_bytes(from));
}

std::vector<std::byte> CudaBackend::download_bytes(Tensor const& from)
{
    not_while_recording(*state_, "download");
    std::vector<std::byte> out(static_cast<std::size_t>(from.rows) * row_bytes(from));
    if (out.empty()) return out;
    copy_rows(out.data(), row_bytes(from), from.data, pitch_bytes(from), from, cudaMemcpyDeviceToHost, stream());
    cuda::check(cudaStreamSynchronize(stream()), "download");
    return out;
}

std::vector<double> CudaBackend::download(Tensor const& from)
{
    return cuda::decoded(from.element, download_bytes(from));
}

std::vector<std::int32_t> CudaBackend::download_ints(Tensor const& from)
{
    if (from.element != Element::i32) throw InternalError("download_ints: the tensor holds no integers");
    auto const bytes = download_bytes(from);
    std::vector<std::int32_t> out(static_cast<std::size_t>(from.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
}

// --- order and time -----------------------------------------------------------------------------------------------

void CudaBackend::use(Stream stream)
{
    if (state_->capturing != nullptr) cuda::join_in(*state_, stream);
    state_->in_use = stream;
}

Event CudaBackend::record()
{
    auto made = std::make_shared<cuda::Moment>();
    cuda::check(cudaEventRecord(made->event.get(), stream()), "cudaEventRecord");
    if (auto* const capture = state_->capturing) {
        made->recording = capture->number;
        made->each_replay = std::make_unique<cuda::EventHandle>();
        cuda::check(cudaEventRecordWithFlags(made->each_replay->get(), stream(), cudaEventRecordExternal),
                    "cudaEventRecordWithFlags");
        capture->moments.push_back(made);
    }
    return made;
}

// A recording begins and a replay runs when all streams are idle or waited for: events of the other side need no
// waiting.
void CudaBackend::wait(Event const& event)
{
    auto const& before = moment(event);
    auto const recording = state_->capturing != nullptr ? state_->capturing->number : 0;
    if (before.recording != recording) return;
    cuda::check(cudaStreamWaitEvent(stream(), before.event.get(), 0), "cudaStreamWaitEvent");
}

void CudaBackend::synchronise()
{
    not_while_recording(*state_, "synchronise");
    for (auto* const stream : state_->streams) cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

double CudaBackend::seconds(Event const& from, Event const& to)
{
    auto const handle = [](cuda::Moment const& m) { return (m.each_replay ? *m.each_replay : m.event).get(); };
    auto const &first = moment(from), &last = moment(to);
    synchronise(); // also covers events that a graph records when it runs
    float milliseconds = 0;
    cuda::check(cudaEventElapsedTime(&milliseconds, handle(first), handle(last)), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) / 1e3;
}

std::unique_ptr<Graph> CudaBackend::capture(std::function<void()> const& work)
{
    return cuda::record_graph(*state_, work);
}

// --- making one ---------------------------------------------------------------------------------------------------

std::unique_ptr<Backend> make_cuda_backend(int device) { return std::make_unique<CudaBackend>(device); }

bool cuda_available(std::string* why)
{
    auto const reason = obstacle(0);
    if (why != nullptr) *why = reason;
    return reason.empty();
}

} // namespace trainfare::kernels
