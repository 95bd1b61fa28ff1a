// SPDX-License-Identifier: Apache-2.0
//
// See pool.hpp.
#include "kernels/cuda/pool.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include <fmt/format.h>

#include "kernels/cuda/check.hpp"

namespace trainfare::kernels::cuda {

std::size_t size_class(std::size_t bytes)
{
    constexpr std::size_t smallest_step = 512, largest_step = std::size_t{32} << 20U;
    std::size_t const wanted = std::max<std::size_t>(bytes, 1);
    std::size_t const step = std::clamp(std::bit_floor(wanted) / 8, smallest_step, largest_step);
    return (wanted + step - 1) / step * step;
}

Pool::~Pool() { free_unused(); }

std::shared_ptr<void> Pool::take(std::size_t bytes)
{
    std::size_t const size = size_class(bytes);
    void* data = nullptr;
    if (auto const found = unused_.find(size); found != unused_.end()) {
        data = found->second;
        unused_.erase(found);
    } else {
        data = allocate(size);
    }
    return {data, [pool = shared_from_this(), size](void* p) { pool->give_back({p, size}); }};
}

void Pool::give_back(Block block) noexcept
{
    if (diverted_ != nullptr)
        diverted_->push_back(block);
    else
        unused_.emplace(block.bytes, block.data);
}

void* Pool::allocate(std::size_t bytes)
{
    void* data = nullptr;
    check(cudaSetDevice(device_), "cudaSetDevice");
    auto status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
        (lender_ ? *lender_ : *this).free_unused();
        static_cast<void>(cudaGetLastError()); // the failure was answered; the next check must not see it
        status = cudaMalloc(&data, bytes);
    }
    if (status == cudaErrorMemoryAllocation) {
        static_cast<void>(cudaGetLastError());
        std::size_t available = 0, total = 0;
        check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
        auto const gib = [](std::size_t n) { return static_cast<double>(n) / 0x1p30; };
        throw InputError(fmt::format("no room for {:.3f} GiB on device {} ({:.1f} of {:.1f} GiB are free, this program "
                                     "holds {:.1f} GiB); try fewer tokens per micro-batch, fewer layers or more ranks",
                                     gib(bytes), device_, gib(available), gib(total), gib(reserved_)));
    }
    check(status, "cudaMalloc");
    reserved_ += bytes;
    return data;
}

void Pool::make_room() noexcept
{
    std::size_t unused = 0, available = 0, total = 0;
    for (auto const& [bytes, data] : unused_) unused += bytes;
    if (cudaMemGetInfo(&available, &total) == cudaSuccess && available < unused) free_unused();
}

// Errors seen here are those of earlier work, which report themselves. While a graph is recorded nothing runs and
// waiting is not allowed.
void Pool::free_unused() noexcept
{
    if (unused_.empty()) return;
    if (diverted_ == nullptr) static_cast<void>(cudaDeviceSynchronize());
    for (auto const& [bytes, data] : unused_) {
        static_cast<void>(cudaFree(data));
        reserved_ -= bytes;
    }
    unused_.clear();
}

} // namespace trainfare::kernels::cuda
