// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/device.hpp"

#include "calibrate/run/telemetry.hpp"
#include "tests/catch.hpp"

namespace trainfare::measure {

namespace {

DeviceFacts facts(char const* name, int sms, double gb, int major, int minor, std::optional<int> links = {})
{
    DeviceFacts d;
    d.name = name, d.sms = sms, d.memory_bytes = gb * 1e9, d.major = major, d.minor = minor, d.nvlinks = links;
    return d;
}

} // namespace

TEST_CASE("a part is recognised by SMs, memory and links, and by its name where these leave a choice")
{
    auto const [d, key] = GENERATE(table<DeviceFacts, char const*>({
        {facts("NVIDIA H100 80GB HBM3", 132, 85.0, 9, 0, 18), "H100-SXM"},
        {facts("NVIDIA H100 80GB HBM3", 132, 85.0, 9, 0), "H100-SXM"},
        {facts("NVIDIA H100 80GB HBM3", 132, 85.0, 9, 0, 0), "H100-SXM"}, // passed through to a virtual machine
        {facts("NVIDIA H800", 132, 85.0, 9, 0, 8), "H800-SXM"},
        {facts("NVIDIA H800", 132, 85.0, 9, 0), "H800-SXM"},
        {facts("NVIDIA Graphics Device", 132, 85.0, 9, 0, 8), "H800-SXM"}, // the links say it
        {facts("NVIDIA H100 80GB HBM3", 132, 85.0, 9, 0, 8), ""},          // name and links contradict each other
        {facts("NVIDIA H800", 132, 85.0, 9, 0, 18), ""},
        {facts("NVIDIA H20", 78, 102.6, 9, 0, 18), "H20-96G"},
        {facts("NVIDIA H20-3e", 78, 150.7, 9, 0, 18), ""},
        {facts("NVIDIA H200", 132, 150.7, 9, 0, 18), "H200-SXM"},
        {facts("NVIDIA H100 PCIe", 114, 85.0, 9, 0), "H100-PCIe"},
        {facts("NVIDIA H800 PCIe", 114, 85.0, 9, 0), "H800-PCIe"},
        {facts("NVIDIA H100 NVL", 132, 100.5, 9, 0, 18), ""},
        {facts("NVIDIA GH200 480GB", 132, 102.0, 9, 0, 18), "GH200"},
        {facts("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 16, 10.0, 9, 0), ""},
        {facts("NVIDIA A100-SXM4-80GB", 108, 85.0, 8, 0, 12), "A100-80G-SXM"},
        {facts("NVIDIA A800-SXM4-80GB", 108, 85.0, 8, 0, 8), "A800-80G-SXM"},
        {facts("NVIDIA A100-SXM4-40GB", 108, 42.4, 8, 0, 12), "A100-40G-SXM"},
        {facts("NVIDIA A100 80GB PCIe", 108, 85.0, 8, 0), "A100-PCIe"},
        {facts("NVIDIA L40S", 142, 47.8, 8, 9), "L40S"},
        {facts("NVIDIA B200", 148, 191.0, 10, 0, 18), "B200-SXM"},
        {facts("NVIDIA GB200", 152, 197.0, 10, 0, 18), "GB200-NVL72"},
        {facts("Tesla V100-SXM2-32GB", 80, 34.1, 7, 0, 6), ""},
    }));
    INFO(in_words(d));
    auto const seen = recognise(d);
    CHECK(seen.accelerator == key);
    CHECK(!seen.reason.empty());
}

TEST_CASE("a claim must fit what the device reports")
{
    auto const tables = load_tables(TRAINFARE_SOURCE_DIR "/calibrate/tables");
    auto const h100 = facts("NVIDIA H100 80GB HBM3", 132, 85.0, 9, 0, 18);
    CHECK(accelerator_for(h100, "", tables) == "H100-SXM");
    CHECK(accelerator_for(h100, "H100-SXM", tables) == "H100-SXM");
    CHECK_THROWS_WITH(accelerator_for(h100, "H800-SXM", tables), Catch::Contains("recognised as H100-SXM"));
    CHECK_THROWS_AS(accelerator_for(h100, "H1000", tables), InputError);
    auto const cut = facts("NVIDIA H100 80GB HBM3", 132, 85.0, 9, 0, 8);
    CHECK_THROWS_WITH(accelerator_for(cut, "", tables),
                      Catch::Contains("not recognised") && Catch::Contains("8 NVLinks"));
    CHECK_THROWS_AS(accelerator_for(cut, "H100-SXM", tables), InputError);
}

TEST_CASE("a line of nvidia-smi is read field by field, and what it does not know is absent")
{
    auto const s = parse_smi("1755, 412.31, 54, 0x0000000000000004\n");
    CHECK(s.clk_sm_mhz == 1755);
    CHECK(s.power_w == 412.31);
    CHECK(s.temp_c == 54);
    CHECK(s.throttle_mask == 4U);
    auto const unknown = parse_smi("[N/A], , [Not Supported]");
    CHECK(!unknown.clk_sm_mhz);
    CHECK(!unknown.power_w);
    CHECK(!unknown.temp_c);
    CHECK(!unknown.throttle_mask);
}

} // namespace trainfare::measure
