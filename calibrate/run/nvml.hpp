// SPDX-License-Identifier: Apache-2.0
//
// The few calls of NVIDIA's management library that we use, loaded at run time: the toolkit ships neither header nor
// stub. It only reads; nothing is ever set.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace trainfare::measure {

struct Sample {
    std::optional<double> clk_sm_mhz, power_w, temp_c;
    std::optional<unsigned long long> throttle_mask; // nvmlClocksThrottleReasons
};

class Nvml {
public:
    /// Null where there is no library, no driver or no such device.
    static std::unique_ptr<Nvml> open(std::string const& bus_address);
    ~Nvml();
    Nvml(Nvml const&) = delete;
    Nvml& operator=(Nvml const&) = delete;

    [[nodiscard]] Sample sample() const;
    [[nodiscard]] std::optional<int> nvlinks() const; // active
    [[nodiscard]] std::optional<bool> ecc() const;
    [[nodiscard]] std::optional<double> power_limit_w() const;
    [[nodiscard]] std::string driver() const;

private:
    struct State;
    explicit Nvml(std::unique_ptr<State>);
    std::unique_ptr<State> state_;
};

} // namespace trainfare::measure
