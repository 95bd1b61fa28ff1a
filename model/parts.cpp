// SPDX-License-Identifier: Apache-2.0
//
// Parameter counts of layer parts. Products are taken in double: 2^53 is far above any count here.
#include "model/parts.hpp"

namespace trainfare {

namespace {

AttentionKind kind_of(HeadLayout const& l)
{
    if (l.kv_heads == l.heads) return AttentionKind::mha;
    return l.kv_heads == 1 ? AttentionKind::mqa : AttentionKind::gqa;
}

/// Matrix weights of one feed-forward network of the given width.
double ffn_matrices(double hidden, double width, bool gated) { return (gated ? 3 : 2) * hidden * width; }

double ffn_biases(double hidden, double width, bool gated) { return (gated ? 2 : 1) * width + hidden; }

double kv_biases(Attention const& a) { return static_cast<double>(a.kv_heads) * (a.qk_dim + a.v_dim); }

} // namespace

void add_matrix(Attention& a, double weights)
{
    a.parameters += weights;
    a.matrix_parameters += weights;
}

void add_vectors(Attention& a, double weights) { a.parameters += weights; }

Attention softmax_attention(HeadLayout const& l, ProjectionBias bias)
{
    Attention a;
    a.kind = kind_of(l);
    a.heads = l.heads;
    a.kv_heads = l.kv_heads;
    a.qk_dim = a.v_dim = l.head_dim;
    double const h = l.hidden, q = 1.0 * l.heads * l.head_dim, kv = 1.0 * l.kv_heads * l.head_dim;
    add_matrix(a, h * (2 * q + 2 * kv));
    if (bias.qkv) add_vectors(a, q + 2 * kv);
    if (bias.output) add_vectors(a, h);
    return a;
}

Attention latent_attention(int hidden, int heads, int v_dim, LatentAttention const& latent, bool bias)
{
    Attention a;
    a.kind = AttentionKind::mla;
    a.heads = a.kv_heads = heads; // training multiplies keys and values out for every head
    a.qk_dim = latent.nope_dim + latent.rope_dim;
    a.v_dim = v_dim;
    a.latent = latent;
    double const h = hidden, q = 1.0 * heads * a.qk_dim, kv_rank = latent.kv_rank;
    double const down_kv = kv_rank + latent.rope_dim;
    double const q_rank = latent.q_rank.value_or(0);
    add_matrix(a, latent.q_rank ? h * q_rank + q_rank * q : h * q);
    add_matrix(a, h * down_kv + kv_rank * heads * (1.0 * latent.nope_dim + v_dim));
    add_matrix(a, 1.0 * heads * v_dim * h);
    add_vectors(a, q_rank + kv_rank); // norms of the latents
    if (bias) add_vectors(a, q_rank + down_kv + h);
    return a;
}

Attention lightning_attention(HeadLayout const& l)
{
    Attention a;
    a.kind = AttentionKind::lightning;
    a.heads = a.kv_heads = l.heads;
    a.qk_dim = a.v_dim = l.head_dim;
    double const width = 1.0 * l.heads * l.head_dim;
    add_matrix(a, 5 * l.hidden * width);
    add_vectors(a, width);
    return a;
}

Attention gated_delta_net(int hidden, DeltaNetSizes const& s)
{
    Attention a;
    a.kind = AttentionKind::delta_net;
    a.heads = s.value_heads;
    a.kv_heads = s.key_heads;
    a.qk_dim = s.key_dim;
    a.v_dim = s.value_dim;
    double const h = hidden, keys = 1.0 * s.key_heads * s.key_dim, values = 1.0 * s.value_heads * s.value_dim;
    add_matrix(a, h * (2 * keys + 2 * values));        // q, k, v and the output gate
    add_matrix(a, h * 2 * s.value_heads);              // decay and writing strength, one number a head
    add_matrix(a, (2 * keys + values) * s.conv_width); // depthwise, two FLOPs a weight as well
    add_matrix(a, values * h);
    add_vectors(a, 2.0 * s.value_heads + s.value_dim); // decay constants, time bias, output norm
    return a;
}

Attention without_kv(Attention a, int hidden, ProjectionBias bias)
{
    a.owns_kv = false;
    add_matrix(a, -1.0 * hidden * kv_biases(a));
    if (bias.qkv) add_vectors(a, -kv_biases(a));
    return a;
}

FeedForward dense_ffn(int hidden, int width, bool gated, bool bias)
{
    FeedForward f;
    f.width = width;
    f.gated = gated;
    f.matrix_parameters = ffn_matrices(hidden, width, gated);
    f.parameters = f.matrix_parameters + (bias ? ffn_biases(hidden, width, gated) : 0);
    f.active_parameters = f.parameters;
    return f;
}

FeedForward moe_ffn(int hidden, Experts experts, MoeOptions const& o)
{
    double const expert_matrices = ffn_matrices(hidden, experts.width, o.gated);
    double const expert = expert_matrices + (o.expert_bias ? ffn_biases(hidden, experts.width, o.gated) : 0);
    double const router = o.router_matrix.value_or(1.0 * hidden * experts.count);
    double const always = ffn_matrices(hidden, experts.shared_width, o.gated) + (o.shared_gate ? hidden : 0) +
                          ffn_matrices(hidden, o.residual_width, o.gated);
    experts.router_parameters = router + (o.router_bias ? experts.count : 0);

    FeedForward f;
    f.gated = o.gated;
    f.residual_width = o.residual_width;
    f.expert_parameters = experts.count * expert;
    f.parameters = f.expert_parameters + always + experts.router_parameters;
    f.active_parameters = experts.top_k * expert + always + experts.router_parameters;
    f.matrix_parameters = experts.top_k * expert_matrices + always + router;
    f.experts = experts;
    return f;
}

std::vector<Layer> mtp_modules(Architecture const& model, int count)
{
    if (count == 0 || model.layers.empty()) return {};
    auto layer = model.layers.back();
    layer.norm_parameters += 3.0 * model.hidden;
    return std::vector<Layer>(static_cast<std::size_t>(count), layer);
}

} // namespace trainfare
