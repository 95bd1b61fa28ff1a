// SPDX-License-Identifier: Apache-2.0
//
// cuDNN's graph interface in C, made bearable: tensors and operations are put into a graph by one call each; cuDNN's
// heuristics then choose an engine that runs all of it as one plan. Only what attention needs. Reference: cudnn_graph.h
// and cuDNN's "Graph API".
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace trainfare::kernels::cuda {

/// @throws Unsupported where cuDNN says "not supported", InternalError for any other failure, with cuDNN's own words.
void check(cudnnStatus_t, char const* what);

/// A back-end descriptor, destroyed with its owner.
class Descriptor {
public:
    explicit Descriptor(cudnnBackendDescriptorType_t);

    template <class T>
    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T const& value)
    {
        set_raw(name, type, 1, &value);
    }
    template <class Range>
    void set_all(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, Range const& values)
    {
        set_raw(name, type, static_cast<std::int64_t>(values.size()), values.data());
    }
    void refer(cudnnBackendAttributeName_t name, Descriptor const& to);
    /// @p what names it in the message of a refusal.
    void finalize(char const* what);

    [[nodiscard]] cudnnBackendDescriptor_t get() const { return handle_.get(); }

private:
    void set_raw(cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, std::int64_t count, void const* values);

    struct Destroy {
        void operator()(cudnnBackendDescriptor_t) const;
    };
    std::unique_ptr<void, Destroy> handle_;
};

/// Operations on tensors of four dimensions. A tensor is named by its number, which is also cuDNN's "unique id".
/// Operations compute in fp32. One that is not told where its result goes returns a new tensor: fp32, shaped like its
/// first input, never in memory.
class CudnnGraph {
public:
    using Id = std::int64_t;
    using Dims = std::array<std::int64_t, 4>;

    Id bound(cudnnDataType_t, Dims const& dims, Dims const& strides);   // its address is given at each run
    Id workspace(Dims const& dims);                                     // fp32, packed, somewhere in the workspace
    Id passing(cudnnDataType_t, Dims const& dims, Dims const& strides); // from operation to operation, never in memory
    Id passing(cudnnDataType_t, Dims const& dims);                      // packed
    Id number(float value);

    void product(Id a, Id b, Id to); // of the last two dimensions; heads of a may share one of b
    void point(cudnnPointwiseMode_t, Id x, Id to);
    void point(cudnnPointwiseMode_t, Id x, Id b, Id to); // b is repeated along dimensions of length 1
    Id point_new(cudnnPointwiseMode_t, Id x);
    Id point_new(cudnnPointwiseMode_t, Id x, Id b);
    Id causal(Id scores);                            // minus infinity where column > row
    void reduce(cudnnReduceTensorOp_t, Id x, Id to); // along dimensions that are shorter in `to`
    void view(Id x, Id to);                          // the same elements under other dimensions or strides

    [[nodiscard]] Dims const& dims(Id id) const { return tensors_[static_cast<std::size_t>(id)].dims; }
    [[nodiscard]] Dims const& strides(Id id) const { return tensors_[static_cast<std::size_t>(id)].strides; }

private:
    friend class CudnnPlan;

    enum class Place : std::uint8_t { bound, workspace, passing, by_value };
    struct Entry {
        Place place;
        Dims dims, strides;
        float value;
        Descriptor descriptor;
    };

    Id add(Place, cudnnDataType_t, Dims const&, Dims const&, float value = 0);
    [[nodiscard]] Descriptor const& at(Id id) const { return tensors_[static_cast<std::size_t>(id)].descriptor; }
    Descriptor& pointwise(cudnnPointwiseMode_t, cudnnDataType_t compute, Id x, Id to,
                          std::optional<std::int64_t> axis = {});

    std::deque<Entry> tensors_; // addresses of entries stay: cuDNN reads the values of numbers there
    std::deque<Descriptor> parts_;
    std::deque<Descriptor> operations_;
};

/// A graph with the engine that cuDNN's heuristics rank first among those that work.
class CudnnPlan {
public:
    /// @p handle names the device. Without one, @p device_json describes it: then an engine is chosen and checked, but
    /// cannot run. @throws Unsupported where cuDNN has no engine for the graph.
    CudnnPlan(CudnnGraph&& graph, cudnnHandle_t handle, std::string const& device_json);

    [[nodiscard]] std::size_t workspace_bytes() const { return workspace_bytes_; }
    [[nodiscard]] std::string const& engine() const { return engine_; }
    /// @p addresses: of every bound tensor.
    void run(cudnnHandle_t handle, std::span<std::pair<CudnnGraph::Id, void*> const> addresses, void* workspace) const;

private:
    Descriptor const& keep(Descriptor made) { return kept_.emplace_back(std::move(made)); }
    void take(Descriptor config, bool build);

    CudnnGraph graph_;
    std::deque<Descriptor> kept_; // what the plan was made from
    std::unique_ptr<Descriptor> plan_;
    std::string engine_;
    std::size_t engine_bytes_ = 0; // the engine's part of the workspace, first; the graph's own tensors follow
    std::size_t workspace_bytes_ = 0;
};

} // namespace trainfare::kernels::cuda
