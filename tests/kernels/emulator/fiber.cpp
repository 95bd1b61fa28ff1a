// SPDX-License-Identifier: Apache-2.0
//
// See fiber.hpp.
#include "tests/kernels/emulator/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// void switch_stack(void** keep, void* to): pushes what a call must preserve, changes stacks, pops the same of the
// other.
asm(R"(
.text
.type trainfare_switch_stack, @function
trainfare_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size trainfare_switch_stack, . - trainfare_switch_stack
)");
extern "C" void trainfare_switch_stack(void** keep, void* to);
#endif

namespace trainfare::kernels::emulator {
namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10U;

/// Where a fiber, or whoever resumed it, stopped.
struct Place {
#if defined(__x86_64__)
    void* stack_pointer = nullptr;
#else
    ucontext_t context{};
#endif
};

void go(Place& from, Place& to)
{
#if defined(__x86_64__)
    trainfare_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
}

Fibers::Impl* running = nullptr;
[[noreturn]] void enter();

void begin_at(Place& place, std::byte* stack)
{
#if defined(__x86_64__)
    auto* top = reinterpret_cast<std::uint64_t*>(stack + stack_bytes) - 2; // the entry sees the alignment of a call
    *top = reinterpret_cast<std::uint64_t>(&enter);
    for (int i = 0; i < 6; ++i) *--top = 0; // registers
    place.stack_pointer = top;
#else
    getcontext(&place.context);
    place.context.uc_stack.ss_sp = stack;
    place.context.uc_stack.ss_size = stack_bytes;
    place.context.uc_link = nullptr;
    makecontext(&place.context, reinterpret_cast<void (*)()>(&enter), 0);
#endif
}

} // namespace

struct Fibers::Impl {
    struct Fiber {
        Place place;
        bool ended = false;
    };
    std::byte* stacks = nullptr;
    std::size_t stack_count = 0;
    std::vector<Fiber> fibers;
    std::size_t current = 0;
    Place outside;
    void (*body)() = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    void const* outside_stack = nullptr;
    std::size_t outside_bytes = 0;
#endif

    [[nodiscard]] std::byte* stack(std::size_t i) const { return stacks + i * stack_bytes; }

    void drop_stacks()
    {
        if (stacks != nullptr) munmap(stacks, stack_count * stack_bytes);
        stacks = nullptr, stack_count = 0;
    }

    void leave(bool for_good)
    {
        auto& fiber = fibers[current];
        fiber.ended = for_good;
#if defined(__SANITIZE_ADDRESS__)
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, outside_stack, outside_bytes);
#endif
        go(fiber.place, outside);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake, &outside_stack, &outside_bytes);
#endif
    }
};

namespace {

void enter()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &running->outside_stack, &running->outside_bytes);
#endif
    running->body();
    running->leave(true);
    __builtin_trap(); // an ended fiber is not resumed
}

} // namespace

Fibers::Fibers() : impl_{std::make_unique<Impl>()} {}
Fibers::~Fibers() { impl_->drop_stacks(); }

void Fibers::prepare(std::size_t count, void (*body)())
{
    auto& all = *impl_;
    bool unfinished = false;
    for (auto const& fiber : all.fibers) unfinished = unfinished || !fiber.ended;
    if (unfinished || count > all.stack_count) { // an unfinished fiber leaves marks of the address sanitizer
        all.drop_stacks();
        void* const memory = mmap(nullptr, count * stack_bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::runtime_error("emulator: no memory for the stacks of a block's threads");
        all.stacks = static_cast<std::byte*>(memory);
        all.stack_count = count;
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(memory, count * stack_bytes);
#endif
        for (std::size_t i = 0; i < count; ++i) mprotect(all.stack(i), 4096, PROT_NONE); // an overflow stops there
    }
    all.body = body;
    all.fibers.assign(count, {});
    for (std::size_t i = 0; i < count; ++i) begin_at(all.fibers[i].place, all.stack(i));
}

void Fibers::resume(std::size_t i)
{
    auto& all = *impl_;
    running = &all;
    all.current = i;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, all.stack(i), stack_bytes);
#endif
    go(all.outside, all.fibers[i].place);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void Fibers::stop() { impl_->leave(false); }

bool Fibers::ended(std::size_t i) const { return impl_->fibers[i].ended; }

} // namespace trainfare::kernels::emulator
