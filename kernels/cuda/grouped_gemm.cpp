// SPDX-License-Identifier: Apache-2.0
//
// Products of groups, one cuBLASLt call each, which is what fills the chip when a group has thousands of rows
// (DeepSeek-V3 with 64-way expert parallelism: 4 experts of about 8,192). A grouped kernel (CUTLASS, where built in)
// does better on many small groups.
#include <algorithm>
#include <limits>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kernels/cuda/gemm.hpp"
#include "kernels/cuda/group_scales.hpp"
#include "kernels/cuda/grouped_gemm_cutlass.hpp"
#include "kernels/product.hpp"

namespace trainfare::kernels {

namespace cuda {
namespace {

constexpr std::int64_t block = 128;

struct Grouped {
    bool loop = false; // though CUTLASS is built in
};

Grouped& grouped_of(Runtime& runtime)
{
    if (!runtime.grouped) runtime.grouped = std::make_shared<Grouped>();
    return *static_cast<Grouped*>(runtime.grouped.get());
}

/// Rows of a vector128 operand whose scales split_scales has put at @p scales.
Operand rows_of(Operand const& x, GroupRows const& g, float* scales)
{
    Tensor own = x.scales;
    own.cols = own.pitch = g.count;
    own.data = scales + x.scales.rows * g.first;
    return {x.values.row_range(g.first, g.count), own, x.scaling};
}

/// Columns of a vector128 operand: whole blocks, so whole rows of scales.
Operand columns_of(Operand const& x, GroupRows const& g)
{
    return {x.values.column_range(g.first, g.count), x.scales.row_range(g.first / block, g.count / block), x.scaling};
}

/// Group g's [rows, columns] of weights that lie one below the other.
Operand part_of(Operand const& x, GroupRows const& g, std::int64_t rows)
{
    Tensor const values = x.values.row_range(g.index * rows, rows);
    if (x.scaling == Scaling::none) return values;
    return {values, x.scales.row_range(g.index * rows / block, rows / block), x.scaling};
}

Product product_of_group(Tensor const& c, Operand const& a, Operand const& b, Form form, bool accumulate,
                         ProductSize const& size, GroupRows const& g, float* scales)
{
    if (form == Form::tn) {
        Tensor const out = c.row_range(g.index * size.m, size.m);
        // Quantised operands are transposed already.
        if (a.scaling != Scaling::none) return {out, columns_of(a, g), columns_of(b, g), Form::nt, accumulate};
        return {out, a.values.row_range(g.first, g.count), b.values.row_range(g.first, g.count), form, accumulate};
    }
    Operand const rows =
        a.scaling == Scaling::none ? Operand{a.values.row_range(g.first, g.count)} : rows_of(a, g, scales);
    return {c.row_range(g.first, g.count), rows, part_of(b, g, form == Form::nt ? size.n : size.depth), form,
            accumulate};
}

} // namespace

GroupList groups_with_rows(Groups const& groups)
{
    GroupList list;
    if (groups.padded_rows() > std::numeric_limits<std::int32_t>::max())
        throw Unsupported(fmt::format("a grouped product of {} rows", groups.padded_rows()));
    for (GroupRows const g : padded_groups(groups)) {
        if (g.count == 0) continue;
        if (list.count == GroupList::capacity)
            throw Unsupported(fmt::format("more than {} groups with rows in one product", GroupList::capacity));
        list.index[list.count] = static_cast<std::int32_t>(g.index);
        list.first[list.count] = static_cast<std::int32_t>(g.first);
        list.rows[list.count] = static_cast<std::int32_t>(g.count);
        ++list.count;
    }
    return list;
}

} // namespace cuda

void CudaBackend::grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, Groups const& groups,
                               bool accumulate)
{
    ProductSize const size = grouped_size(c, a, b, form, groups);
    bool const split = form == Form::nt && a.scaling != Scaling::none;
    if (split && !accumulate && !cuda::grouped_of(*state_).loop && cuda::cutlass_can(c, a, b, size, groups))
        return cuda::cutlass_grouped_gemm(*this, c, a, b, size, groups);
    if (split && (size.n % cuda::block != 0 || a.scales.pitch % 4 != 0))
        throw Unsupported(in_words("grouped_gemm", c, a, b, form) +
                          ": a group's part of b must be whole blocks of 128 rows, and a's "
                          "rows a multiple of 4");
    auto const scale_bytes = split ? static_cast<std::size_t>(a.scales.size()) * sizeof(float) : 0;
    auto* const memory = static_cast<std::byte*>(scratch(cuda::workspace_bytes + scale_bytes));
    auto* const scales = reinterpret_cast<float*>(memory + cuda::workspace_bytes);
    if (split) cuda::split_scales(*this, a.scales, cuda::groups_with_rows(groups), scales);
    for (GroupRows const g : padded_groups(groups)) {
        if (g.count > 0 && size.depth > 0)
            cuda::multiply(*this, *state_, cuda::product_of_group(c, a, b, form, accumulate, size, g, scales),
                           {memory, cuda::workspace_bytes});
        else if (!accumulate)
            cuda::clear(*this,
                        form == Form::tn ? c.row_range(g.index * size.m, size.m) : c.row_range(g.first, g.count));
    }
}

std::vector<std::string_view> CudaBackend::grouped_libraries() const
{
    if (!cuda::cutlass_built_in()) return {"cublaslt"};
    return {"cutlass", "cublaslt"};
}

void CudaBackend::use_grouped_library(std::string_view name)
{
    auto const known = grouped_libraries();
    if (std::find(known.begin(), known.end(), name) == known.end())
        throw InternalError(fmt::format("use_grouped_library: \"{}\" is not built in", name));
    cuda::grouped_of(*state_).loop = name == "cublaslt";
}

} // namespace trainfare::kernels
