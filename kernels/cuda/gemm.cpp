// SPDX-License-Identifier: Apache-2.0
//
// Matrix products by cuBLASLt. It thinks in columns, so c = a b becomes c' = b' a' on the same memory: its input "A" is
// our b. Form::nt is then its "transposed x plain", the only form that it has for FP8 on Hopper, and the layouts of
// scales it asks for (cuBLAS documentation, section 3.1.4.5.1) are those of kernels/tensor.hpp. Fast accumulation stays
// off, which is the default: it would sum in fewer bits than the scales of blocks are worth.
#include "kernels/cuda/gemm.hpp"

#include <algorithm>
#include <compare>
#include <functional>
#include <limits>
#include <map>
#include <vector>

#include "kernels/cuda/cublaslt.hpp"
#include "kernels/product.hpp"

namespace trainfare::kernels {

namespace cuda {
namespace {

/// Everything that cuBLASLt's choice of an algorithm may depend on.
struct Shape {
    struct Matrix {
        Element element;
        Scaling scaling;
        std::int64_t rows, cols, pitch;
        std::uint32_t alignment;
        auto operator<=>(Matrix const&) const = default;
    };
    Matrix c, a, b;
    Form form;
    bool accumulate;
    std::int32_t sms; // 0: all
    std::size_t workspace;
    auto operator<=>(Shape const&) const = default;
};

/// What lives as long as the back-end.
struct Gemm {
    lt::Library library = lt::make_library();
    std::map<Shape, cublasLtMatmulAlgo_t> chosen;
    bool tune = false;
};

Gemm& gemm_of(Runtime& runtime)
{
    if (!runtime.gemm) runtime.gemm = std::make_shared<Gemm>();
    return *static_cast<Gemm*>(runtime.gemm.get());
}

/// Largest power of two, at most 256, that divides the address.
std::uint32_t alignment_of(Tensor const& t)
{
    auto const bits = reinterpret_cast<std::uintptr_t>(t.data) | 256U;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
}

Shape shape_of(Runtime const& runtime, Product const& product, std::size_t workspace)
{
    auto const matrix = [](Operand const& x) {
        Tensor const& t = x.values;
        return Shape::Matrix{t.element, x.scaling, t.rows, t.cols, t.pitch, alignment_of(t)};
    };
    return {matrix(product.c),  matrix(product.a), matrix(product.b), product.form,
            product.accumulate, runtime.sm_limit,  workspace};
}

[[noreturn]] void refuse(Product const& product, char const* why)
{
    throw Unsupported(in_words("product", product.c, product.a, product.b, product.form) + ": " + why);
}

/// What the documentation demands of scaled FP8 (sections 3.1.4.5.1 and, for the sixteen bytes, 2.1.11). Not all of it
/// is checked by the library: some layouts that it does not know give wrong numbers without an error.
void check_quantised(Product const& product)
{
    auto const sixteen = [](std::int64_t count, Tensor const& t) {
        return count * static_cast<std::int64_t>(t.bytes_each) % 16 == 0;
    };
    auto const aligned = [](Operand const& x) { return alignment_of(x.values) >= 16 && alignment_of(x.scales) >= 16; };
    if (product.a.scaling == Scaling::block128 && product.b.scaling == Scaling::block128)
        refuse(product, "cuBLASLt multiplies no two block128 operands; quantise one as vector128");
    if (product.c.rows % 4 != 0 || !sixteen(product.c.cols, product.c) || !sixteen(product.c.pitch, product.c) ||
        !sixteen(product.a.values.cols, product.a.values))
        refuse(product, "cuBLASLt wants FP8 rows in fours, and rows of every matrix in multiples of 16 bytes");
    if (!aligned(product.a) || !aligned(product.b) || alignment_of(product.c) < 16)
        refuse(product, "cuBLASLt wants FP8 numbers and scales at multiples of 16 bytes");
}

lt::Operation operation_of(Runtime const& runtime, Product const& product)
{
    lt::Operation operation = lt::make_operation();
    lt::set(operation, CUBLASLT_MATMUL_DESC_TRANSA, product.form == Form::nt ? CUBLAS_OP_T : CUBLAS_OP_N);
    lt::set(operation, CUBLASLT_MATMUL_DESC_TRANSB, product.form == Form::tn ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (runtime.sm_limit > 0) lt::set(operation, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, std::int32_t{runtime.sm_limit});
    if (product.a.scaling == Scaling::none) return operation;
    auto const mode = [](Operand const& x) {
        return x.scaling == Scaling::vector128 ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F
                                               : CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
    };
    lt::set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode(product.b));
    lt::set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode(product.a));
    lt::set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, product.b.scales.data);
    lt::set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.a.scales.data);
    return operation;
}

/// A product as cuBLASLt sees it.
struct Call {
    Gemm const& gemm;
    Product const& product;
    cudaStream_t stream;
    Workspace workspace;
    lt::Operation operation;
    lt::Layout a = lt::make_layout(product.a.values), b = lt::make_layout(product.b.values),
               c = lt::make_layout(product.c);

    /// @p to: product.c's memory, or as much elsewhere.
    [[nodiscard]] cublasStatus_t run(cublasLtMatmulAlgo_t const& algorithm, void* to) const
    {
        float const one = 1, beta = product.accumulate ? 1.0F : 0.0F;
        return cublasLtMatmul(gemm.library.get(), operation.get(), &one, product.b.values.data, b.get(),
                              product.a.values.data, a.get(), &beta, product.c.data, c.get(), to, c.get(), &algorithm,
                              workspace.data, workspace.bytes, stream);
    }
};

/// The library's proposals, best first by its own estimate; not empty.
std::vector<cublasLtMatmulAlgo_t> candidates(Call const& call, Shape const& shape)
{
    constexpr int wanted = 8;
    lt::Preference const preference = lt::make_preference();
    lt::set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{shape.workspace});
    // Parts of a sum are added in fp32, never in c's bf16.
    lt::set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}); // and those that split no sum
    lt::set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.b.alignment);
    lt::set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.a.alignment);
    lt::set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.c.alignment);
    lt::set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.c.alignment);
    cublasLtMatmulHeuristicResult_t results[wanted] = {};
    int found = 0;
    auto const status =
        cublasLtMatmulAlgoGetHeuristic(call.gemm.library.get(), call.operation.get(), call.b.get(), call.a.get(),
                                       call.c.get(), call.c.get(), preference.get(), wanted, results, &found);
    bool const scaled = call.product.a.scaling != Scaling::none; // what FP8 wants is documented in part, and differs by
    if (scaled && status != CUBLAS_STATUS_SUCCESS) refuse(call.product, cublasLtGetStatusString(status)); // version
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) lt::check(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<cublasLtMatmulAlgo_t> out;
    for (int i = 0; i < found; ++i)
        if (results[i].state == CUBLAS_STATUS_SUCCESS) out.push_back(results[i].algo);
    if (out.empty()) refuse(call.product, "cuBLASLt has no algorithm for it");
    return out;
}

/// Seconds of the better of two runs after a first one; infinite if the algorithm cannot run.
double seconds(CudaBackend& backend, std::function<cublasStatus_t()> const& run)
{
    double best = std::numeric_limits<double>::infinity();
    if (run() != CUBLAS_STATUS_SUCCESS) return best;
    for (int i = 0; i < 2; ++i) {
        Event const before = backend.record();
        lt::check(run(), "cublasLtMatmul");
        best = std::min(best, backend.seconds(before, backend.record()));
    }
    return best;
}

/// The candidate that takes the least time on these very tensors. Results go elsewhere: c may be an input too.
cublasLtMatmulAlgo_t fastest(CudaBackend& backend, Call const& call, std::vector<cublasLtMatmulAlgo_t> const& among)
{
    Tensor const& c = call.product.c;
    Tensor const elsewhere = backend.make(c.element, c.rows, c.pitch);
    backend.synchronise(); // the stream in use may be another than compute, whose memory this is; the same at the end
    std::vector<double> times;
    for (auto const& algorithm : among)
        times.push_back(seconds(backend, [&] { return call.run(algorithm, elsewhere.data); }));
    backend.synchronise();
    return among[static_cast<std::size_t>(std::min_element(times.begin(), times.end()) - times.begin())];
}

} // namespace

void multiply(CudaBackend& backend, Runtime& runtime, Product const& product, Workspace workspace)
{
    if (product.c.size() == 0) return;
    if (product.a.scaling != Scaling::none) check_quantised(product);
    Gemm& gemm = gemm_of(runtime);
    Call const call{gemm, product, backend.stream(), workspace, operation_of(runtime, product)};
    Shape const shape = shape_of(runtime, product, workspace.bytes);
    auto known = gemm.chosen.find(shape);
    if (known == gemm.chosen.end()) {
        auto const found = candidates(call, shape);
        bool const time = gemm.tune && runtime.capturing == nullptr && found.size() > 1;
        known = gemm.chosen.emplace(shape, time ? fastest(backend, call, found) : found.front()).first;
    }
    auto const status = call.run(known->second, product.c.data);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) refuse(product, "cuBLASLt's algorithm cannot run it");
    lt::check(status, "cublasLtMatmul");
}

void clear(CudaBackend& backend, Tensor const& c)
{
    if (c.size() == 0) return;
    auto const bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements) * c.bytes_each; };
    auto* const stream = backend.stream();
    check(c.contiguous()
              ? cudaMemsetAsync(c.data, 0, bytes(c.size()), stream)
              : cudaMemset2DAsync(c.data, bytes(c.pitch), 0, bytes(c.cols), static_cast<std::size_t>(c.rows), stream),
          "zeros");
}

} // namespace cuda

void CudaBackend::gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, bool accumulate)
{
    ProductSize const size = product_size(c, a, b, form);
    if (size.depth == 0) {
        if (!accumulate) cuda::clear(*this, c);
        return;
    }
    cuda::multiply(*this, *state_, {c, a, b, form, accumulate},
                   {scratch(cuda::workspace_bytes), cuda::workspace_bytes});
}

void CudaBackend::tune_products(bool on)
{
    auto& gemm = cuda::gemm_of(*state_);
    gemm.tune = on;
    gemm.chosen.clear(); // chosen the other way
}

} // namespace trainfare::kernels
