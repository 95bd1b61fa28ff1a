// SPDX-License-Identifier: Apache-2.0
//
// [cluster] -> Cluster. Rules between keys are check_cluster's; here each key must only make sense by itself.
#include "scenarios/scenario_sections.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "calibrate/collectives.hpp"
#include "model/text_units.hpp"

namespace trainfare {

namespace {

auto bandwidth(std::string_view text) { return parse_bandwidth(text); }
auto seconds(std::string_view text) { return parse_seconds(text); }
void read_rates(TableReader& in, Tables const& tables, Cluster& c)
{
    if (auto const written = in.quantity("nvlink", bandwidth, "\"160 GB/s\"")) {
        c.scale_up = *written;
        c.provenance.push_back(
            fmt::format("NVLink payload {} a direction and GPU: given in the scenario", format(c.scale_up)));
    } else if (c.gpu.scale_up) {
        auto const rate = scale_up_rate(tables, c.gpu);
        c.scale_up = rate.payload;
        in.note_as("nvlink", fmt::format("\"{}\"", format(c.scale_up)), "hardware.csv and coll.csv");
        c.provenance.push_back(rate.derivation);
    } else {
        in.fail("nvlink", fmt::format("is missing (hardware.csv gives no NVLink rate of {})", c.gpu.key),
                "nvlink = \"160 GB/s\"");
    }

    auto const line = in.quantity("nic", bandwidth, "\"400 Gb/s\"");
    if (!line && !c.gpu.nic)
        in.fail("nic", fmt::format("is missing (hardware.csv gives no NIC of {})", c.gpu.key), "nic = \"400 Gb/s\"");
    if (!line)
        in.note_as("nic", fmt::format("\"{} Gb/s\"", c.gpu.nic->value() / units::Gbitps.value()), "hardware.csv");
    auto const rate = nic_rate(tables, line ? *line : *c.gpu.nic);
    c.nic = rate.payload;
    c.provenance.push_back(rate.derivation);
}

} // namespace

std::vector<Setting> tables_of(TableReader& in, std::string const& key)
{
    auto const* list = in.find(key);
    if (!list) return {};
    if (list->kind != Setting::Kind::array) in.fail(key, "is not a list of tables", fmt::format("[[...{}]]", key));
    if (list->items.size() > 10'000) in.fail(key, "has more than 10,000 entries");
    return list->items;
}

Accelerator read_accelerator(TableReader& in, std::string const& key, Tables const& tables, std::string const& hint)
{
    auto const name = in.text(key, {}, hint);
    try {
        return tables.accelerator(name);
    } catch (InputError const& error) {
        in.fail(key, fmt::format("= \"{}\": {}", name.substr(0, 60), error.what()));
    }
}

Cluster read_cluster(TableReader& in, Tables const& tables, TableReader::Log& log)
{
    Cluster c;
    c.gpu = read_accelerator(in, "gpu", tables, "gpu = \"H800-SXM\" (a row of hardware.csv)");
    c.gpus = in.whole("gpus", {}, 1, max_gpus, "gpus = 2048");
    c.gpus_per_node = in.whole("gpus_per_node", c.gpus_per_node, 1, max_gpus);
    c.domain = in.whole("domain", std::min(c.gpu.scale_up_gpus, c.gpus), 1, max_gpus);
    read_rates(in, tables, c);
    c.fabric = in.choice("fabric", c.fabric, fabric_from, 3);
    c.nodes_per_leaf = in.whole("nodes_per_leaf", c.nodes_per_leaf, 1, max_gpus);
    c.oversubscription = in.number("oversubscription", c.oversubscription, 1, 1000, "oversubscription = 1");
    c.placement = in.choice("placement", c.placement, placement_from, 2);
    if (auto const t = in.quantity("nvlink_latency", seconds, "\"3.3 us\""))
        c.scale_up_latency = *t;
    else
        in.note("nvlink_latency", fmt::format("\"{}\"", format(c.scale_up_latency)), nullptr);
    if (auto const t = in.quantity("nic_latency", seconds, "\"3.7 us\""))
        c.nic_latency = *t;
    else
        in.note("nic_latency", fmt::format("\"{}\"", format(c.nic_latency)), nullptr);
    c.pue = in.number("pue", c.pue, 1, 10, "pue = 1.3");
    c.node_overhead = in.number("node_overhead", c.node_overhead, 0, 10, "node_overhead = 0.5");
    auto const faults = tables_of(in, "fault");
    for (std::size_t i = 0; i < faults.size(); ++i) {
        TableReader one{&faults[i], fmt::format("cluster.fault.{}", i), log};
        Fault fault{};
        if (!one.find("kind")) one.text("kind", {}, "kind = \"slow_nic\"");
        fault.kind = one.choice("kind", Fault::Kind::slow_nic, fault_from, 5);
        fault.index = one.whole("index", {}, 0, max_gpus, "index = 0 (a GPU, or a plane)");
        fault.factor = one.number("factor", 1.0, 0, 1, "factor = 0.5");
        one.finish();
        c.faults.push_back(fault);
    }
    in.finish();
    return c;
}

} // namespace trainfare
