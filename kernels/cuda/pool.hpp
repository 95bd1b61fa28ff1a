// SPDX-License-Identifier: Apache-2.0
//
// Device memory that is kept rather than returned: cudaMalloc and cudaFree stop the GPU, and a training step asks for
// the same sizes again and again. A block given back serves the next request of its size class at once: work queued
// later on the compute stream runs after what still uses it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

namespace trainfare::kernels::cuda {

/// Bytes a request really takes: eight classes per power of two, at least 512 bytes apart (so that every block is
/// aligned for everyone) and at most 32 MiB. 1 -> 512; 5000 -> 5120; 1.01 GiB -> 1 GiB + 32 MiB.
std::size_t size_class(std::size_t bytes);

/// For one thread, as the back-end is. Blocks outlive the back-end if tensors do: each keeps the pool.
class Pool : public std::enable_shared_from_this<Pool> {
public:
    struct Block {
        void* data = nullptr;
        std::size_t bytes = 0;
    };

    /// When the device is full, unused blocks are freed: @p lender's if there is one (recorded work may use those of
    /// this pool).
    explicit Pool(int device, std::shared_ptr<Pool> lender = nullptr) : device_{device}, lender_{std::move(lender)} {}
    ~Pool();
    Pool(Pool const&) = delete;
    Pool& operator=(Pool const&) = delete;

    /// Uninitialised memory that returns to this pool with its last owner. @throws InputError when the device is full.
    std::shared_ptr<void> take(std::size_t bytes);
    void give_back(Block) noexcept;
    /// From now on blocks given back go to @p where and are not used again (null: they are). For the time in which a
    /// graph is recorded: it runs later and may touch what was freed after recording.
    void divert(std::vector<Block>* where) { diverted_ = where; }

    /// Returns unused blocks to the device if they are more than what is free there. Before a recording, which needs
    /// about as much again as its warm-up has left unused, and inside which the device cannot be waited for.
    void make_room() noexcept;

    [[nodiscard]] std::size_t bytes_reserved() const { return reserved_; } // from the device, in use or not

private:
    void* allocate(std::size_t bytes);
    void free_unused() noexcept;

    int device_;
    std::shared_ptr<Pool> lender_;
    std::multimap<std::size_t, void*> unused_; // by size class
    std::vector<Block>* diverted_ = nullptr;
    std::size_t reserved_ = 0;
};

} // namespace trainfare::kernels::cuda
