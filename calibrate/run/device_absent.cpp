// SPDX-License-Identifier: Apache-2.0
//
// Built where there is no CUDA.
#include "calibrate/run/device.hpp"

namespace trainfare::measure {

DeviceFacts read_device(int)
{
    throw InputError(
        "there is no GPU to measure (this program was built without CUDA); try --backend cpu with a small --model");
}
Versions read_versions() { return {}; }
std::string bus_address(int) { return {}; }
double free_memory() { return 0; }

} // namespace trainfare::measure
