// SPDX-License-Identifier: Apache-2.0
//
// An H100 (SXM, 80 GB) as cuDNN describes devices to itself, so that its heuristics and support checks can be asked
// about Hopper where there is no GPU. The keys are cuDNN's (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION; it refuses a
// text that lacks one); the values are NVIDIA's published ones for compute capability 9.0 and the H100.
#pragma once

namespace trainfare::kernels::test {

inline constexpr auto* h100_device =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],)"
    R"("regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,)"
    R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
    R"("reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,)"
    R"("maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
    R"("supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":2619000,)"
    R"("l2CacheSize":52428800,"deviceName":"NVIDIA H100 80GB HBM3","deviceVer":900,)"
    R"("cudaDeviceId":0,"driverVer":13000,"totalGlobalMem":85017755648})";

} // namespace trainfare::kernels::test
