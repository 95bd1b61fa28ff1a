// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/nvml.hpp"

#include <dlfcn.h>

namespace trainfare::measure {

namespace {

// From NVIDIA's NVML API reference: every call returns 0 on success; a device is an opaque pointer.
using Device = void*;
constexpr int clock_sm = 1;         // NVML_CLOCK_SM
constexpr int temperature_gpu = 0;  // NVML_TEMPERATURE_GPU
constexpr unsigned most_links = 18; // NVML_NVLINK_MAX_LINKS

} // namespace

struct Nvml::State {
    void* library = nullptr;
    Device device = nullptr;

    template <class Function>
    [[nodiscard]] Function* call(char const* name) const
    {
        return reinterpret_cast<Function*>(::dlsym(library, name));
    }

    /// The number that a call with this one result gives.
    template <class Number, class... Arguments>
    [[nodiscard]] std::optional<Number> read(char const* name, Arguments... arguments) const
    {
        auto* const function = call<int(Device, Arguments..., Number*)>(name);
        Number value{};
        if (function == nullptr || function(device, arguments..., &value) != 0) return {};
        return value;
    }

    State() = default;
    State(State const&) = delete;
    State& operator=(State const&) = delete;
    ~State()
    {
        if (library == nullptr) return;
        if (auto* const shutdown = call<int()>("nvmlShutdown")) static_cast<void>(shutdown());
        static_cast<void>(::dlclose(library));
    }
};

std::unique_ptr<Nvml> Nvml::open(std::string const& bus_address)
{
    auto state = std::make_unique<State>();
    state->library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (state->library == nullptr) return nullptr;
    auto* const init = state->call<int()>("nvmlInit_v2");
    auto* const by_bus = state->call<int(char const*, Device*)>("nvmlDeviceGetHandleByPciBusId_v2");
    if (init == nullptr || by_bus == nullptr || init() != 0) return nullptr;
    if (by_bus(bus_address.c_str(), &state->device) != 0) return nullptr;
    return std::unique_ptr<Nvml>(new Nvml{std::move(state)});
}

Nvml::Nvml(std::unique_ptr<State> state) : state_{std::move(state)} {}
Nvml::~Nvml() = default;

Sample Nvml::sample() const
{
    Sample s;
    if (auto const mhz = state_->read<unsigned>("nvmlDeviceGetClockInfo", clock_sm)) s.clk_sm_mhz = *mhz;
    if (auto const mw = state_->read<unsigned>("nvmlDeviceGetPowerUsage")) s.power_w = *mw / 1e3;
    if (auto const celsius = state_->read<unsigned>("nvmlDeviceGetTemperature", temperature_gpu)) s.temp_c = *celsius;
    s.throttle_mask = state_->read<unsigned long long>("nvmlDeviceGetCurrentClocksThrottleReasons");
    return s;
}

std::optional<int> Nvml::nvlinks() const
{
    int active = 0;
    bool any = false;
    for (unsigned link = 0; link < most_links; ++link)
        if (auto const on = state_->read<int>("nvmlDeviceGetNvLinkState", link)) any = true, active += *on == 1;
    return any ? std::optional{active} : std::nullopt;
}

std::optional<bool> Nvml::ecc() const
{
    auto* const function = state_->call<int(Device, int*, int*)>("nvmlDeviceGetEccMode");
    int current = 0, pending = 0;
    if (function == nullptr || function(state_->device, &current, &pending) != 0) return {};
    return current == 1;
}

std::optional<double> Nvml::power_limit_w() const
{
    auto const mw = state_->read<unsigned>("nvmlDeviceGetEnforcedPowerLimit");
    return mw ? std::optional{*mw / 1e3} : std::nullopt;
}

std::string Nvml::driver() const
{
    char text[96] = {};
    auto* const function = state_->call<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
    if (function == nullptr || function(text, sizeof text - 1) != 0) return {};
    return text;
}

} // namespace trainfare::measure
