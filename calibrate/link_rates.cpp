// SPDX-License-Identifier: Apache-2.0
//
// What of a line rate arrives as payload, taken from published transfers in the tables and never typed here.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "calibrate/collectives.hpp"

namespace trainfare {

namespace {

/// Repeated measurements of one link agree this well (365-370 GB/s, 153-158 GB/s): half-width of a 90 % interval.
constexpr double measured_spread = 0.05;

struct Shares {
    double median = 0, low = 0, high = 0;
    /// A range of so few values is read as their 90 % interval.
    [[nodiscard]] double spread() const { return std::max(measured_spread, (high - low) / 2 / median); }
};

Shares summary(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    auto const half = values.size() / 2;
    double const median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
    return {median, values.front(), values.back()};
}

int source_index(Tables const& tables, std::string_view id)
{
    for (std::size_t i = 0; i < tables.sources.size(); ++i)
        if (tables.sources[i].id == id) return static_cast<int>(i);
    return -1;
}

/// The routing of DeepEP's benchmark: 8 of 256 experts, one group a node, at most 4 of them.
Experts benchmark_experts(int nodes)
{
    Experts experts;
    experts.count = 256;
    experts.top_k = 8;
    experts.groups = nodes;
    experts.top_groups = std::min(nodes, 4);
    return experts;
}

/// Share of its NIC's line rate that a published expert exchange used; absent where the NIC is not what limited it.
std::optional<double> nic_share(Tables const& tables, CollRow const& row)
{
    bool const exchange = row.operation == "ep_dispatch" || row.operation == "ep_combine";
    if (!exchange || row.bw_kind != "logical" || !row.bandwidth || !row.ranks || !row.nodes) return {};
    int const nodes = *row.nodes, ranks = *row.ranks;
    if (nodes < 2 || ranks % nodes != 0 || 256 % ranks != 0 || row.top_k.value_or(8) != 8) return {};
    auto const gpu = tables.accelerators.find(row.accelerator);
    if (gpu == tables.accelerators.end() || !gpu->second.nic || !gpu->second.scale_up) return {};
    // Fan-out inside a node multiplies the bytes: where NVLink carries most of what it can, it set the pace (16 H800s:
    // 43 GB/s x 3.3 copies a node = 141 of 160 GB/s) and the row says nothing about the NIC.
    auto const reach = expected_reach(benchmark_experts(nodes), ranks, nodes);
    auto const fan_out = *row.bandwidth * (reach.gpus / reach.domains);
    if (fan_out > scale_up_rate(tables, gpu->second).payload * 0.8) return {};
    // Logical bandwidth counts the copy to the own node, which no wire carries.
    double const remote = (nodes - 1.0) / nodes;
    return *row.bandwidth * remote / *gpu->second.nic;
}

} // namespace

LinkRate scale_up_rate(Tables const& tables, Accelerator const& gpu)
{
    LinkRate rate;
    rate.source = source_index(tables, "hardware");
    if (gpu.scale_up_measured) {
        rate.payload = *gpu.scale_up_measured;
        rate.spread = measured_spread;
        rate.derivation = fmt::format("{:.4g} GB/s published for {}", rate.payload.value() / 1e9, gpu.key);
        return rate;
    }
    if (!gpu.scale_up)
        throw InputError(fmt::format(
            "{} has no scale-up link in hardware.csv; use one GPU per domain or state cluster.scale_up", gpu.key));
    std::vector<double> shares;
    for (auto const& [key, other] : tables.accelerators)
        if (other.scale_up && other.scale_up_measured) shares.push_back(*other.scale_up_measured / *other.scale_up);
    if (shares.empty())
        throw InputError({tables.folder + "/hardware.csv"}, "no accelerator has a measured scale-up rate; fill one in");
    auto const share = summary(shares);
    rate.payload = *gpu.scale_up * share.median;
    rate.spread = share.spread();
    rate.derivation =
        fmt::format("{:.3f} of {:.4g} GB/s line rate: median of {} accelerators ({:.2f}-{:.2f}); not measured on {}",
                    share.median, gpu.scale_up->value() / 1e9, shares.size(), share.low, share.high, gpu.key);
    return rate;
}

LinkRate nic_rate(Tables const& tables, Bandwidth line)
{
    // The share is the network's, not the accelerator's: all exchanges count, whatever GPU sat behind the NIC.
    std::vector<double> all;
    CollRow const* first = nullptr;
    for (auto const& row : tables.collectives) {
        auto const share = nic_share(tables, row);
        if (!share) continue;
        if (first == nullptr) first = &row;
        all.push_back(*share);
    }
    if (all.empty())
        throw InputError({tables.folder + "/coll.csv"},
                         "no expert exchange across nodes (the NIC's payload follows from them); add rows");
    auto const share = summary(all);
    LinkRate rate;
    rate.payload = line * share.median;
    rate.spread = share.spread();
    rate.source = first->source;
    rate.derivation = fmt::format(
        "{:.3f} of {:.4g} GB/s line rate: median of {} expert exchanges ({:.2f}-{:.2f}), logical bandwidth x "
        "(nodes - 1)/nodes; first {}",
        share.median, line.value() / 1e9, all.size(), share.low, share.high,
        SourcePlace{std::filesystem::path{first->place.file}.filename().string(), first->place.line}.text());
    return rate;
}

} // namespace trainfare
