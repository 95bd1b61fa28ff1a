// SPDX-License-Identifier: Apache-2.0
//
// Processes that find each other through a folder that all can write, such as the home directory of a cluster. A file
// of an earlier run must never be taken for today's, and clocks of nodes differ, so nothing is judged by age. Each
// process draws a token of its own instead:
//
//     rank r   writes  FILE.rank<r>   its token                       and reads FILE until that names its token
//     rank 0   reads   FILE.rank<r>   all tokens, then writes FILE    its own token, all tokens, the identifier
//     rank r   writes  FILE.rank<r>   its token and rank 0's          and is done
//     rank 0   is done when every rank has written rank 0's token, and removes all files
//
// A stale FILE holds other tokens, so rank r goes on waiting; a stale FILE.rank<r> holds another token of rank 0, so
// rank 0 does. Every file is written beside and renamed: nobody reads half of one.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "kernels/comm/rendezvous.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::comm {

namespace {

constexpr std::string_view magic = "trainfare-rendezvous-1";

std::string new_token()
{
    std::random_device device;
    return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

std::string hex(Bytes const& bytes)
{
    std::string out;
    for (auto const byte : bytes) out += fmt::format("{:02x}", static_cast<unsigned>(byte));
    return out;
}

std::optional<Bytes> bytes_from(std::string const& text)
{
    auto const digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
    if (text.empty() || text.size() % 2 != 0 || text.size() > 2 * max_identifier) return {};
    Bytes out;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        int const high = digit(text[i]), low = digit(text[i + 1]);
        if (high < 0 || low < 0) return {};
        out.push_back(static_cast<std::byte>(high * 16 + low));
    }
    return out;
}

/// The words of one of our files after the magic one; absent: no such file, or it is not one of ours.
std::optional<std::vector<std::string>> words_of(std::string const& path)
{
    constexpr std::uintmax_t limit = 64'000'000; // tokens of a million ranks
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error) || std::filesystem::file_size(path, error) > limit) return {};
    std::ifstream in{path, std::ios::binary};
    std::string text(magic.size(), '\0');
    if (!in.read(text.data(), static_cast<std::streamsize>(text.size())) || text != magic) return {};
    text.assign(std::istreambuf_iterator<char>{in}, {});
    std::istringstream words{text};
    return std::vector<std::string>{std::istream_iterator<std::string>{words}, {}};
}

void write(std::string const& path, std::string const& text)
{
    auto const beside = path + ".new";
    {
        std::ofstream out{beside, std::ios::binary | std::ios::trunc};
        out << magic << '\n' << text << '\n';
        if (!out.flush())
            throw InputError({beside},
                             "cannot be written (the ranks meet there); name a file that all nodes can write");
    }
    std::error_code error;
    std::filesystem::rename(beside, path, error);
    if (error) throw InputError({path}, "cannot be replaced (the ranks meet there); name another file");
}

/// A slip of the keyboard must not cost a file.
void refuse_foreign(std::string const& path)
{
    std::error_code error;
    if (std::filesystem::exists(path, error) && !words_of(path))
        throw InputError({path}, "exists and is no rendezvous file (it would be overwritten); name another file");
}

std::string of_rank(Rendezvous const& rendezvous, int rank) { return fmt::format("{}.rank{}", rendezvous.file, rank); }

/// Slower after a while: thousands of ranks poll the same file server.
void pause(Deadline const& deadline, int round)
{
    std::this_thread::sleep_for(deadline.left(std::chrono::milliseconds{std::min(5 + 5 * round, 250)}));
}

Bytes lead(Rendezvous const& rendezvous, Bytes const& identifier, Deadline const& deadline)
{
    auto const token = new_token();
    auto const size = static_cast<std::size_t>(rendezvous.size);
    std::vector<std::string> theirs(size), written;
    for (int round = 0;; ++round) {
        std::vector<int> silent, unconfirmed;
        for (int r = 1; r < rendezvous.size; ++r) {
            auto& known = theirs[static_cast<std::size_t>(r)];
            auto const words = words_of(of_rank(rendezvous, r));
            if (words && words->size() >= 2 && (*words)[0] == std::to_string(size)) known = (*words)[1];
            if (known.empty()) silent.push_back(r);
            if (!words || words->size() < 3 || (*words)[2] != token) unconfirmed.push_back(r);
        }
        if (unconfirmed.empty()) break;
        if (silent.empty() && theirs != written) {
            std::string text = fmt::format("{}\n{}\n{}", size, token, hex(identifier));
            for (std::size_t r = 1; r < size; ++r) text += "\n" + theirs[r];
            write(rendezvous.file, text);
            written = theirs;
        }
        if (deadline.passed())
            throw InputError(
                {rendezvous.file},
                missing_ranks(silent.empty() ? unconfirmed : silent, rendezvous.timeout_s) +
                    " (all ranks must see the same folder and WORLD_SIZE); start them together, and no two "
                    "runs with one file");
        pause(deadline, round);
    }
    std::error_code ignored; // what stays is stale, and stale files do no harm
    for (int r = 1; r < rendezvous.size; ++r) std::filesystem::remove(of_rank(rendezvous, r), ignored);
    std::filesystem::remove(rendezvous.file, ignored);
    return identifier;
}

Bytes follow(Rendezvous const& rendezvous, Deadline const& deadline)
{
    auto const token = new_token();
    auto const size = static_cast<std::size_t>(rendezvous.size);
    auto const own_file = of_rank(rendezvous, rendezvous.rank);
    refuse_foreign(own_file);
    write(own_file, fmt::format("{}\n{}", size, token));
    for (int round = 0;; ++round) {
        // size, rank 0's token, identifier, then the tokens of ranks 1, 2, ...
        auto const words = words_of(rendezvous.file);
        auto const place = 2 + static_cast<std::size_t>(rendezvous.rank);
        if (words && words->size() == size + 2 && (*words)[0] == std::to_string(size) && (*words)[place] == token)
            if (auto identifier = bytes_from((*words)[2])) {
                write(own_file, fmt::format("{}\n{}\n{}", size, token, (*words)[1]));
                return *std::move(identifier);
            }
        if (deadline.passed())
            throw InputError(
                {rendezvous.file},
                fmt::format("rank 0 did not answer rank {} within {} s (all ranks must see the same folder "
                            "and WORLD_SIZE); start them together, and no two runs with one file",
                            rendezvous.rank, rendezvous.timeout_s));
        pause(deadline, round);
    }
}

} // namespace

Bytes exchange_by_file(Rendezvous const& rendezvous, Bytes const& from_rank_0)
{
    Deadline const deadline{rendezvous.timeout_s};
    refuse_foreign(rendezvous.file);
    return rendezvous.rank == 0 ? lead(rendezvous, from_rank_0, deadline) : follow(rendezvous, deadline);
}

} // namespace trainfare::kernels::comm
