// SPDX-License-Identifier: Apache-2.0
//
// Both kinds of attention blocks.
#include "kernels/step/attention_block.hpp"

#include <cmath>

namespace trainfare::kernels {
namespace {

AttentionShape shape_of(Context const& c, Attention const& a)
{
    AttentionShape s;
    s.batch = c.config.micro_batch, s.seq = c.config.seq_len;
    s.heads = a.heads, s.kv_heads = a.kv_heads, s.qk_dim = a.qk_dim, s.v_dim = a.v_dim;
    s.scale = static_cast<float>(1 / std::sqrt(a.qk_dim));
    return s;
}

/// Columns of a fused projection: fp8 products sum over them in the backward, in whole blocks. DeepSeek-V3: 2112 ->
/// 2176.
std::int64_t fused_width(Context const& c, std::int64_t columns)
{
    return c.fp8() ? (columns + 127) / 128 * 128 : columns;
}

/// What both kinds do: scores, values and the output projection.
class Core {
public:
    Core(Context const& context, Parameters& parameters, Attention const& a, std::string const& prefix)
        : context_{context}, shape_{shape_of(context, a)}, out_{context,
                                                                parameters.matrix(prefix + ".o", context.hidden(),
                                                                                  std::int64_t{a.heads} * a.v_dim)}
    {
    }

    void prepare() { out_.prepare(); }

    Tensor forward(AttentionBlock::Saved& s, Tensor const& q, Tensor const& k, Tensor const& v) const
    {
        s.q = q, s.k = k, s.v = v;
        s.o = context_.bf16(q.rows, std::int64_t{shape_.heads} * shape_.v_dim);
        s.log_sum = context_.f32(std::int64_t{shape_.heads} * shape_.batch, shape_.seq);
        context_.backend.attention(shape_, q, k, v, s.o, s.log_sum);
        s.o_in = out_.input(s.o);
        auto y = context_.bf16(q.rows, context_.hidden());
        out_.forward(s.o_in, y, false);
        return y;
    }

    void backward(AttentionBlock::Saved const& s, Tensor const& d_out, Tensor const& d_q, Tensor const& d_k,
                  Tensor const& d_v) const
    {
        auto const d_o = context_.bf16(s.o.rows, s.o.cols);
        out_.backward(out_.output_gradient(d_out), s.o_in, d_o, false);
        context_.backend.attention_backward(shape_, d_o, s.q, s.k, s.v, s.o, s.log_sum, d_q, d_k, d_v);
    }

private:
    Context const& context_;
    AttentionShape shape_;
    Linear out_;
};

class GroupedQueryBlock final : public AttentionBlock {
public:
    GroupedQueryBlock(Context const& context, Parameters& parameters, Attention const& a, std::string const& prefix)
        : context_{context}, q_{std::int64_t{a.heads} * a.qk_dim}, k_{std::int64_t{a.kv_heads} * a.qk_dim},
          v_{std::int64_t{a.kv_heads} * a.v_dim}, width_{fused_width(context, q_ + k_ + v_)},
          qkv_{context, parameters.matrix(prefix + ".qkv", width_, context.hidden())}, core_{context, parameters, a,
                                                                                             prefix}
    {
        rope_.seq = context.config.seq_len, rope_.heads = a.heads + a.kv_heads; // q and k lie side by side
        rope_.width = rope_.dim = a.qk_dim, rope_.base = context.config.rope_base;
    }

    void prepare() override { qkv_.prepare(), core_.prepare(); }

    Tensor forward(Saved& s, Tensor const& y) const override
    {
        s.x = qkv_.input(y);
        s.fused = context_.bf16(y.rows, width_);
        qkv_.forward(s.x, s.fused, false);
        context_.backend.rope(rope_, s.fused.column_range(0, q_ + k_), false);
        return core_.forward(s, s.fused.column_range(0, q_), s.fused.column_range(q_, k_),
                             s.fused.column_range(q_ + k_, v_));
    }

    Tensor backward(Saved const& s, Tensor const& d_out) const override
    {
        auto const d_fused = context_.bf16(d_out.rows, width_);
        if (width_ > q_ + k_ + v_) context_.backend.fill(d_fused, 0);
        core_.backward(s, d_out, d_fused.column_range(0, q_), d_fused.column_range(q_, k_),
                       d_fused.column_range(q_ + k_, v_));
        context_.backend.rope(rope_, d_fused.column_range(0, q_ + k_), true);
        auto d_y = context_.bf16(d_out.rows, context_.hidden());
        qkv_.backward(qkv_.output_gradient(d_fused), s.x, d_y, false);
        return d_y;
    }

private:
    Context const& context_;
    std::int64_t q_, k_, v_, width_;
    Linear qkv_;
    Core core_;
    Rope rope_;
};

/// Without q_rank, q has a projection of its own: its heads are rotated in place and must not be a column range.
class LatentBlock final : public AttentionBlock {
public:
    LatentBlock(Context const& context, Parameters& parameters, Attention const& a, std::string const& prefix)
        : context_{context}, q_rank_{a.latent->q_rank.value_or(0)}, kv_rank_{a.latent->kv_rank},
          rope_{a.latent->rope_dim}, width_{fused_width(context, q_rank_ + kv_rank_ + rope_)},
          down_{context, parameters.matrix(prefix + (q_rank_ > 0 ? ".q_a_kv_a" : ".kv_a"), width_, context.hidden())},
          q_up_{context, parameters.matrix(prefix + (q_rank_ > 0 ? ".q_b" : ".q"), std::int64_t{a.heads} * a.qk_dim,
                                           q_rank_ > 0 ? q_rank_ : context.hidden())},
          kv_up_{context,
                 parameters.matrix(prefix + ".kv_b", std::int64_t{a.heads} * (a.latent->nope_dim + a.v_dim), kv_rank_)},
          q_norm_{q_rank_ > 0 ? &parameters.norm(prefix + ".q_norm", q_rank_) : nullptr},
          kv_norm_{parameters.norm(prefix + ".kv_norm", kv_rank_)}, core_{context, parameters, a, prefix}
    {
        heads_.seq = context.config.seq_len, heads_.heads = a.heads;
        heads_.nope = a.latent->nope_dim, heads_.rope = a.latent->rope_dim, heads_.v = a.v_dim;
        heads_.base = context.config.rope_base;
    }

    void prepare() override { down_.prepare(), q_up_.prepare(), kv_up_.prepare(), core_.prepare(); }

    Tensor forward(Saved& s, Tensor const& y) const override
    {
        auto const rows = y.rows;
        s.x = down_.input(y);
        s.fused = context_.bf16(rows, width_);
        down_.forward(s.x, s.fused, false);
        s.q_latent = s.x;
        if (q_norm_) {
            s.q_rstd = context_.f32(1, rows);
            s.q_latent = q_up_.input(normed(s.fused.column_range(0, q_rank_), *q_norm_, s.q_rstd));
        }
        s.kv_rstd = context_.f32(1, rows);
        s.kv_latent = kv_up_.input(normed(s.fused.column_range(q_rank_, kv_rank_), kv_norm_, s.kv_rstd));
        auto const q = context_.bf16(rows, q_width()), k = context_.bf16(rows, q_width());
        auto const kv = context_.bf16(rows, kv_width()), v = context_.bf16(rows, std::int64_t{heads_.heads} * heads_.v);
        q_up_.forward(s.q_latent, q, false);
        kv_up_.forward(s.kv_latent, kv, false);
        context_.backend.latent_heads(heads_, q, kv, s.fused.column_range(q_rank_ + kv_rank_, rope_), k, v);
        return core_.forward(s, q, k, v);
    }

    Tensor backward(Saved const& s, Tensor const& d_out) const override
    {
        auto& backend = context_.backend;
        auto const rows = d_out.rows;
        auto const d_q = context_.bf16(rows, q_width()), d_k = context_.bf16(rows, q_width());
        auto const d_v = context_.bf16(rows, s.v.cols), d_kv = context_.bf16(rows, kv_width());
        auto const d_fused = context_.bf16(rows, width_);
        if (width_ > q_rank_ + kv_rank_ + rope_) backend.fill(d_fused, 0);
        core_.backward(s, d_out, d_q, d_k, d_v);
        backend.latent_heads_backward(heads_, d_q, d_k, d_v, d_kv, d_fused.column_range(q_rank_ + kv_rank_, rope_));

        auto d_y = context_.bf16(rows, context_.hidden());
        auto const d_kv_latent = context_.bf16(rows, kv_rank_);
        kv_up_.backward(kv_up_.output_gradient(d_kv), s.kv_latent, d_kv_latent, false);
        norm_backward(d_kv_latent, s.fused.column_range(q_rank_, kv_rank_), kv_norm_, s.kv_rstd,
                      d_fused.column_range(q_rank_, kv_rank_));
        auto const d_q_out = q_up_.output_gradient(d_q);
        if (q_norm_) {
            auto const d_q_latent = context_.bf16(rows, q_rank_);
            q_up_.backward(d_q_out, s.q_latent, d_q_latent, false);
            norm_backward(d_q_latent, s.fused.column_range(0, q_rank_), *q_norm_, s.q_rstd,
                          d_fused.column_range(0, q_rank_));
        } else {
            q_up_.backward(d_q_out, s.q_latent, d_y, false);
        }
        down_.backward(down_.output_gradient(d_fused), s.x, d_y, q_norm_ == nullptr);
        return d_y;
    }

private:
    [[nodiscard]] std::int64_t q_width() const { return std::int64_t{heads_.heads} * (heads_.nope + heads_.rope); }
    [[nodiscard]] std::int64_t kv_width() const { return std::int64_t{heads_.heads} * (heads_.nope + heads_.v); }

    [[nodiscard]] Tensor normed(Tensor const& x, Parameter const& weight, Tensor const& rstd) const
    {
        auto y = context_.bf16(x.rows, x.cols);
        context_.backend.rms_norm(x, weight.weight, context_.config.norm_eps, y, rstd);
        return y;
    }
    void norm_backward(Tensor const& d_y, Tensor const& x, Parameter const& weight, Tensor const& rstd,
                       Tensor const& d_x) const
    {
        context_.backend.rms_norm_backward(d_y, x, weight.weight, rstd, d_x, false, weight.gradient);
    }

    Context const& context_;
    std::int64_t q_rank_, kv_rank_, rope_, width_;
    Linear down_, q_up_, kv_up_;
    Parameter const* q_norm_;
    Parameter const& kv_norm_;
    Core core_;
    LatentHeads heads_;
};

} // namespace

std::unique_ptr<AttentionBlock> make_attention_block(Context const& context, Parameters& parameters, Attention const& a,
                                                     std::string const& prefix)
{
    if (a.latent) return std::make_unique<LatentBlock>(context, parameters, a, prefix);
    return std::make_unique<GroupedQueryBlock>(context, parameters, a, prefix);
}

} // namespace trainfare::kernels
