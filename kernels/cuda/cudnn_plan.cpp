// SPDX-License-Identifier: Apache-2.0
//
// From a graph of operations to an engine that runs it: cuDNN's heuristics propose configurations, best first; the
// first that can be built is taken.
#include <algorithm>
#include <string>

#include "kernels/backend.hpp"
#include "kernels/cuda/cudnn_graph.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::cuda {

namespace {

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

std::size_t bytes_of(CudnnGraph::Dims const& dims) // fp32
{
    return static_cast<std::size_t>(dims[0] * dims[1] * dims[2] * dims[3]) * sizeof(float);
}

template <class T>
T read(Descriptor const& from, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
    T value{};
    std::int64_t count = 0;
    check(cudnnBackendGetAttribute(from.get(), name, type, 1, &count, &value), "cudnnBackendGetAttribute");
    return value;
}

std::vector<Descriptor> read_all(Descriptor const& from, cudnnBackendAttributeName_t name,
                                 cudnnBackendDescriptorType_t type, std::int64_t at_most)
{
    std::vector<Descriptor> out;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (std::int64_t i = 0; i < at_most; ++i) raw.push_back(out.emplace_back(type).get());
    std::int64_t count = 0;
    check(cudnnBackendGetAttribute(from.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, at_most, &count, raw.data()),
          "cudnnBackendGetAttribute");
    out.erase(out.begin() + std::min(count, at_most), out.end());
    return out;
}

/// "eng6_k2=3_k24=1": the engine's number and its settings, by kind.
std::string name_of(Descriptor const& config)
{
    auto const engine = read_all(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
    auto const number = read<std::int64_t>(engine.at(0), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64);
    auto text = "eng" + std::to_string(number);
    std::vector<std::pair<int, std::int64_t>> settings;
    for (auto const& choice : read_all(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
                                       CUDNN_KNOB_TYPE_COUNTS)) {
        auto const kind = read<cudnnBackendKnobType_t>(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE);
        settings.emplace_back(kind, read<std::int64_t>(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64));
    }
    std::ranges::sort(settings);
    for (auto const& [kind, value] : settings) text += "_k" + std::to_string(kind) + "=" + std::to_string(value);
    return text;
}

} // namespace

CudnnPlan::CudnnPlan(CudnnGraph&& graph, cudnnHandle_t handle, std::string const& device_json)
    : graph_{std::move(graph)}
{
    std::vector<cudnnBackendDescriptor_t> operations;
    for (auto const& operation : graph_.operations_) operations.push_back(operation.get());
    Descriptor whole{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
    whole.set_all(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations);
    if (handle != nullptr) whole.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
    whole.finalize("cuDNN operation graph");

    Descriptor heuristics{CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR};
    heuristics.refer(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, keep(std::move(whole)));
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    if (handle == nullptr) {
        Descriptor device{CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR};
        device.set_all(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, device_json);
        device.finalize("cuDNN device description");
        heuristics.refer(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, keep(std::move(device)));
    }
    heuristics.finalize("cuDNN heuristics");
    std::int64_t proposals = 0;
    check(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                   &proposals, nullptr),
          "cuDNN heuristics");
    auto configs = read_all(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, proposals);
    keep(std::move(heuristics));

    std::string refusals;
    for (auto& config : configs) {
        try {
            take(std::move(config), handle != nullptr);
            return;
        } catch (InternalError const& refusal) { // the next one may do
            refusals += std::string{"; "} + refusal.what();
        }
    }
    throw Unsupported("cuDNN has no engine for the graph" + refusals);
}

void CudnnPlan::take(Descriptor config, bool build)
{
    auto const engine_bytes = read<std::int64_t>(config, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64);
    engine_bytes_ = static_cast<std::size_t>(std::max<std::int64_t>(engine_bytes, 0));
    engine_ = name_of(config);
    if (build) {
        auto plan = std::make_unique<Descriptor>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        plan->refer(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
        plan->finalize("cuDNN plan");
        engine_bytes_ = static_cast<std::size_t>(
            read<std::int64_t>(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64));
        plan_ = std::move(plan);
    }
    keep(std::move(config));
    workspace_bytes_ = aligned(engine_bytes_);
    for (auto const& tensor : graph_.tensors_)
        if (tensor.place == CudnnGraph::Place::workspace) workspace_bytes_ += aligned(bytes_of(tensor.dims));
}

void CudnnPlan::run(cudnnHandle_t handle, std::span<std::pair<CudnnGraph::Id, void*> const> addresses,
                    void* workspace) const
{
    if (!plan_) throw InternalError("a cuDNN plan for a device that is only described cannot run");
    std::vector<std::int64_t> ids;
    std::vector<void*> places;
    for (auto const& [id, address] : addresses) ids.push_back(id), places.push_back(address);
    auto* next = static_cast<std::byte*>(workspace) + aligned(engine_bytes_);
    for (std::size_t i = 0; i < graph_.tensors_.size(); ++i) {
        auto const& tensor = graph_.tensors_[i];
        if (tensor.place == CudnnGraph::Place::workspace) {
            ids.push_back(static_cast<std::int64_t>(i)), places.push_back(next);
            next += aligned(bytes_of(tensor.dims));
        }
        if (tensor.place == CudnnGraph::Place::by_value) {
            ids.push_back(static_cast<std::int64_t>(i));
            places.push_back(const_cast<float*>(&tensor.value)); // cuDNN only reads it
        }
    }
    Descriptor call{CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR};
    call.set_all(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
    call.set_all(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, places);
    call.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    call.finalize("cuDNN call");
    check(cudnnBackendExecute(handle, plan_->get(), call.get()), "cudnnBackendExecute");
}

} // namespace trainfare::kernels::cuda
