// SPDX-License-Identifier: Apache-2.0
//
// As much of TCP as a rendezvous needs: sockets that never block, IPv4 and IPv6 alike.
#pragma once

#include <netdb.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "kernels/comm/rendezvous.hpp"

namespace trainfare::kernels::comm {

constexpr std::chrono::milliseconds one_try{2000}; // how long a single step may wait before the deadline is looked at

class Socket {
public:
    Socket() = default;
    explicit Socket(int descriptor) : descriptor_{descriptor} {}
    Socket(Socket&& other) noexcept : descriptor_{std::exchange(other.descriptor_, -1)} {}
    Socket& operator=(Socket&& other) noexcept
    {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    ~Socket()
    {
        if (descriptor_ >= 0) ::close(descriptor_);
    }

    [[nodiscard]] int get() const { return descriptor_; }
    [[nodiscard]] explicit operator bool() const { return descriptor_ >= 0; }

private:
    int descriptor_ = -1;
};

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

/// Empty where the name is not known (yet). @p host null with AI_PASSIVE: all addresses of this machine.
Addresses resolve(char const* host, int port, int flags);

Socket open_socket(addrinfo const&);
/// Connected within one_try, or nothing.
Socket connect_to(addrinfo const&, Deadline const&);

/// True when @p events (of poll) or an error happened in time.
bool wait_for(Socket const&, short events, std::chrono::milliseconds);
/// Appends what is there, up to @p limit bytes in all. False: the other side is gone.
bool read_some(Socket const&, Bytes& to, std::size_t limit);
/// False: the other side is gone or does not read.
bool write_all(Socket const&, std::span<std::byte const>, Deadline const&);

/// Lets this process hold that many sockets, as far as its hard limit goes.
void allow_open_files(std::size_t count);

} // namespace trainfare::kernels::comm
