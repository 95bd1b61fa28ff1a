// SPDX-License-Identifier: Apache-2.0
//
// What the real step can run, and two models small enough to learn something within seconds on a CPU.
#include "kernels/step/config.hpp"

#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "model/parts.hpp"

namespace trainfare::kernels {
namespace {

using Reasons = std::vector<std::string>;

constexpr int most = 1 << 24; // of any size: far beyond all models, and products of two stay far from overflow

void size(Reasons& out, std::string const& what, std::int64_t value, std::int64_t least = 1)
{
    if (value < least || value > most)
        out.push_back(fmt::format("{} is {} (it must be {} to {}); try another", what, value, least, most));
}

/// bf16 rows of 16 bytes are what GPU loads need; fp8 has a scale per 128 columns.
void width(Reasons& out, std::string const& what, std::int64_t value, bool fp8)
{
    int const unit = fp8 ? 128 : 8;
    if (value > 0 && value % unit != 0)
        out.push_back(fmt::format("{} is {}, no multiple of {} ({}); {}", what, value, unit,
                                  fp8 ? "fp8_block scales 128 columns together" : "the GPU reads 16 bytes at once",
                                  fp8 ? "round it, or use precision bf16" : "round it"));
}

bool finite_positive(double x) { return std::isfinite(x) && x > 0; }
bool fraction(double x) { return x >= 0 && x < 1; }

void check_attention(Reasons& out, Attention const& a, StepConfig const& c, std::string const& where)
{
    auto refuse = [&](std::string const& what,
                      std::string const& advice = "choose a model with full MHA, GQA, MQA or MLA attention") {
        out.push_back(where + ": " + what + "; " + advice);
    };
    bool const latent = a.kind == AttentionKind::mla;
    if (a.kind == AttentionKind::lightning || a.kind == AttentionKind::delta_net)
        return refuse(
            fmt::format("{} attention is not in the step (it needs kernels of its own)", trainfare::name(a.kind)));
    if (latent != a.latent.has_value())
        return refuse("sizes of latent attention and its kind do not agree (both or neither)");
    if (a.window || a.chunked) refuse("attention sees a window only (the step's kernel reads all keys)");
    if (a.sparse_top_k || a.indexer_width) refuse("attention picks its keys (the step has no indexer)");
    if (!a.owns_kv) refuse("keys and values come from an earlier layer (the step keeps none across layers)");
    for (auto const& [what, n] :
         {std::pair{"heads", a.heads}, {"kv_heads", a.kv_heads}, {"qk_dim", a.qk_dim}, {"v_dim", a.v_dim}})
        size(out, where + ": " + what, n);
    if (a.heads < 1 || a.kv_heads < 1 || a.qk_dim < 1 || a.v_dim < 1) return;
    if (a.heads % a.kv_heads != 0)
        refuse(fmt::format("{} heads do not share {} key heads evenly (each serves as many)", a.heads, a.kv_heads));
    bool const fp8 = c.precision == Precision::fp8_block;
    auto const h = 1.0 * c.model.hidden, q = 1.0 * a.heads * a.qk_dim, values = 1.0 * a.heads * a.v_dim;
    width(out, where + ": qk_dim", a.qk_dim, false);
    width(out, where + ": v_dim", a.v_dim, false);
    width(out, where + ": heads x v_dim", std::int64_t{a.heads} * a.v_dim, fp8);
    double matrices = h * (q + values), vectors = 0;
    if (latent) {
        auto const& l = *a.latent;
        size(out, where + ": kv_rank", l.kv_rank);
        size(out, where + ": nope_dim", l.nope_dim, 0);
        size(out, where + ": rope_dim", l.rope_dim, 2);
        if (l.q_rank) size(out, where + ": q_rank", *l.q_rank);
        if (l.rope_dim % 2 != 0)
            refuse(fmt::format("rope_dim is {} (rotation turns pairs)", l.rope_dim), "make it even");
        if (l.nope_dim + l.rope_dim != a.qk_dim)
            refuse(fmt::format("nope_dim + rope_dim is {}, qk_dim {} (they are the same columns)",
                               l.nope_dim + l.rope_dim, a.qk_dim),
                   "correct one");
        if (a.kv_heads != a.heads)
            refuse("latent attention has kv_heads other than heads (each head has keys of its own)", "make them equal");
        width(out, where + ": kv_rank", l.kv_rank, fp8);
        width(out, where + ": rope_dim", l.rope_dim, false);
        width(out, where + ": nope_dim", l.nope_dim, false);
        width(out, where + ": q_rank", l.q_rank.value_or(0), fp8);
        width(out, where + ": heads x qk_dim", std::int64_t{a.heads} * a.qk_dim, fp8);
        width(out, where + ": heads x (nope_dim + v_dim)", std::int64_t{a.heads} * (l.nope_dim + a.v_dim), fp8);
        double const rank = l.q_rank.value_or(0);
        matrices = (l.q_rank ? rank * (h + q) : h * q) + h * (l.kv_rank + l.rope_dim) +
                   1.0 * l.kv_rank * a.heads * (l.nope_dim + a.v_dim) + h * values;
        vectors = rank + l.kv_rank;
    } else {
        matrices += h * a.kv_heads * (a.qk_dim + a.v_dim);
    }
    if (a.matrix_parameters != matrices || a.parameters != matrices + vectors)
        refuse(fmt::format(
            "it has {:.0f} weights, of which the step knows {:.0f} (biases, gates or norms of heads are not in it)",
            a.parameters, matrices + vectors));
}

void check_experts(Reasons& out, Experts const& e, StepConfig const& c, std::string const& where)
{
    bool const fp8 = c.precision == Precision::fp8_block;
    for (auto const& [what, n] : {std::pair{"experts", e.count},
                                  {"top_k", e.top_k},
                                  {"expert width", e.width},
                                  {"groups", e.groups},
                                  {"top_groups", e.top_groups}})
        size(out, where + ": " + what, n);
    if (e.count < 1 || e.top_k < 1 || e.groups < 1 || e.top_groups < 1) return;
    width(out, where + ": expert width", e.width, fp8);
    size(out, where + ": shared expert's width", e.shared_width, 0);
    width(out, where + ": shared expert's width", e.shared_width, fp8);
    width(out, where + ": experts", e.count, false);
    if (e.count % e.groups != 0 || e.top_groups > e.groups || e.top_k > e.count / e.groups * e.top_groups)
        out.push_back(fmt::format("{}: {} of {} experts cannot be chosen from {} of {} groups (a token meets each "
                                  "expert once); change top_k or "
                                  "the groups",
                                  where, e.top_k, e.count, e.top_groups, e.groups));
    for (auto const& [what, ranks] : {std::pair{"ep", c.ep}, {"emulated_ep", c.emulated_ep}})
        if (ranks > 0 && e.count % ranks != 0)
            out.push_back(
                fmt::format("{}: {} experts do not divide over {} = {} ranks (all hold as many); choose a divisor",
                            where, e.count, what, ranks));
}

void check_ffn(Reasons& out, FeedForward const& f, StepConfig const& c, std::string const& where)
{
    auto refuse = [&](std::string const& what) { out.push_back(where + ": " + what + "; choose a model without"); };
    if (!f.gated) refuse("the feed-forward part has no gate (the step has SwiGLU only)");
    if (f.residual_width > 0) refuse("a dense network runs beside the experts (the step has a shared expert only)");
    auto const h = 1.0 * c.model.hidden;
    double known = 3 * h * f.width, bias = 0;
    if (f.experts) {
        auto const& e = *f.experts;
        check_experts(out, e, c, where);
        known = 3 * h * (1.0 * e.count * e.width + e.shared_width) + h * e.count;
        bias = e.count; // of the gate: may be counted or not
    } else {
        size(out, where + ": feed-forward width", f.width);
        width(out, where + ": feed-forward width", f.width, c.precision == Precision::fp8_block);
    }
    if (f.gated && f.residual_width == 0 && f.parameters != known && f.parameters != known + bias)
        refuse(fmt::format("the feed-forward part has {:.0f} weights, of which the step knows {:.0f} (biases and gated "
                           "shared experts are "
                           "not in it)",
                           f.parameters, known));
}

void check_model(Reasons& out, StepConfig const& c)
{
    auto const& m = c.model;
    size(out, "hidden", m.hidden, 8);
    size(out, "vocab", m.vocab, 2);
    width(out, "hidden", m.hidden, c.precision == Precision::fp8_block);
    width(out, "vocab", m.vocab, false);
    if (m.layers.empty()) out.push_back("the model has no layers (there is nothing to train); give it one");
    if (m.max_positions > 0)
        out.push_back(
            "the model learns its positions (the step rotates instead); choose a model with rotary positions");
    if (m.other_parameters > m.hidden)
        out.push_back("the model has parameters outside its layers besides the final norm (a bias of the head?); "
                      "choose a model without");
    std::optional<Experts> first;
    auto check_layers = [&](std::vector<Layer> const& layers, std::string const& name) {
        for (std::size_t i = 0; i < layers.size(); ++i) {
            auto const where = fmt::format("{} {}", name, i);
            check_attention(out, layers[i].attention, c, where);
            check_ffn(out, layers[i].ffn, c, where);
            auto const& e = layers[i].ffn.experts;
            if (e && first && (e->count != first->count || e->top_k != first->top_k))
                out.push_back(fmt::format(
                    "{}: {} of {} experts, other layers {} of {} (a routing has one shape); make them alike", where,
                    e->top_k, e->count, first->top_k, first->count));
            if (e && !first) first = e;
            if (out.size() > 20) return; // a layer is wrong like the others
        }
    };
    check_layers(m.layers, "layer");
    check_layers(m.mtp, "MTP module");
    auto const tokens = std::int64_t{std::min(c.micro_batch, most)} * std::min(c.seq_len, most);
    if (tokens > (std::int64_t{1} << 31) / 8 / (first ? std::max(1, first->top_k) : 1))
        out.push_back(
            fmt::format("a micro-batch of {} tokens is too large (rows are counted in 32 bits); try 16384", tokens));
    if (c.precision == Precision::fp8_block && tokens % 128 != 0)
        out.push_back(fmt::format("a micro-batch has {} tokens, no multiple of 128 (fp8_block scales 128 of them "
                                  "together for weight gradients); "
                                  "change seq_len",
                                  tokens));
}

void check_numbers(Reasons& out, StepConfig const& c)
{
    auto need = [&](bool right, char const* what, double value, char const* range) {
        if (!right) out.push_back(fmt::format("{} is {} (it must be {}); choose another", what, value, range));
    };
    need(finite_positive(c.gate_scale), "gate_scale", c.gate_scale, "above 0");
    need(c.rope_base > 1 && std::isfinite(c.rope_base), "rope_base", c.rope_base, "above 1");
    need(finite_positive(c.norm_eps), "norm_eps", c.norm_eps, "above 0");
    need(finite_positive(c.init_deviation), "init_deviation", c.init_deviation, "above 0");
    need(std::isfinite(c.adam.lr) && c.adam.lr >= 0, "learning rate", c.adam.lr, "0 or more");
    need(fraction(c.adam.beta1), "beta1", c.adam.beta1, "from 0 to below 1");
    need(fraction(c.adam.beta2), "beta2", c.adam.beta2, "from 0 to below 1");
    need(finite_positive(c.adam.eps), "eps of AdamW", c.adam.eps, "above 0");
    need(std::isfinite(c.adam.weight_decay) && c.adam.weight_decay >= 0, "weight_decay", c.adam.weight_decay,
         "0 or more");
    need(std::isfinite(c.clip) && c.clip >= 0, "clip", c.clip, "0 (none) or more");
    need(std::isfinite(c.balance_rate) && c.balance_rate >= 0, "balance_rate", c.balance_rate, "0 (none) or more");
    need(std::isfinite(c.mtp_weight) && c.mtp_weight >= 0, "mtp_weight", c.mtp_weight, "0 or more");
}

/// 64 wide, 4 heads, 8 experts of which a token meets 2, 64 tokens.
Architecture tiny(Attention const& attention, Experts const& experts, int mtp)
{
    Architecture m;
    m.model_type = "toml";
    m.hidden = 64, m.vocab = 64;
    m.other_parameters = m.hidden;
    m.layers = {{attention, dense_ffn(m.hidden, 128), 2.0 * m.hidden},
                {attention, moe_ffn(m.hidden, experts), 2.0 * m.hidden}};
    m.mtp = mtp_modules(m, mtp);
    return m;
}

} // namespace

std::vector<std::string> check(StepConfig const& c, int ranks)
{
    Reasons out;
    size(out, "number of ranks", ranks);
    for (auto const& [what, n] : {std::pair{"seq_len", c.seq_len},
                                  {"micro_batch", c.micro_batch},
                                  {"micro_batches", c.micro_batches},
                                  {"ep", c.ep},
                                  {"emulated_ep", c.emulated_ep},
                                  {"head_rows", c.head_rows}})
        size(out, what, n);
    size(out, "comm_sms", c.comm_sms, 0);
    if (c.precision != Precision::bf16 && c.precision != Precision::fp8_block)
        out.push_back(fmt::format(
            "precision {} is not in the step (its products are bf16 or fp8 in blocks); use bf16 or fp8_block",
            trainfare::name(c.precision)));
    if (c.moments != Element::f32 && c.moments != Element::bf16)
        out.push_back("moments are neither f32 nor bf16; choose one of them");
    if (ranks > 0 && c.ep > 0 && ranks % c.ep != 0)
        out.push_back(fmt::format(
            "ep = {} does not divide {} ranks (every group of ep ranks holds all experts); choose a divisor", c.ep,
            ranks));
    if (c.ep > 1 && c.emulated_ep > 1)
        out.push_back(
            "ep and emulated_ep are both above 1 (experts are either on other ranks or only played); choose one");
    check_numbers(out, c);
    check_model(out, c);
    return out;
}

Architecture tiny_model()
{
    Experts experts;
    experts.count = 8, experts.top_k = 2, experts.width = 32, experts.shared_width = 32;
    experts.groups = 4, experts.top_groups = 2;
    auto m = tiny(latent_attention(64, 4, 16, {32, 32, 16, 8}), experts, 1);
    m.name = "tiny";
    return m;
}

Architecture tiny_gqa_model()
{
    Experts experts;
    experts.count = 8, experts.top_k = 2, experts.width = 32;
    auto m = tiny(softmax_attention({64, 4, 2, 16}), experts, 0);
    m.name = "tiny-gqa";
    return m;
}

} // namespace trainfare::kernels
