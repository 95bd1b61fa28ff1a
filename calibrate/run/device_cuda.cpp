// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA runtime and NVML say about a device and about themselves. No host names, serial numbers or UUIDs.
#include "calibrate/run/device.hpp"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <fmt/format.h>

#include "calibrate/run/nvml.hpp"

namespace trainfare::measure {

namespace {

void check(cudaError_t status, char const* what)
{
    if (status != cudaSuccess)
        throw InputError(fmt::format("the GPU cannot be read ({}: {})", what, cudaGetErrorString(status)));
}

/// 13010 -> 13.1
std::string of_runtime(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

/// A library's own version function, where it is loaded; the program may be built without it.
template <class Function>
Function* loaded(char const* name)
{
    return reinterpret_cast<Function*>(::dlsym(RTLD_DEFAULT, name));
}

} // namespace

std::string bus_address(int device)
{
    char text[32] = {};
    return cudaDeviceGetPCIBusId(text, sizeof text, device) == cudaSuccess ? text : "";
}

DeviceFacts read_device(int device)
{
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    DeviceFacts d;
    d.name = properties.name;
    d.sms = properties.multiProcessorCount;
    d.memory_bytes = static_cast<double>(properties.totalGlobalMem);
    d.l2_bytes = properties.l2CacheSize;
    d.major = properties.major, d.minor = properties.minor;
    d.ecc = properties.ECCEnabled != 0;
    if (auto const nvml = Nvml::open(bus_address(device))) {
        d.nvlinks = nvml->nvlinks();
        d.power_limit_w = nvml->power_limit_w();
        if (auto const ecc = nvml->ecc()) d.ecc = ecc;
    }
    return d;
}

Versions read_versions()
{
    Versions v;
    int version = 0;
    if (cudaRuntimeGetVersion(&version) == cudaSuccess) v.cuda_runtime = of_runtime(version);
    v.cuda_toolkit = of_runtime(CUDART_VERSION);
    auto const lt = static_cast<long>(cublasLtGetVersion());
    v.cublaslt = lt >= 100000 ? fmt::format("{}.{}.{}", lt / 10000, lt % 10000 / 100, lt % 100) : std::to_string(lt);
    if (auto* const cudnn = loaded<std::size_t()>("cudnnGetVersion")) {
        auto const n = cudnn();
        v.cudnn = n >= 90000 ? fmt::format("{}.{}.{}", n / 10000, n % 10000 / 100, n % 100) : std::to_string(n);
    }
    int nccl = 0;
    if (auto* const function = loaded<int(int*)>("ncclGetVersion"); function != nullptr && function(&nccl) == 0)
        v.nccl = fmt::format("{}.{}.{}", nccl / 10000, nccl % 10000 / 100, nccl % 100);
    int device = 0;
    static_cast<void>(cudaGetDevice(&device));
    if (auto const nvml = Nvml::open(bus_address(device))) v.driver = nvml->driver();
    if (v.driver.empty() && cudaDriverGetVersion(&version) == cudaSuccess) v.driver = "CUDA " + of_runtime(version);
    return v;
}

double free_memory()
{
    std::size_t available = 0, total = 0;
    return cudaMemGetInfo(&available, &total) == cudaSuccess ? static_cast<double>(available) : 0;
}

} // namespace trainfare::measure
