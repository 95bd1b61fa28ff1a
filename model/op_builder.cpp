// SPDX-License-Identifier: Apache-2.0
//
// FLOPs and bytes of each kind of operation. Bytes are HBM traffic of the fused kernel that does the job: every input
// read once, every output written once.
#include "model/op_builder.hpp"

namespace trainfare {

double quantised_bytes(Precision p, double elements)
{
    return elements * (size_of(gemm_dtype(p)).value() + scale_bytes_per_element(p));
}

OpBuilder::OpBuilder(Architecture const& architecture, Plan const& layout)
    : arch{architecture}, plan{layout}, tokens{static_cast<std::int64_t>(layout.micro_batch) * layout.seq_len /
                                               layout.cp},
      own_tokens{layout.sp ? tokens / layout.tp : tokens}
{
}

Precision OpBuilder::precision_of(Linear const& linear) const
{
    return linear.quantised || !is_quantised(plan.precision) ? plan.precision : Precision::bf16;
}

Op OpBuilder::moves(OpKind kind, Pass pass, char const* name, double bytes, int kernels) const
{
    Op op;
    op.kind = kind;
    op.pass = pass;
    op.name = name;
    op.precision = plan.precision;
    op.bytes = Bytes{bytes};
    op.kernels = kernels;
    return op;
}

Op OpBuilder::product(Linear const& linear, Pass pass, std::int64_t rows) const
{
    Op op;
    op.kind = linear.kind;
    op.pass = pass;
    op.name = linear.name;
    op.precision = precision_of(linear);
    op.groups = linear.groups;
    switch (pass) { // y[rows,out] = x[rows,in] W; dx[rows,in] = dy W'; dW[out,in] = dy' x
    case Pass::dgrad: op.m = rows, op.n = linear.in, op.k = linear.out; break;
    case Pass::wgrad: op.m = linear.out, op.n = linear.in, op.k = rows; break;
    default: op.m = rows, op.n = linear.out, op.k = linear.in; break;
    }
    auto const m = static_cast<double>(op.m), n = static_cast<double>(op.n), k = static_cast<double>(op.k);
    op.flops = Flops{2 * m * n * k * op.groups};
    double const in = size_of(gemm_dtype(op.precision)).value();
    double const out = pass == Pass::wgrad ? 2 * size_of(plan.gradient_dtype).value() // accumulated: read and written
                                           : 2.0;                                     // bf16
    op.bytes = Bytes{op.groups * ((m * k + k * n) * in + m * n * out)};
    return op;
}

void OpBuilder::forward(std::vector<Op>& ops, Linear const& linear, std::int64_t rows, bool x_quantised,
                        Pass pass) const
{
    auto const p = precision_of(linear);
    double const elements = static_cast<double>(rows) * linear.groups * static_cast<double>(linear.in);
    if (is_quantised(p) && !x_quantised)
        ops.push_back(moves(OpKind::cast, pass, "quantise_input", 2 * elements + quantised_bytes(p, elements)));
    ops.push_back(product(linear, pass, rows));
}

void OpBuilder::dgrad(std::vector<Op>& ops, Linear const& linear, std::int64_t rows, bool dy_quantised) const
{
    auto const p = precision_of(linear);
    double const elements = static_cast<double>(rows) * linear.groups * static_cast<double>(linear.out);
    if (is_quantised(p)) // along rows for dgrad, along columns for wgrad: two copies out of one read
        ops.push_back(
            moves(OpKind::cast, Pass::dgrad, "quantise_gradient",
                  (dy_quantised ? quantised_bytes(p, elements) : 2 * elements + quantised_bytes(p, elements)) +
                      quantised_bytes(p, elements)));
    ops.push_back(product(linear, Pass::dgrad, rows));
}

void OpBuilder::wgrad(std::vector<Op>& ops, Linear const& linear, std::int64_t rows) const
{
    auto const p = precision_of(linear);
    double const elements = static_cast<double>(rows) * linear.groups * static_cast<double>(linear.in);
    if (is_quantised(p))
        ops.push_back(moves(OpKind::cast, Pass::wgrad, "transpose_input", 2 * quantised_bytes(p, elements)));
    ops.push_back(product(linear, Pass::wgrad, rows));
}

void OpBuilder::norm(std::vector<Op>& ops, Pass pass, char const* name, double elements) const
{
    // forward reads x and writes y; backward reads x and dy and writes dx: 2 bytes each
    ops.push_back(moves(OpKind::norm, pass, name, (pass == Pass::dgrad ? 6 : 4) * elements));
}

void OpBuilder::residual(std::vector<Op>& ops, Pass pass, char const* name) const
{
    ops.push_back(moves(OpKind::residual, pass, name, 6.0 * static_cast<double>(own_tokens) * arch.hidden));
}

void OpBuilder::tensor_parallel(std::vector<Op>& ops, Pass pass, char const* name) const
{
    if (plan.tp == 1) return;
    Op op = moves(OpKind::tp_collective, pass, name, 0);
    // With sequence parallelism a gather and a scatter surround each part; without, one all-reduce, whose two halves
    // these are.
    op.payload = Bytes{2.0 * static_cast<double>(tokens) * arch.hidden};
    ops.push_back(op);
}

} // namespace trainfare
