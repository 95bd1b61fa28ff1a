// SPDX-License-Identifier: Apache-2.0
//
// Blocks out of parts: a decoder layer is attention and feed-forward; an MTP module is a projection, a layer and a pass
// through the shared head (DeepSeek-V3, arXiv:2412.19437 s2.2).
#include "model/ops.hpp"

#include "model/op_builder.hpp"

namespace trainfare {
namespace {

void append(std::vector<Op>& to, std::vector<Op> const& from) { to.insert(to.end(), from.begin(), from.end()); }

BlockOps layer_block(OpBuilder const& b, Layer const& layer)
{
    auto const attention = attention_ops(b, layer);
    auto const ffn = feed_forward_ops(b, layer);
    BlockOps ops{attention.forward, ffn.backward, ffn.weight, attention.weight};
    append(ops.forward, ffn.forward);
    append(ops.backward, attention.backward);
    return ops;
}

BlockOps mtp_block(OpBuilder const& b, Layer const& layer)
{
    Linear const projection{"mtp_proj", b.arch.hidden, 2 * static_cast<std::int64_t>(b.arch.hidden) / b.plan.tp};
    double const x = static_cast<double>(b.own_tokens) * b.arch.hidden;
    auto const inner = layer_block(b, layer);
    auto const head = head_ops(b);
    auto const table = embedding_ops(b); // the next token's embedding goes in

    BlockOps ops;
    append(ops.forward, table.forward);
    b.norm(ops.forward, Pass::forward, "mtp_norms", 2 * x);
    b.forward(ops.forward, projection, b.tokens);
    append(ops.forward, inner.forward);
    append(ops.forward, head.forward);

    append(ops.backward, head.backward);
    append(ops.backward, inner.backward);
    b.dgrad(ops.backward, projection, b.tokens);
    b.norm(ops.backward, Pass::dgrad, "mtp_norms", 2 * x);
    append(ops.backward, table.backward);

    ops.weight_ffn = head.weight;
    append(ops.weight_ffn, inner.weight_ffn);
    ops.weight_attention = inner.weight_attention;
    b.wgrad(ops.weight_attention, projection, b.tokens);
    return ops;
}

} // namespace

PartOps embedding_ops(OpBuilder const& b)
{
    double const x = static_cast<double>(b.own_tokens) * b.arch.hidden;
    PartOps ops;
    ops.forward.push_back(b.moves(OpKind::embedding, Pass::forward, "embedding", 4 * x));
    ops.backward.push_back(b.moves(OpKind::embedding, Pass::dgrad, "embedding",
                                   x * (2 + 2 * size_of(b.plan.gradient_dtype).value()))); // scatter-add to gradients
    return ops;
}

/// Norm, logits and cross-entropy. The product stays 16 bit under FP8 recipes; softmax and its gradient are done in
/// place.
PartOps head_ops(OpBuilder const& b)
{
    Linear const head{"lm_head", b.arch.vocab / b.plan.tp, b.arch.hidden, 1, OpKind::head, false};
    double const x = static_cast<double>(b.own_tokens) * b.arch.hidden;
    double const logits = static_cast<double>(b.tokens) * static_cast<double>(head.out);
    PartOps ops;
    b.residual(ops.forward, Pass::forward, "residual_out");
    b.norm(ops.forward, Pass::forward, "final_norm", x);
    b.tensor_parallel(ops.forward, Pass::forward, "tp_gather_head");
    ops.forward.push_back(b.product(head, Pass::forward, b.tokens));
    ops.forward.push_back(b.moves(OpKind::cross_entropy, Pass::forward, "cross_entropy", 4 * logits, 2));
    ops.backward.push_back(b.product(head, Pass::dgrad, b.tokens));
    b.tensor_parallel(ops.backward, Pass::dgrad, "tp_scatter_head");
    b.norm(ops.backward, Pass::dgrad, "final_norm", x);
    ops.weight.push_back(b.product(head, Pass::wgrad, b.tokens));
    return ops;
}

BlockOps block_ops(Architecture const& arch, Plan const& plan, Block block)
{
    OpBuilder const b{arch, plan};
    auto const index = static_cast<std::size_t>(block.index);
    switch (block.kind) {
    case Block::Kind::layer: return layer_block(b, arch.layers[index]);
    case Block::Kind::mtp: return mtp_block(b, arch.mtp[index]);
    case Block::Kind::embedding: {
        auto const part = embedding_ops(b);
        return {part.forward, part.backward, {}, part.weight};
    }
    case Block::Kind::head: break;
    }
    auto const part = head_ops(b);
    return {part.forward, part.backward, {}, part.weight};
}

/// Adam on the shard: reads and writes master weights and both moments, reads the gradient, writes the 16-bit weight.
/// Worked number: fp32 master, bf16 moments, fp32 gradient: 8 + 8 + 4 + 2 = 22 B per parameter.
Op optimizer_op(Plan const& plan, double dense_parameters, double expert_parameters)
{
    double const data = plan.zero >= 1 ? static_cast<double>(plan.dp) * plan.cp : 1;
    double const expert_data =
        plan.zero >= 1 ? static_cast<double>(plan.gpus()) / (static_cast<double>(plan.pp) * plan.ep * plan.etp) : 1;
    double const parameters = dense_parameters / data + expert_parameters / expert_data;
    double const per_parameter = 2 * size_of(plan.master_dtype).value() + 4 * size_of(plan.moment_dtype).value() +
                                 size_of(plan.gradient_dtype).value() + 2;
    Op op;
    op.kind = OpKind::optimizer;
    op.pass = Pass::update;
    op.name = "adamw";
    op.bytes = Bytes{parameters * per_parameter};
    return op;
}

} // namespace trainfare
