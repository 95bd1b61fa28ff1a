// SPDX-License-Identifier: Apache-2.0
//
// What needs CUDA beyond the back-end: a kernel that keeps some SMs and part of the memory busy while something else is
// timed, and copies over the bus from pinned memory. Built from background.cu, or background_absent.cpp without CUDA.
#pragma once

#include <functional>
#include <memory>

#include "kernels/backend.hpp"

namespace trainfare::measure {

/// Copies memory on a given number of SMs from construction to stop(). It ends by itself after a minute, whatever
/// happens.
class Background {
public:
    virtual ~Background() = default;
    /// @return bytes per second that it moved, read and written
    virtual double stop() = 0;
};

/// @p sms blocks that fill an SM each. @p bytes_per_s_per_sm: no faster than that; 0: as fast as it goes. Queue nothing
/// that waits for the whole device while it runs. @throws kernels::Unsupported on a back-end that is no GPU.
std::unique_ptr<Background> start_background(kernels::Backend&, int sms, double bytes_per_s_per_sm = 0);

/// A function that queues one copy of @p bytes between pinned host memory and the device. @throws kernels::Unsupported
/// likewise.
std::function<void()> host_transfer(kernels::Backend&, double bytes, bool to_device);

} // namespace trainfare::measure
