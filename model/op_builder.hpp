// SPDX-License-Identifier: Apache-2.0
//
// Private to model/ops*.cpp: the shapes that all operations of a block share, and one function per kind of operation.
#pragma once

#include <vector>

#include "model/ops.hpp"

namespace trainfare {

/// A linear layer y = x W as one GPU runs it: @p in and @p out are this GPU's shares. Under a quantised recipe its inputs are cast.
struct Linear {
    char const* name;
    std::int64_t out = 0, in = 0;
    int groups = 1;                      // local experts; 1 for dense layers
    OpKind kind = OpKind::gemm;
    bool quantised = true;               // false: stays bf16 under an fp8 recipe (router, head; arXiv:2412.19437 s3.3.1)
};

class OpBuilder {
public:
    OpBuilder(Architecture const& arch, Plan const& plan);

    Architecture const& arch;
    Plan const& plan;
    std::int64_t tokens = 0;    // of one micro-batch on one GPU inside the TP region
    std::int64_t own_tokens = 0; // outside it: divided by TP where sequence parallelism shards them

    [[nodiscard]] Precision precision_of(Linear const&) const;

    [[nodiscard]] Op product(Linear const&, Pass, std::int64_t rows) const;
    /// Memory-bound operation that moves @p bytes.
    [[nodiscard]] Op moves(OpKind, Pass, char const* name, double bytes, int kernels = 1) const;

    /// Casts and products of one pass of a linear layer on @p rows rows (per group for experts), appended to the list.
    /// forward: quantise x (unless @p x_quantised: it arrives so), product. dgrad: quantise dy once along each direction, product.
    /// wgrad: transpose the saved quantised x, product.
    void forward(std::vector<Op>&, Linear const&, std::int64_t rows, bool x_quantised = false, Pass = Pass::forward) const;
    void dgrad(std::vector<Op>&, Linear const&, std::int64_t rows, bool dy_quantised = false) const;
    void wgrad(std::vector<Op>&, Linear const&, std::int64_t rows) const;

    void norm(std::vector<Op>&, Pass, char const* name, double elements) const;
    void residual(std::vector<Op>&, Pass, char const* name) const;
    /// All-gather or reduce-scatter of one activation inside the TP group; half an all-reduce without sequence parallelism.
    void tensor_parallel(std::vector<Op>&, Pass, char const* name) const;
};

/// Elements of one activation tensor, as bytes of the recipe's quantised format with its scales.
double quantised_bytes(Precision, double elements);

// One function per part; each appends its operations. weight receives the part's weight gradients.
struct PartOps {
    std::vector<Op> forward, backward, weight;
};
PartOps attention_ops(OpBuilder const&, Layer const&);
PartOps feed_forward_ops(OpBuilder const&, Layer const&);
PartOps embedding_ops(OpBuilder const&);
PartOps head_ops(OpBuilder const&);

} // namespace trainfare
