// SPDX-License-Identifier: Apache-2.0
//
// Built where there is no CUDA: these points become rows "unsupported".
#include "calibrate/run/background.hpp"

namespace trainfare::measure {

std::unique_ptr<Background> start_background(kernels::Backend&, int, double)
{
    throw kernels::Unsupported("no GPU whose SMs could be held");
}

std::function<void()> host_transfer(kernels::Backend&, double, bool)
{
    throw kernels::Unsupported("no GPU to copy to");
}

} // namespace trainfare::measure
