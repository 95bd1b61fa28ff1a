// SPDX-License-Identifier: Apache-2.0
//
// Descriptors and graphs of cuDNN's back-end API. Which attribute means what: cudnn_graph.h.
#include "kernels/cuda/cudnn_graph.hpp"

#include <limits>

#include "kernels/backend.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::cuda {

namespace {

using Dims = CudnnGraph::Dims;

Dims packed(Dims const& d) { return {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1}; }

} // namespace

void check(cudnnStatus_t status, char const* what)
{
    if (status == CUDNN_STATUS_SUCCESS) return;
    std::array<char, 1024> words{};
    cudnnGetLastErrorString(words.data(), words.size());
    auto const text = std::string{what} + ": " + cudnnGetErrorString(status) + (words[0] ? ": " : "") + words.data();
    if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) throw Unsupported(text);
    throw InternalError(text);
}

// --- descriptors --------------------------------------------------------------------------------------------------

Descriptor::Descriptor(cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t made = nullptr;
    check(cudnnBackendCreateDescriptor(type, &made), "cudnnBackendCreateDescriptor");
    handle_.reset(made);
}

void Descriptor::Destroy::operator()(cudnnBackendDescriptor_t descriptor) const
{
    static_cast<void>(cudnnBackendDestroyDescriptor(descriptor)); // nothing can be done about a failure here
}

void Descriptor::set_raw(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                         void const* values)
{
    check(cudnnBackendSetAttribute(get(), name, type, count, values), "cudnnBackendSetAttribute");
}

void Descriptor::refer(cudnnBackendAttributeName_t name, Descriptor const& to)
{
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, to.get());
}

void Descriptor::finalize(char const* what) { check(cudnnBackendFinalize(get()), what); }

// --- tensors ------------------------------------------------------------------------------------------------------

CudnnGraph::Id CudnnGraph::add(Place place, cudnnDataType_t type, Dims const& dims, Dims const& strides, float value)
{
    Descriptor made{CUDNN_BACKEND_TENSOR_DESCRIPTOR};
    auto const id = static_cast<Id>(tensors_.size());
    made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
    made.set_all(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims);
    made.set_all(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides);
    made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
    made.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16});
    made.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, place == Place::passing);
    made.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, place == Place::by_value);
    made.finalize("cuDNN tensor");
    tensors_.push_back({place, dims, strides, value, std::move(made)});
    return id;
}

CudnnGraph::Id CudnnGraph::bound(cudnnDataType_t type, Dims const& dims, Dims const& strides)
{
    return add(Place::bound, type, dims, strides);
}

CudnnGraph::Id CudnnGraph::workspace(Dims const& dims)
{
    return add(Place::workspace, CUDNN_DATA_FLOAT, dims, packed(dims));
}

CudnnGraph::Id CudnnGraph::passing(cudnnDataType_t type, Dims const& dims, Dims const& strides)
{
    return add(Place::passing, type, dims, strides);
}

CudnnGraph::Id CudnnGraph::passing(cudnnDataType_t type, Dims const& dims) { return passing(type, dims, packed(dims)); }

CudnnGraph::Id CudnnGraph::number(float value)
{
    return add(Place::by_value, CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, value);
}

// --- operations ---------------------------------------------------------------------------------------------------

void CudnnGraph::product(Id a, Id b, Id to)
{
    auto& kind = parts_.emplace_back(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    kind.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    kind.finalize("cuDNN matrix product");
    auto& made = operations_.emplace_back(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    made.refer(CUDNN_ATTR_OPERATION_MATMUL_DESC, kind);
    made.refer(CUDNN_ATTR_OPERATION_MATMUL_ADESC, at(a));
    made.refer(CUDNN_ATTR_OPERATION_MATMUL_BDESC, at(b));
    made.refer(CUDNN_ATTR_OPERATION_MATMUL_CDESC, at(to));
    made.finalize("cuDNN matrix product");
}

// The caller adds further inputs, then finalizes.
Descriptor& CudnnGraph::pointwise(cudnnPointwiseMode_t mode, cudnnDataType_t compute, Id x, Id to,
                                  std::optional<std::int64_t> axis)
{
    auto& kind = parts_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    kind.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
    kind.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, compute);
    if (axis) kind.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, *axis);
    kind.finalize("cuDNN pointwise operation");
    auto& made = operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    made.refer(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
    made.refer(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, at(x));
    made.refer(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(to));
    return made;
}

void CudnnGraph::point(cudnnPointwiseMode_t mode, Id x, Id to)
{
    pointwise(mode, CUDNN_DATA_FLOAT, x, to).finalize("cuDNN pointwise operation");
}

void CudnnGraph::point(cudnnPointwiseMode_t mode, Id x, Id b, Id to)
{
    auto& made = pointwise(mode, CUDNN_DATA_FLOAT, x, to);
    made.refer(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(b));
    made.finalize("cuDNN pointwise operation");
}

CudnnGraph::Id CudnnGraph::point_new(cudnnPointwiseMode_t mode, Id x)
{
    auto const to = passing(CUDNN_DATA_FLOAT, dims(x));
    point(mode, x, to);
    return to;
}

CudnnGraph::Id CudnnGraph::point_new(cudnnPointwiseMode_t mode, Id x, Id b)
{
    auto const to = passing(CUDNN_DATA_FLOAT, dims(x));
    point(mode, x, b, to);
    return to;
}

CudnnGraph::Id CudnnGraph::causal(Id scores)
{
    auto const hidden = number(-std::numeric_limits<float>::infinity());
    auto const row = passing(CUDNN_DATA_INT32, dims(scores)), column = passing(CUDNN_DATA_INT32, dims(scores));
    pointwise(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, scores, row, 2).finalize("cuDNN index");
    pointwise(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, scores, column, 3).finalize("cuDNN index");
    auto const seen = passing(CUDNN_DATA_BOOLEAN, dims(scores));
    auto& compare = pointwise(CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, row, seen);
    compare.refer(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(column));
    compare.finalize("cuDNN comparison");
    auto const masked = passing(CUDNN_DATA_FLOAT, dims(scores));
    auto& select = pointwise(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, scores, masked); // seen ? scores : hidden
    select.refer(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, at(hidden));
    select.refer(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, at(seen));
    select.finalize("cuDNN selection");
    return masked;
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t operation, Id x, Id to)
{
    auto& kind = parts_.emplace_back(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    kind.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, operation);
    kind.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    kind.finalize("cuDNN reduction");
    auto& made = operations_.emplace_back(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    made.refer(CUDNN_ATTR_OPERATION_REDUCTION_DESC, kind);
    made.refer(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(x));
    made.refer(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(to));
    made.finalize("cuDNN reduction");
}

void CudnnGraph::view(Id x, Id to)
{
    auto& made = operations_.emplace_back(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    made.refer(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, at(x));
    made.refer(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, at(to));
    made.finalize("cuDNN reshape");
}

} // namespace trainfare::kernels::cuda
