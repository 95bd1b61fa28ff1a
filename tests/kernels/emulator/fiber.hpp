// SPDX-License-Identifier: Apache-2.0
//
// Functions that can stop in the middle and go on later, for the threads of a GPU block. A block has up to 1,024 and
// they meet often, so a switch must cost nanoseconds: a few instructions on x86-64, ucontext elsewhere.
#pragma once

#include <cstddef>
#include <memory>

namespace trainfare::kernels::emulator {

/// Fibers of one block. Only one set runs at a time in the program.
class Fibers {
public:
    Fibers();
    ~Fibers();
    Fibers(Fibers const&) = delete;
    Fibers& operator=(Fibers const&) = delete;

    /// @p count fibers, not begun, that will each call @p body. What others had not finished is dropped without
    /// destructors.
    void prepare(std::size_t count, void (*body)());
    /// Runs fiber @p i until it stops or its body ends. Not from within a fiber.
    void resume(std::size_t i);
    /// From within the running fiber: back to resume().
    void stop();
    [[nodiscard]] bool ended(std::size_t i) const;

    struct Impl;

private:
    std::unique_ptr<Impl> impl_;
};

} // namespace trainfare::kernels::emulator
