// SPDX-License-Identifier: Apache-2.0
//
// Processes that find each other through rank 0's address. Everyone but rank 0 connects, says who it is, gets the
// identifier and confirms it; numbers are 32 bits, most significant byte first:
//
//     to rank 0    "trainfare-meet-1" rank size      from rank 0  "trainfare-meet-1" length bytes      to rank 0  'k'
//
// Rank 0 answers once all are there, so that nobody starts to compute with a group that is not complete. A stranger
// that connects (ports are scanned) is dropped and does not end the run.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "kernels/comm/rendezvous.hpp"
#include "kernels/comm/tcp.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::comm {

namespace {

constexpr std::string_view magic = "trainfare-meet-1";
constexpr std::size_t hello_size = magic.size() + 8, head_size = magic.size() + 4;
constexpr std::byte confirmation{'k'};
constexpr std::chrono::milliseconds retry_after{100};

void append(Bytes& to, std::uint32_t number)
{
    for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<std::byte>((number >> shift) & 0xffU));
}

void append(Bytes& to, std::string_view text)
{
    for (char const c : text) to.push_back(static_cast<std::byte>(c));
}

std::uint32_t number_at(Bytes const& bytes, std::size_t at)
{
    std::uint32_t out = 0;
    for (std::size_t i = at; i < at + 4; ++i) out = out << 8 | static_cast<std::uint32_t>(bytes[i]);
    return out;
}

/// Whether what came so far is how ours begin.
bool begins_well(Bytes const& bytes)
{
    auto const same = [](std::byte b, char c) { return b == static_cast<std::byte>(c); };
    auto const count = static_cast<std::ptrdiff_t>(std::min(bytes.size(), magic.size()));
    return std::equal(bytes.begin(), bytes.begin() + count, magic.begin(), same);
}

// --- rank 0 -------------------------------------------------------------------------------------------------------

/// A name that only this machine can reach is listened to only there; any other name may lead to any of our addresses.
bool is_local(std::string const& address)
{
    return address == "localhost" || address == "::1" || address.starts_with("127.");
}

std::vector<Socket> listen_on(std::string const& address, int port)
{
    std::vector<Socket> out;
    auto const found = resolve(is_local(address) ? address.c_str() : nullptr, port, AI_PASSIVE);
    bool in_use = false;
    for (auto const* a = found.get(); a != nullptr; a = a->ai_next) {
        auto socket = open_socket(*a);
        if (!socket) continue; // no IPv6 here, say
        int const on = 1;
        ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (a->ai_family == AF_INET6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        if (::bind(socket.get(), a->ai_addr, a->ai_addrlen) == 0 && ::listen(socket.get(), SOMAXCONN) == 0)
            out.push_back(std::move(socket));
        else
            in_use = in_use || errno == EADDRINUSE;
    }
    if (out.empty() || in_use)
        throw InputError(fmt::format("rank 0 cannot listen on MASTER_PORT {} ({}); set another MASTER_PORT", port,
                                     in_use ? "another program does" : "it is not allowed or there is no network"));
    return out;
}

constexpr std::size_t room_for_strangers = 200;

struct Guest {
    Socket socket;
    Bytes said;
    int rank = -1; // once known
    bool answered = false;
};

class Host {
public:
    Host(Rendezvous const& rendezvous, Bytes const& identifier)
        : rendezvous_{rendezvous}, deadline_{rendezvous.timeout_s}, listeners_{listen_on(rendezvous.address,
                                                                                         rendezvous.port)},
          came_(static_cast<std::size_t>(rendezvous.size)), confirmed_(static_cast<std::size_t>(rendezvous.size))
    {
        allow_open_files(static_cast<std::size_t>(rendezvous.size) + room_for_strangers);
        append(answer_, magic);
        append(answer_, static_cast<std::uint32_t>(identifier.size()));
        answer_.insert(answer_.end(), identifier.begin(), identifier.end());
    }

    void serve()
    {
        while (std::count(confirmed_.begin(), confirmed_.end(), true) < rendezvous_.size - 1) {
            if (deadline_.passed()) throw InputError(who_is_missing());
            wait_for_anyone();
            for (auto const& listener : listeners_) accept_from(listener);
            for (auto& guest : guests_) listen_to(guest);
            std::erase_if(guests_, [](Guest const& guest) { return !guest.socket; });
            if (all_here())
                for (auto& guest : guests_) answer(guest);
        }
    }

private:
    void wait_for_anyone()
    {
        std::vector<pollfd> entries;
        for (auto const& listener : listeners_) entries.push_back({listener.get(), POLLIN, 0});
        for (auto const& guest : guests_) entries.push_back({guest.socket.get(), POLLIN, 0});
        ::poll(entries.data(), entries.size(), static_cast<int>(deadline_.left(one_try).count())); // all are read below
    }

    void accept_from(Socket const& listener)
    {
        for (;;) {
            Socket next{::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
            if (!next) return;
            if (guests_.size() < static_cast<std::size_t>(rendezvous_.size) + room_for_strangers)
                guests_.push_back({std::move(next), {}, -1, false});
        }
    }

    void listen_to(Guest& guest)
    {
        bool const is_there = read_some(guest.socket, guest.said, hello_size + 1);
        if (!begins_well(guest.said) || (guest.said.size() > hello_size && !guest.answered)) {
            ++strangers_;
            drop(guest);
            return;
        }
        if (guest.rank < 0 && guest.said.size() >= hello_size) introduce(guest);
        if (guest.answered && guest.said.size() > hello_size && guest.said[hello_size] == confirmation) {
            confirmed_[static_cast<std::size_t>(guest.rank)] = true;
            drop(guest);
        } else if (!is_there) {
            drop(guest); // it will come again or be missed
        }
    }

    static void drop(Guest& guest)
    {
        guest.socket = Socket{};
        guest.rank = -1;
    }

    void introduce(Guest& guest)
    {
        auto const rank = number_at(guest.said, magic.size()), size = number_at(guest.said, magic.size() + 4);
        if (std::cmp_not_equal(size, rendezvous_.size))
            throw InputError(
                fmt::format("a process believes in {} ranks, rank 0 in {} (are two runs on one MASTER_PORT?); "
                            "set WORLD_SIZE alike, or another MASTER_PORT",
                            size, rendezvous_.size));
        bool const taken = rank == 0 || std::cmp_greater_equal(rank, rendezvous_.size) || confirmed_[rank] ||
                           std::any_of(guests_.begin(), guests_.end(),
                                       [&](Guest const& other) { return std::cmp_equal(other.rank, rank); });
        if (taken)
            throw InputError(
                fmt::format("two processes say that they are rank {} (are two runs on one MASTER_PORT?); give "
                            "each its own RANK, or another MASTER_PORT",
                            rank));
        guest.rank = static_cast<int>(rank);
        came_[rank] = true;
    }

    [[nodiscard]] bool all_here() const
    {
        auto here = std::count(confirmed_.begin(), confirmed_.end(), true);
        for (auto const& guest : guests_) here += guest.rank > 0 ? 1 : 0;
        return here >= rendezvous_.size - 1;
    }

    void answer(Guest& guest)
    {
        if (guest.rank < 0 || guest.answered) return;
        guest.answered = write_all(guest.socket, answer_, deadline_);
    }

    [[nodiscard]] std::string who_is_missing() const
    {
        // Those who came give up at about the same time as rank 0, so who is connected now says little.
        std::vector<int> missing;
        for (int r = 1; r < rendezvous_.size; ++r)
            if (!came_[static_cast<std::size_t>(r)]) missing.push_back(r);
        if (missing.empty())
            for (int r = 1; r < rendezvous_.size; ++r)
                if (!confirmed_[static_cast<std::size_t>(r)]) missing.push_back(r);
        auto const strangers =
            strangers_ == 0 ? std::string{} : fmt::format("; {} connections of strangers", strangers_);
        return fmt::format("{} (MASTER_ADDR and MASTER_PORT must lead to rank 0 from every node{}); start all ranks "
                           "together and check the firewall",
                           missing_ranks(missing, rendezvous_.timeout_s), strangers);
    }

    Rendezvous const& rendezvous_;
    Deadline deadline_;
    std::vector<Socket> listeners_;
    std::vector<Guest> guests_;
    std::vector<bool> came_, confirmed_; // by rank; [0] is not used
    Bytes answer_;
    int strangers_ = 0;
};

// --- the others ---------------------------------------------------------------------------------------------------

/// A connection to rank 0, or nothing if it does not listen yet.
Socket connect_once(Rendezvous const& rendezvous, Deadline const& deadline)
{
    auto const found = resolve(rendezvous.address.c_str(), rendezvous.port, 0);
    for (auto const* a = found.get(); a != nullptr; a = a->ai_next)
        if (auto socket = connect_to(*a, deadline)) return socket;
    return {};
}

/// What rank 0 answers on this connection; absent: it hung up, so try again.
std::optional<Bytes> ask(Socket const& socket, Rendezvous const& rendezvous, Deadline const& deadline)
{
    Bytes hello;
    append(hello, magic);
    append(hello, static_cast<std::uint32_t>(rendezvous.rank));
    append(hello, static_cast<std::uint32_t>(rendezvous.size));
    if (!write_all(socket, hello, deadline)) return {};
    Bytes said;
    for (std::size_t wanted = head_size; said.size() < wanted;) {
        if (deadline.passed()) return {};
        if (!wait_for(socket, POLLIN, deadline.left(one_try))) continue;
        bool const is_there = read_some(socket, said, wanted);
        if (!begins_well(said))
            throw InputError(
                fmt::format("what listens on MASTER_PORT {} is not rank 0 (it answered in another language); "
                            "set another MASTER_PORT",
                            rendezvous.port));
        if (said.size() >= head_size) {
            auto const length = number_at(said, magic.size());
            if (length == 0 || length > max_identifier)
                throw InputError(
                    fmt::format("what listens on MASTER_PORT {} is not rank 0 (it announced {} bytes); set "
                                "another MASTER_PORT",
                                rendezvous.port, length));
            wanted = head_size + length;
        }
        if (!is_there && said.size() < wanted) return {};
    }
    if (!write_all(socket, std::array{confirmation}, deadline)) return {};
    said.erase(said.begin(), said.begin() + head_size);
    return said;
}

Bytes visit(Rendezvous const& rendezvous)
{
    Deadline const deadline{rendezvous.timeout_s};
    for (;;) {
        if (auto const socket = connect_once(rendezvous, deadline))
            if (auto identifier = ask(socket, rendezvous, deadline)) return *std::move(identifier);
        if (deadline.passed())
            throw InputError(
                fmt::format("rank {} found no rank 0, or not all ranks came, within {} s (MASTER_ADDR and "
                            "MASTER_PORT {} must lead to it); start all ranks together and check the firewall",
                            rendezvous.rank, rendezvous.timeout_s, rendezvous.port));
        std::this_thread::sleep_for(deadline.left(retry_after));
    }
}

} // namespace

Bytes exchange_by_tcp(Rendezvous const& rendezvous, Bytes const& from_rank_0)
{
    if (rendezvous.rank != 0) return visit(rendezvous);
    Host{rendezvous, from_rank_0}.serve();
    return from_rank_0;
}

} // namespace trainfare::kernels::comm
