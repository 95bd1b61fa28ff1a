// SPDX-License-Identifier: Apache-2.0
//
// Operations by their shape alone, without a model around them.
#pragma once

#include "model/op.hpp"

namespace trainfare {

struct Shape {
    std::int64_t m, n, k;
    int groups = 1;
};

inline Op product(Shape s, Precision precision = Precision::fp8_block, Pass pass = Pass::forward)
{
    Op op;
    op.kind = s.groups > 1 ? OpKind::expert_gemm : OpKind::gemm;
    op.pass = pass;
    op.name = "a_product";
    op.precision = precision;
    op.m = s.m, op.n = s.n, op.k = s.k, op.groups = s.groups;
    op.flops = Flops{2.0 * static_cast<double>(s.m * s.n) * static_cast<double>(s.k) * s.groups};
    return op;
}

inline Op attention(std::int64_t seq, int heads, Pass pass)
{
    Op op;
    op.kind = OpKind::attention;
    op.pass = pass;
    op.name = "attention";
    op.batch = 1, op.seq = seq, op.heads = op.kv_heads = heads, op.qk_dim = 192, op.v_dim = 128;
    op.keys = static_cast<double>(seq) / 2;
    op.flops = Flops{1e12};
    return op;
}

inline Op moving(OpKind kind, double bytes, Pass pass = Pass::forward, int kernels = 1)
{
    Op op;
    op.kind = kind;
    op.pass = pass;
    op.name = "moving";
    op.bytes = Bytes{bytes};
    op.kernels = kernels;
    return op;
}

} // namespace trainfare
