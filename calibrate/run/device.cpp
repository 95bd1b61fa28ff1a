// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/device.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>

#include <fmt/format.h>

namespace trainfare::measure {

namespace {

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

struct Look {
    DeviceFacts const& facts;
    std::string name = lower(facts.name);

    [[nodiscard]] bool says(char const* word) const { return name.find(word) != std::string::npos; }
    /// Memory as sold: what is reported lies up to 8 % below (ECC, firmware) or 8 % above (GB against GiB).
    [[nodiscard]] bool memory(double gb) const { return std::abs(facts.memory_bytes / (gb * 1e9) - 1) < 0.08; }
    /// Links decide; where they are not known or none is active, the name.
    [[nodiscard]] bool cut(int cut_links, char const* cut_name) const
    {
        auto const links = facts.nvlinks.value_or(0);
        return links > 0 ? links <= cut_links : says(cut_name);
    }
};

Recognised found(std::string key, std::string reason) { return {std::move(key), std::move(reason)}; }

Recognised hopper(Look const& d)
{
    int const sms = d.facts.sms;
    auto const links = d.facts.nvlinks.value_or(0);
    if (d.says("gh200")) return found("GH200", "name");
    if (d.says(" nvl")) return found("", "an H100 NVL or H200 NVL (other memory and power than the SXM parts)");
    if (sms == 78)
        return d.memory(96) ? found("H20-96G", "78 SMs") : found("", "78 SMs are an H20, but not with 96 GB");
    if (sms == 114 && d.memory(80)) {
        if (links > 0 ? links <= 8 && d.says("h800") : d.says("h800"))
            return found("H800-PCIe", "114 SMs and the name");
        return found("H100-PCIe", "114 SMs");
    }
    if (sms != 132) return found("", "no Hopper part has that many SMs (a MIG slice, perhaps: measure the whole GPU)");
    if (d.memory(141)) return found("H200-SXM", "132 SMs and 141 GB");
    if (d.memory(96)) return found("H100-96G-500W", "132 SMs and 96 GB");
    if (!d.memory(80)) return found("", "132 SMs, but no such part has that much memory");
    if (links > 0 && links <= 8 && d.says("h100"))
        return found("", "the name says H100, but only 8 NVLinks are active (an H800 has 8, an H100 18)");
    if (links > 8 && d.says("h800")) return found("", "the name says H800, but more than 8 NVLinks are active");
    if (d.cut(8, "h800")) return found("H800-SXM", links > 0 ? "132 SMs and 8 NVLinks" : "132 SMs and the name");
    return found("H100-SXM",
                 links > 0 ? "132 SMs and more than 8 NVLinks" : "132 SMs and the name; NVLinks not visible");
}

Recognised ampere(Look const& d)
{
    if (d.says("a6000")) return found("RTX-A6000", "name");
    if (d.facts.sms != 108) return found("", "no A100 has that many SMs (a MIG slice, perhaps: measure the whole GPU)");
    if (d.says("pcie"))
        return d.memory(80) ? found("A100-PCIe", "108 SMs and the name") : found("", "an A100 PCIe without 80 GB");
    if (d.memory(40)) return found("A100-40G-SXM", "108 SMs and 40 GB");
    if (!d.memory(80)) return found("", "108 SMs, but neither 40 nor 80 GB");
    return d.cut(8, "a800") ? found("A800-80G-SXM", "108 SMs, 80 GB and 8 NVLinks or the name")
                            : found("A100-80G-SXM", "108 SMs and 80 GB");
}

Recognised ada(Look const& d)
{
    if (d.says("l40s")) return found("L40S", "name");
    if (d.says("l20")) return found("L20", "name");
    if (d.says("4090 d")) return found("RTX-4090D", "name");
    if (d.says("4090")) return found("RTX-4090", "name");
    return found("", "an Ada part that is not in hardware.csv");
}

Recognised blackwell(Look const& d)
{
    bool const ultra = d.facts.minor == 3;
    if (d.says("gb300")) return found("GB300-NVL72", "name");
    if (d.says("gb200")) return found("GB200-NVL72", "name");
    if (d.says("b300") || ultra) return found("B300-SXM", "name or compute capability 10.3");
    if (d.says("b200")) return found("B200-SXM", "name");
    if (d.says("b100")) return found("B100", "name");
    return found("", "a Blackwell part that is not in hardware.csv");
}

} // namespace

Recognised recognise(DeviceFacts const& facts)
{
    Look const d{facts};
    if (facts.major == 9) return hopper(d);
    if (facts.major == 8) return facts.minor == 9 ? ada(d) : ampere(d);
    if (facts.major == 10) return blackwell(d);
    return found("", "no known part has that compute capability");
}

std::string in_words(DeviceFacts const& d)
{
    return fmt::format("{}, {} SMs, {:.1f} GB, compute capability {}.{}, {}", d.name, d.sms, d.memory_bytes / 1e9,
                       d.major, d.minor, d.nvlinks ? fmt::format("{} NVLinks", *d.nvlinks) : "NVLinks not known");
}

std::string accelerator_for(DeviceFacts const& facts, std::string const& claim, Tables const& tables)
{
    auto const seen = recognise(facts);
    auto const device = in_words(facts);
    if (claim.empty()) {
        if (seen.accelerator.empty())
            throw InputError(fmt::format(
                "the device is not recognised: {} ({}); add it to hardware.csv and name it with --accelerator", device,
                seen.reason));
        return seen.accelerator;
    }
    auto const& row = tables.accelerator(claim); // @throws where there is none
    auto const contradiction = [&]() -> std::string {
        if (!seen.accelerator.empty() && seen.accelerator != claim)
            return fmt::format("it is recognised as {} by {}", seen.accelerator, seen.reason);
        if (row.sms && *row.sms != facts.sms) return fmt::format("{} has {} SMs", claim, *row.sms);
        if (std::abs(facts.memory_bytes / row.memory.value() - 1) > 0.08)
            return fmt::format("{} has {:.0f} GB", claim, row.memory.value() / 1e9);
        if (seen.accelerator.empty() && facts.major == 9) return seen.reason; // a Hopper part that contradicts itself
        return {};
    }();
    if (!contradiction.empty())
        throw InputError(fmt::format(
            "--accelerator {} does not fit the device: {}; {} (rows would be used for the wrong part); drop "
            "--accelerator or correct it",
            claim, device, contradiction));
    return claim;
}

} // namespace trainfare::measure
