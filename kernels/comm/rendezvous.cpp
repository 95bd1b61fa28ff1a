// SPDX-License-Identifier: Apache-2.0
//
// Who am I among how many, and where is rank 0: from the variables that launchers set.
#include "kernels/comm/rendezvous.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare::kernels {

namespace {

std::optional<std::string> variable(char const* name)
{
    char const* const text = std::getenv(name);
    return text == nullptr || *text == '\0' ? std::nullopt : std::optional<std::string>{text};
}

int whole_number(char const* name, int least, int most)
{
    auto const text = variable(name);
    if (!text)
        throw InputError(fmt::format("{} is not set (the launcher's other variables are); set it or none", name));
    int value = 0;
    auto const* const end = text->data() + text->size();
    auto const read = std::from_chars(text->data(), end, value);
    if (read.ec != std::errc{} || read.ptr != end || value < least || value > most)
        throw InputError(fmt::format("{} is no whole number from {} to {}; correct it", name, least, most));
    return value;
}

/// First of "a,b", "n[003-009,12],m" (Slurm's notation): "a", "n003".
std::string first_node(std::string const& list)
{
    auto const end = list.find_first_of(",[");
    if (end == std::string::npos || list[end] == ',') return list.substr(0, end);
    auto const close = list.find(']', end);
    auto const number_end = list.find_first_of(",-]", end);
    if (close == std::string::npos || number_end == std::string::npos)
        throw InputError("SLURM_STEP_NODELIST has an unclosed bracket; set MASTER_ADDR to the host of rank 0");
    auto const suffix_end = std::min(list.find(',', close), list.size());
    return list.substr(0, end) + list.substr(end + 1, number_end - end - 1) +
           list.substr(close + 1, suffix_end - close - 1);
}

/// A port that all processes of a step, and seldom those of another, compute alike: 20000 to 29999.
int step_port()
{
    long const job = std::strtol(variable("SLURM_JOB_ID").value_or("0").c_str(), nullptr, 10);
    long const step = std::strtol(variable("SLURM_STEP_ID").value_or("0").c_str(), nullptr, 10);
    return 20000 + static_cast<int>((std::labs(job % 10000) * 101 + std::labs(step % 10000)) % 10000);
}

constexpr int max_ranks = 1 << 20;

} // namespace

Rendezvous rendezvous_from_environment()
{
    Rendezvous out;
    bool const by_rank = variable("RANK") || variable("WORLD_SIZE");
    bool const by_slurm = !by_rank && variable("SLURM_PROCID") && variable("SLURM_NTASKS");
    if (!by_rank && !by_slurm) return out;
    out.size = whole_number(by_rank ? "WORLD_SIZE" : "SLURM_NTASKS", 1, max_ranks);
    out.rank = whole_number(by_rank ? "RANK" : "SLURM_PROCID", 0, out.size - 1);
    char const* const local = by_rank ? "LOCAL_RANK" : "SLURM_LOCALID";
    if (out.size > 1 || variable(local)) out.local_rank = whole_number(local, 0, max_ranks);
    if (auto const address = variable("MASTER_ADDR"))
        out.address = *address;
    else if (auto const nodes = variable("SLURM_STEP_NODELIST"); by_slurm && nodes)
        out.address = first_node(*nodes);
    if (variable("MASTER_PORT"))
        out.port = whole_number("MASTER_PORT", 1, 65535);
    else if (by_slurm)
        out.port = step_port();
    if (out.port > 0 && variable("TORCHELASTIC_RUN_ID")) // torchrun listens on MASTER_PORT itself
        out.port += out.port == 65535 ? -1 : 1;
    return out;
}

namespace comm {

Deadline::Deadline(double seconds)
{
    auto const limited = std::clamp(std::isfinite(seconds) ? seconds : 0.0, 0.0, 1e6);
    end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limited));
}

std::chrono::milliseconds Deadline::left(std::chrono::milliseconds most) const
{
    auto const rest = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now());
    return std::clamp(rest, std::chrono::milliseconds{0}, most);
}

std::string missing_ranks(std::vector<int> const& missing, double timeout_s)
{
    constexpr std::size_t named = 8;
    std::string out = missing.size() == 1 ? "rank" : "ranks";
    for (std::size_t i = 0; i < std::min(named, missing.size()); ++i)
        out += fmt::format("{} {}", i == 0 ? "" : ",", missing[i]);
    if (missing.size() > named) out += fmt::format(" and {} others", missing.size() - named);
    return fmt::format("{} did not come within {} s", out, timeout_s);
}

} // namespace comm

std::vector<std::byte> exchange_identifier(Rendezvous const& rendezvous, std::vector<std::byte> const& from_rank_0)
{
    if (rendezvous.size < 1 || rendezvous.rank < 0 || rendezvous.rank >= rendezvous.size)
        throw InternalError(fmt::format("exchange_identifier: rank {} of {}", rendezvous.rank, rendezvous.size));
    if (rendezvous.rank == 0 && (from_rank_0.empty() || from_rank_0.size() > comm::max_identifier))
        throw InternalError(fmt::format("exchange_identifier: {} bytes", from_rank_0.size()));
    if (rendezvous.size == 1) return from_rank_0;
    if (!rendezvous.file.empty()) return comm::exchange_by_file(rendezvous, from_rank_0);
    if (rendezvous.address.empty())
        throw InputError(
            "MASTER_ADDR is not set (the ranks cannot find rank 0); set it to the host of rank 0 or name a "
            "file that all can write");
    if (rendezvous.port < 1 || rendezvous.port > 65535)
        throw InputError(
            "MASTER_PORT is not set (the ranks cannot find rank 0); set it to a free port of rank 0's host");
    return comm::exchange_by_tcp(rendezvous, from_rank_0);
}

} // namespace trainfare::kernels
