// SPDX-License-Identifier: Apache-2.0
//
// Which part this is, from what it reports: a name can be cut, SM counts, memory and NVLinks cannot.
#pragma once

#include <optional>
#include <string>

#include "calibrate/tables.hpp"

namespace trainfare::measure {

struct DeviceFacts {
    std::string name; // as the driver gives it
    int sms = 0;
    double memory_bytes = 0, l2_bytes = 0;
    int major = 0, minor = 0;   // compute capability
    std::optional<int> nvlinks; // active; absent: not known (no NVML, or a virtual machine with one GPU)
    std::optional<bool> ecc;
    std::optional<double> power_limit_w;
};

struct Recognised {
    std::string accelerator; // key of hardware.csv; empty: not recognised
    std::string reason;      // what decided, or why nothing fits
};

/// Worked examples: 132 SMs, 80 GB and 18 links are an H100-SXM; 8 links an H800-SXM; 78 SMs an H20-96G.
Recognised recognise(DeviceFacts const&);

/// The accelerator that rows will name. A claim that what the device reports contradicts is an error, and so is a
/// device without a row in hardware.csv unless the claim says which. @throws InputError saying what was reported.
std::string accelerator_for(DeviceFacts const&, std::string const& claim, Tables const&);

/// "NVIDIA H100 80GB HBM3, 132 SMs, 85.0 GB, compute capability 9.0, 18 NVLinks"
std::string in_words(DeviceFacts const&);

/// Versions of what was loaded, for runs.csv; empty where unknown.
struct Versions {
    std::string driver, cuda_runtime, cuda_toolkit, cublaslt, cudnn, nccl;
};

// device_cuda.cpp, or device_absent.cpp without CUDA:
/// @throws InputError where there is no such device.
DeviceFacts read_device(int device);
Versions read_versions();
/// Bus address as NVML wants it; never written anywhere.
std::string bus_address(int device);
double free_memory();

} // namespace trainfare::measure
