// SPDX-License-Identifier: Apache-2.0
//
// Every call of the operating system that a rendezvous by TCP needs, with its return codes.
#include "kernels/comm/tcp.hpp"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

namespace trainfare::kernels::comm {

Addresses resolve(char const* host, int port, int flags)
{
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (::getaddrinfo(host, std::to_string(port).c_str(), &hints, &found) != 0) found = nullptr;
    return {found, &::freeaddrinfo};
}

Socket open_socket(addrinfo const& address)
{
    return Socket{::socket(address.ai_family, address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol)};
}

Socket connect_to(addrinfo const& address, Deadline const& deadline)
{
    auto socket = open_socket(address);
    if (!socket) return {};
    if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return socket;
    if (errno != EINPROGRESS || !wait_for(socket, POLLOUT, deadline.left(one_try))) return {};
    int error = 0;
    socklen_t length = sizeof error;
    bool const connected = ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
    return connected ? std::move(socket) : Socket{};
}

bool wait_for(Socket const& socket, short events, std::chrono::milliseconds time)
{
    pollfd entry{socket.get(), events, 0};
    return ::poll(&entry, 1, static_cast<int>(time.count())) > 0;
}

bool read_some(Socket const& socket, Bytes& to, std::size_t limit)
{
    std::array<std::byte, 4096> buffer;
    while (to.size() < limit) {
        auto const got = ::recv(socket.get(), buffer.data(), std::min(buffer.size(), limit - to.size()), 0);
        if (got > 0)
            to.insert(to.end(), buffer.begin(), buffer.begin() + got);
        else if (got < 0 && errno == EINTR)
            continue;
        else
            return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    }
    return true;
}

bool write_all(Socket const& socket, std::span<std::byte const> bytes, Deadline const& deadline)
{
    while (!bytes.empty()) {
        auto const put = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (put > 0)
            bytes = bytes.subspan(static_cast<std::size_t>(put));
        else if (errno == EINTR)
            continue;
        else if (errno != EAGAIN && errno != EWOULDBLOCK)
            return false;
        else if (!wait_for(socket, POLLOUT, deadline.left(one_try)))
            return false;
    }
    return true;
}

void allow_open_files(std::size_t count)
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= count) return;
    limit.rlim_cur = std::min<rlim_t>(count, limit.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &limit); // if refused, the ranks that find no room are named as missing
}

} // namespace trainfare::kernels::comm
