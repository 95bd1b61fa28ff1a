// SPDX-License-Identifier: Apache-2.0
//
// FP8 products of all groups in one persistent launch: CUTLASS's Hopper collectives for scales of 1 x 128 (a) and 128 x
// 128 (b). The tables that the kernel reads (sizes, addresses, strides of each group) are written by a small kernel in
// front of it, out of its arguments, so that a recorded graph has everything in it.
#if !defined(NDEBUG)
#define NDEBUG // an assertion in the inner loop is a function call, and ptxas then runs its matrix instructions one by
               // one (C7510)
#endif
#include "kernels/cuda/grouped_gemm_cutlass.hpp"

#include <cute/tensor.hpp>
#include <cutlass/cutlass.h>
#include <cutlass/detail/blockwise_scale_layout.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/gemm/group_array_problem_shape.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include <string>

#include "kernels/cuda/check.hpp"
#include "kernels/cuda/group_scales.hpp"

namespace trainfare::kernels::cuda {

namespace {

constexpr int block = 128;

using E4m3 = cutlass::float_e4m3_t;
using Bf16 = cutlass::bfloat16_t;
using RowMajor = cutlass::layout::RowMajor;
using Columns = cutlass::layout::ColumnMajor; // of the [k, n] matrix that b [n, k] is transposed
using Tile = cute::Shape<cute::Int<block>, cute::Int<block>, cute::Int<block>>;
using Cluster = cute::Shape<cute::_1, cute::_2, cute::_1>;
using Problem = cute::Shape<int, int, int>;

/// One scale per row of a, rows contiguous; one per 128 columns of c, summed blocks contiguous (kernels/tensor.hpp).
using Scales = cutlass::detail::Sm90BlockwiseScaleConfig<1, block, block, cute::GMMA::Major::MN, cute::GMMA::Major::K>;
using LayoutOfA = decltype(Scales::deduce_layoutSFA());
using LayoutOfB = decltype(Scales::deduce_layoutSFB());

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster, cutlass::epilogue::collective::EpilogueTileAuto,
    float, float, void, RowMajor*, 8, Bf16, RowMajor*, 8,
    cutlass::epilogue::PtrArrayTmaWarpSpecializedCooperative>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, E4m3, cute::tuple<RowMajor*, LayoutOfA*>, 16, E4m3,
    cute::tuple<Columns*, LayoutOfB*>, 16, float, Tile, Cluster,
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
    cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperativeFP8Blockwise>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<Problem>, Mainloop, Epilogue>;
using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

/// What the kernel reads of each group, in device memory.
struct Tables {
    Problem sizes[GroupList::capacity];
    E4m3 const* a[GroupList::capacity];
    E4m3 const* b[GroupList::capacity];
    float const* a_scales[GroupList::capacity];
    float const* b_scales[GroupList::capacity];
    Bf16* c[GroupList::capacity];
    typename Kernel::InternalStrideA a_strides[GroupList::capacity];
    typename Kernel::InternalStrideB b_strides[GroupList::capacity];
    typename Kernel::InternalStrideD c_strides[GroupList::capacity];
    LayoutOfA a_layouts[GroupList::capacity];
    LayoutOfB b_layouts[GroupList::capacity];
};

/// A grouped product's memory: a [., k], scales of a group by group, b [groups n, k] with scales [groups n / 128, k /
/// 128], c [., n].
struct Inputs {
    E4m3 const *a, *b;
    float const *a_scales, *b_scales;
    Bf16* c;
    std::int64_t n, k, c_pitch;
};

__global__ void write_tables(Inputs in, GroupList groups, Tables* tables)
{
    int const g = static_cast<int>(threadIdx.x);
    if (g >= groups.count) return;
    std::int64_t const first = groups.first[g], index = groups.index[g], k_blocks = in.k / block;
    auto const size =
        cute::make_shape(static_cast<int>(groups.rows[g]), static_cast<int>(in.n), static_cast<int>(in.k));
    tables->sizes[g] = size;
    tables->a[g] = in.a + first * in.k;
    tables->b[g] = in.b + index * in.n * in.k;
    tables->a_scales[g] = in.a_scales + first * k_blocks;
    tables->b_scales[g] = in.b_scales + index * (in.n / block) * k_blocks;
    tables->c[g] = in.c + first * in.c_pitch;
    tables->a_strides[g] = {in.k, cute::_1{}, cute::_0{}};
    tables->b_strides[g] = {in.k, cute::_1{}, cute::_0{}};
    tables->c_strides[g] = {in.c_pitch, cute::_1{}, cute::_0{}};
    tables->a_layouts[g] = Scales::tile_atom_to_shape_SFA(size);
    tables->b_layouts[g] = Scales::tile_atom_to_shape_SFB(size);
}

void require(cutlass::Status status, char const* what)
{
    if (status != cutlass::Status::kSuccess)
        throw InternalError(std::string{"CUTLASS grouped product, "} + what + ": " + cutlassGetStatusString(status));
}

cutlass::KernelHardwareInfo hardware_of(CudaBackend const& backend)
{
    cutlass::KernelHardwareInfo hardware;
    check(cudaGetDevice(&hardware.device_id), "cudaGetDevice");
    hardware.sm_count = backend.sms();
    return hardware;
}

typename Gemm::Arguments arguments_of(CudaBackend const& backend, Tables* tables, int groups)
{
    typename Gemm::Arguments arguments{cutlass::gemm::GemmUniversalMode::kGrouped,
                                       {groups, tables->sizes, nullptr},
                                       {tables->a, tables->a_strides, tables->b, tables->b_strides, tables->a_scales,
                                        tables->a_layouts, tables->b_scales, tables->b_layouts},
                                       {{}, nullptr, nullptr, tables->c, tables->c_strides},
                                       hardware_of(backend)};
    arguments.epilogue.thread.alpha = 1;
    arguments.epilogue.thread.beta = 0;
    return arguments;
}

/// Depends on the number of groups and SMs alone.
std::size_t workspace_of(CudaBackend const& backend, int groups)
{
    return Gemm::get_workspace_size(
        {cutlass::gemm::GemmUniversalMode::kGrouped, {groups, nullptr, nullptr}, {}, {}, hardware_of(backend)});
}

std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

} // namespace

bool cutlass_can(Tensor const& c, Operand const& a, Operand const& b, ProductSize const& size, Groups const& groups)
{
    // Scales of b are read without padding between rows of blocks; TMA wants multiples of 16 bytes.
    auto const aligned = [](Tensor const& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; };
    return c.element == Element::bf16 && c.pitch % 8 == 0 && size.n % block == 0 && size.depth % (4 * block) == 0 &&
           size.depth > 0 && a.scales.pitch % 4 == 0 && groups.count() <= GroupList::capacity && aligned(c) &&
           aligned(a.values) && aligned(b.values);
}

void cutlass_grouped_gemm(CudaBackend& backend, Tensor const& c, Operand const& a, Operand const& b,
                          ProductSize const& size, Groups const& all_groups)
{
    GroupList const groups = groups_with_rows(all_groups);
    if (groups.count == 0) return;
    std::size_t const scales = aligned(static_cast<std::size_t>(a.scales.size()) * sizeof(float)),
                      tables = aligned(sizeof(Tables));
    std::size_t const workspace = workspace_of(backend, groups.count);
    auto* const memory = static_cast<std::byte*>(backend.scratch(scales + tables + workspace));
    auto* const split = reinterpret_cast<float*>(memory);
    split_scales(backend, a.scales, groups, split);

    auto* const filled = reinterpret_cast<Tables*>(memory + scales);
    write_tables<<<1, GroupList::capacity, 0, backend.stream()>>>(
        {static_cast<E4m3 const*>(a.values.data), static_cast<E4m3 const*>(b.values.data), split,
         static_cast<float const*>(b.scales.data), static_cast<Bf16*>(c.data), size.n, size.depth, c.pitch},
        groups, filled);
    check(cudaGetLastError(), "write_tables");

    auto const arguments = arguments_of(backend, filled, groups.count);
    Gemm gemm;
    require(Gemm::can_implement(arguments), "can_implement");
    require(gemm.initialize(arguments, memory + scales + tables, backend.stream()), "initialize");
    require(gemm.run(backend.stream()), "run");
}

} // namespace trainfare::kernels::cuda
