// SPDX-License-Identifier: Apache-2.0
//
// A persistent copy kernel and pinned transfers. Each block asks for so much shared memory that no other fits on its
// SM: it holds the SM. The host's flag lies in mapped memory; the clock of the device ends the kernel even if the host
// died.
#include "calibrate/run/background.hpp"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "kernels/cuda/backend.hpp"
#include "model/error.hpp"

namespace trainfare::measure {

namespace {

using kernels::CudaBackend;

void check(cudaError_t status, char const* what)
{
    if (status != cudaSuccess) throw InternalError(std::string{what} + ": " + cudaGetErrorString(status));
}

constexpr int threads = 512;
constexpr std::int64_t chunk_bytes = 1 << 20;           // between two looks at the flag
constexpr std::int64_t region_bytes = 64 * chunk_bytes; // of each block, twice: beyond the L2 cache together
constexpr unsigned long long longest_ns = 60ULL * 1000000000ULL;

__device__ unsigned long long now_ns()
{
    unsigned long long t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

/// @p chunk_ns: a chunk takes at least so long. @p done counts chunks of each block.
__global__ void keep_copying(uint4* memory, int volatile const* stop, unsigned long long* done,
                             unsigned long long chunk_ns)
{
    constexpr std::int64_t per_chunk = chunk_bytes / static_cast<std::int64_t>(sizeof(uint4));
    constexpr std::int64_t per_region = region_bytes / static_cast<std::int64_t>(sizeof(uint4));
    __shared__ int ended;
    uint4 const* from = memory + 2 * per_region * static_cast<std::int64_t>(blockIdx.x);
    uint4* to = memory + 2 * per_region * static_cast<std::int64_t>(blockIdx.x) + per_region;
    unsigned long long const begin = now_ns();
    unsigned long long chunks = 0;
    for (std::int64_t at = 0;; at = (at + per_chunk) % per_region) {
        for (std::int64_t i = at + static_cast<std::int64_t>(threadIdx.x); i < at + per_chunk; i += 4 * threads) {
            uint4 const a = from[i], b = from[i + threads], c = from[i + 2 * threads], d = from[i + 3 * threads];
            to[i] = a, to[i + threads] = b, to[i + 2 * threads] = c, to[i + 3 * threads] = d;
        }
        ++chunks;
        __syncthreads();
        if (threadIdx.x == 0) {
            while (now_ns() - begin < chunks * chunk_ns && *stop == 0) {
            }
            ended = *stop != 0 || now_ns() - begin > longest_ns ? 1 : 0;
        }
        __syncthreads();
        if (ended != 0) break;
    }
    if (threadIdx.x == 0) done[blockIdx.x] = chunks;
}

static_assert(chunk_bytes % (4 * threads * sizeof(uint4)) == 0);

class Copying final : public Background {
public:
    Copying(CudaBackend& on, int sms, double bytes_per_s_per_sm) : sms_{sms}
    {
        on.synchronise();
        check(cudaHostAlloc(reinterpret_cast<void**>(&flag_), sizeof(int), cudaHostAllocMapped), "cudaHostAlloc");
        *flag_ = 0;
        int* seen = nullptr;
        check(cudaHostGetDevicePointer(reinterpret_cast<void**>(&seen), flag_, 0), "cudaHostGetDevicePointer");
        auto const blocks = static_cast<std::size_t>(sms);
        check(cudaMalloc(reinterpret_cast<void**>(&memory_), 2 * blocks * region_bytes), "cudaMalloc");
        check(cudaMalloc(reinterpret_cast<void**>(&done_), blocks * sizeof(unsigned long long)), "cudaMalloc");
        check(cudaMemset(memory_, 0x5a, 2 * blocks * region_bytes), "cudaMemset");
        check(cudaMemset(done_, 0, blocks * sizeof(unsigned long long)), "cudaMemset");
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        int device = 0, shared = 0;
        check(cudaGetDevice(&device), "cudaGetDevice");
        check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
              "cudaDeviceGetAttribute");
        shared -= 1024; // the kernel's own
        check(cudaFuncSetAttribute(reinterpret_cast<void const*>(keep_copying),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
              "cudaFuncSetAttribute");
        check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        auto const chunk_ns =
            bytes_per_s_per_sm > 0
                ? static_cast<unsigned long long>(2e9 * static_cast<double>(chunk_bytes) / bytes_per_s_per_sm)
                : 0ULL;
        keep_copying<<<static_cast<unsigned>(sms), threads, static_cast<std::size_t>(shared), stream_>>>(
            memory_, seen, done_, chunk_ns);
        check(cudaGetLastError(), "keep_copying");
        begin_ = std::chrono::steady_clock::now();
        while (std::chrono::steady_clock::now() - begin_ < std::chrono::milliseconds{2}) {
        } // until it runs
    }
    Copying(Copying const&) = delete;
    Copying& operator=(Copying const&) = delete;

    ~Copying() override
    {
        if (flag_ != nullptr) *static_cast<int volatile*>(flag_) = 1;
        if (stream_ != nullptr) {
            static_cast<void>(cudaStreamSynchronize(stream_));
            static_cast<void>(cudaStreamDestroy(stream_));
        }
        static_cast<void>(cudaFree(memory_));
        static_cast<void>(cudaFree(done_));
        static_cast<void>(cudaFreeHost(flag_));
    }

    double stop() override
    {
        *static_cast<int volatile*>(flag_) = 1;
        check(cudaStreamSynchronize(stream_), "keep_copying");
        double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
        double chunks = 0;
        for (int i = 0; i < sms_; ++i) {
            unsigned long long one = 0;
            check(cudaMemcpy(&one, done_ + i, sizeof one, cudaMemcpyDeviceToHost), "cudaMemcpy");
            chunks += static_cast<double>(one);
        }
        return 2 * chunks * static_cast<double>(chunk_bytes) / seconds;
    }

private:
    int sms_;
    int* flag_ = nullptr;
    uint4* memory_ = nullptr;
    unsigned long long* done_ = nullptr;
    cudaStream_t stream_ = nullptr;
    std::chrono::steady_clock::time_point begin_;
};

CudaBackend& gpu(kernels::Backend& on)
{
    auto* cuda = dynamic_cast<CudaBackend*>(&on);
    if (cuda == nullptr) throw kernels::Unsupported("no GPU behind back-end " + std::string{on.name()});
    return *cuda;
}

} // namespace

std::unique_ptr<Background> start_background(kernels::Backend& on, int sms, double bytes_per_s_per_sm)
{
    return std::make_unique<Copying>(gpu(on), sms, bytes_per_s_per_sm);
}

std::function<void()> host_transfer(kernels::Backend& on, double bytes, bool to_device)
{
    auto& cuda = gpu(on);
    auto const size = static_cast<std::size_t>(bytes);
    void* pinned = nullptr;
    check(cudaHostAlloc(&pinned, size, cudaHostAllocDefault), "cudaHostAlloc");
    std::shared_ptr<void> const host{pinned, [](void* p) { static_cast<void>(cudaFreeHost(p)); }};
    auto* const bytes_of_host = static_cast<unsigned char*>(pinned);
    for (std::size_t i = 0; i < size; i += 4096) bytes_of_host[i] = static_cast<unsigned char>(i >> 12U); // pages exist
    auto const there = on.make(kernels::Element::f32, static_cast<std::int64_t>(size / 4 / 1024), 1024);
    return [host, there, &cuda, size, to_device] {
        check(to_device ? cudaMemcpyAsync(there.data, host.get(), size, cudaMemcpyHostToDevice, cuda.stream())
                        : cudaMemcpyAsync(host.get(), there.data, size, cudaMemcpyDeviceToHost, cuda.stream()),
              "cudaMemcpyAsync");
    };
}

} // namespace trainfare::measure
