// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/call_log.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

char const* word(Element e)
{
    switch (e) {
    case Element::f32: return "f32";
    case Element::bf16: return "bf16";
    case Element::e4m3: return "e4m3";
    case Element::i32: return "i32";
    }
    return "";
}

double bytes_each(Element e) { return e == Element::e4m3 ? 1 : e == Element::bf16 ? 2 : 4; }

double bytes_of(Tensor const& t) { return bytes_each(t.element) * static_cast<double>(t.size()); }

/// " f32 bf16"
std::string elements(std::vector<Operand> const& operands)
{
    std::string out;
    for (auto const& x : operands) out += std::string{" "} + word(x.values.element);
    return out;
}

std::string product(char const* name, Form form, Tensor const& c, Operand const& a, Operand const& b, bool accumulate)
{
    char const* const forms[]{"nt", "nn", "tn"};
    return fmt::format("{} {}{}{}", name, forms[static_cast<int>(form)], elements({c, a, b}),
                       accumulate && c.element == Element::f32 ? " +" : "");
}

Call product_call(std::string kind, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t groups)
{
    return {std::move(kind),
            {m, n, k, groups},
            2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) *
                static_cast<double>(groups)};
}

/// Half the square is masked; the backward has five products in place of two.
Call attention_call(char const* kind, AttentionShape const& s, double passes)
{
    double const seq = s.seq, heads = s.heads, batch = s.batch;
    return {kind,
            {s.batch, s.seq, s.heads, s.kv_heads, s.qk_dim, s.v_dim},
            passes * batch * heads * seq * seq * (s.qk_dim + s.v_dim)};
}

} // namespace

std::string Call::text() const
{
    std::string out = kind;
    for (std::size_t i = 0; i < sizes.size(); ++i) out += fmt::format("{}{}", i == 0 ? " " : "x", sizes[i]);
    return out;
}

double distance(Call const& a, Call const& b)
{
    double sum = 0;
    for (std::size_t i = 0; i < a.sizes.size() && i < b.sizes.size(); ++i)
        sum += std::abs(std::log(static_cast<double>(std::max<std::int64_t>(1, a.sizes[i])) /
                                 static_cast<double>(std::max<std::int64_t>(1, b.sizes[i]))));
    return sum;
}

bool alike(Call const& a, Call const& b)
{
    return a.kind == b.kind && a.sizes.size() == b.sizes.size() && distance(a, b) < 0.05;
}

void CallLog::moves(std::string kind, std::vector<std::int64_t> sizes, std::vector<Operand> const& operands)
{
    double bytes = 0;
    for (auto const& x : operands) bytes += bytes_of(x.values) + bytes_of(x.scales);
    calls.push_back({std::move(kind), std::move(sizes), bytes});
}

// --- what computes nothing ------------------------------------------------------------------------------------------

Tensor CallLog::make(Element element, std::int64_t rows, std::int64_t cols)
{
    if (inner_) return inner_->make(element, rows, cols);
    Tensor t;
    t.element = element, t.rows = rows, t.cols = t.pitch = cols;
    if (element != Element::i32) { // never read: only whether a tensor is empty, or the same as another, matters
        t.owner = std::make_shared<std::byte>(), t.data = t.owner.get();
        return t;
    }
    auto const numbers = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(rows * cols) + 1);
    t.bytes_each = sizeof(std::int32_t), t.data = numbers->data(), t.owner = numbers;
    return t;
}

void CallLog::upload(Tensor const& to, std::span<float const> x)
{
    if (inner_) inner_->upload(to, x);
}
void CallLog::upload(Tensor const& to, std::span<std::int32_t const> x)
{
    if (inner_) return inner_->upload(to, x);
    std::copy(x.begin(), x.end(), static_cast<std::int32_t*>(to.data));
}
void CallLog::upload_bytes(Tensor const& to, std::span<std::byte const> x)
{
    if (inner_) inner_->upload_bytes(to, x);
}
std::vector<double> CallLog::download(Tensor const& t)
{
    return inner_ ? inner_->download(t) : std::vector<double>(static_cast<std::size_t>(t.size()));
}
std::vector<std::int32_t> CallLog::download_ints(Tensor const& t)
{
    if (inner_) return inner_->download_ints(t);
    auto const* const first = static_cast<std::int32_t const*>(t.data);
    return {first, first + t.size()};
}
std::vector<std::byte> CallLog::download_bytes(Tensor const& t)
{
    return inner_ ? inner_->download_bytes(t) : std::vector<std::byte>(static_cast<std::size_t>(bytes_of(t)));
}
void CallLog::normal(Tensor const& t, float mean, float deviation, std::uint64_t seed)
{
    if (inner_) inner_->normal(t, mean, deviation, seed);
}
void CallLog::use(Stream s)
{
    if (inner_) inner_->use(s);
}
Event CallLog::record()
{
    records.push_back(calls.size());
    return inner_ ? inner_->record() : std::make_shared<int>(0);
}
void CallLog::wait(Event const& e)
{
    if (inner_) inner_->wait(e);
}
void CallLog::synchronise()
{
    if (inner_) inner_->synchronise();
}
double CallLog::seconds(Event const& from, Event const& to) { return inner_ ? inner_->seconds(from, to) : 0; }
std::unique_ptr<Graph> CallLog::capture(std::function<void()> const&)
{
    throw InternalError("capture: a log of calls has no graphs");
}

// --- what it writes down, in the order of kernels/backend.hpp
// -----------------------------------------------------------

void CallLog::fill(Tensor const& t, float value)
{
    moves("fill", {t.size()}, {t});
    if (inner_) inner_->fill(t, value);
}

void CallLog::copy(Tensor const& to, Tensor const& from)
{
    bool const converts = to.element != from.element;
    moves(converts ? "copy" + elements({to, from}) : "copy", {static_cast<std::int64_t>(bytes_of(to))}, {to, from});
    if (inner_) return inner_->copy(to, from);
    if (to.element == Element::i32 && from.element == Element::i32) {
        auto const* const first = static_cast<std::int32_t const*>(from.data);
        std::copy(first, first + from.size(), static_cast<std::int32_t*>(to.data));
    }
}

void CallLog::gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, bool accumulate)
{
    auto const k = form == Form::tn ? a.values.rows : a.values.cols;
    calls.push_back(product_call(product("gemm", form, c, a, b, accumulate), c.rows, c.cols, k, 1));
    if (inner_) inner_->gemm(c, a, b, form, accumulate);
}

void CallLog::grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, Groups const& groups,
                           bool accumulate)
{
    auto const count = static_cast<std::int64_t>(groups.count());
    std::int64_t rows = 0;
    for (auto const r : groups.rows) rows += r;
    rows = (rows + count / 2) / std::max<std::int64_t>(1, count); // padding is the kernel's affair
    auto kind = product("grouped_gemm", form, c, a, b, accumulate);
    calls.push_back(form == Form::tn
                        ? product_call(kind, c.rows / std::max<std::int64_t>(1, count), c.cols, rows, count)
                        : product_call(kind, rows, c.cols, a.values.cols, count));
    if (inner_) inner_->grouped_gemm(c, a, b, form, groups, accumulate);
}

void CallLog::attention(AttentionShape const& s, Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& o,
                        Tensor const& log_sum)
{
    calls.push_back(attention_call("attention", s, 1));
    if (inner_) inner_->attention(s, q, k, v, o, log_sum);
}

void CallLog::attention_backward(AttentionShape const& s, Tensor const& d_o, Tensor const& q, Tensor const& k,
                                 Tensor const& v, Tensor const& o, Tensor const& log_sum, Tensor const& d_q,
                                 Tensor const& d_k, Tensor const& d_v)
{
    calls.push_back(attention_call(s.deterministic ? "attention_backward" : "attention_backward free", s, 2.5));
    if (inner_) inner_->attention_backward(s, d_o, q, k, v, o, log_sum, d_q, d_k, d_v);
}

void CallLog::add(Tensor const& to, Tensor const& x)
{
    moves("add" + elements({to}), {to.size()}, {to, to, x});
    if (inner_) inner_->add(to, x);
}

void CallLog::rms_norm(Tensor const& x, Tensor const& weight, float eps, Tensor const& y, Tensor const& rstd)
{
    moves("rms_norm", {x.rows, x.cols}, {x, y});
    if (inner_) inner_->rms_norm(x, weight, eps, y, rstd);
}

void CallLog::add_rms_norm(Tensor const& residual, Tensor const& delta, Tensor const& weight, float eps,
                           Tensor const& y, Tensor const& rstd)
{
    moves("add_rms_norm", {y.rows, y.cols}, {residual, residual, delta, y});
    if (inner_) inner_->add_rms_norm(residual, delta, weight, eps, y, rstd);
}

void CallLog::rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                                Tensor const& d_x, bool accumulate, Tensor const& d_weight)
{
    moves(accumulate ? "rms_norm_backward +" : "rms_norm_backward", {x.rows, x.cols}, {d_y, x, d_x});
    if (inner_) inner_->rms_norm_backward(d_y, x, weight, rstd, d_x, accumulate, d_weight);
}

void CallLog::rope(Rope const& r, Tensor const& x, bool inverse)
{
    moves("rope", {x.rows, r.heads, r.dim}, {x, x});
    if (inner_) inner_->rope(r, x, inverse);
}

void CallLog::latent_heads(LatentHeads const& h, Tensor const& q, Tensor const& kv, Tensor const& k_rope,
                           Tensor const& k, Tensor const& v)
{
    moves("latent_heads", {q.rows, h.heads, h.nope, h.rope, h.v}, {q, kv, k, v});
    if (inner_) inner_->latent_heads(h, q, kv, k_rope, k, v);
}

void CallLog::latent_heads_backward(LatentHeads const& h, Tensor const& d_q, Tensor const& d_k, Tensor const& d_v,
                                    Tensor const& d_kv, Tensor const& d_k_rope)
{
    moves("latent_heads_backward", {d_q.rows, h.heads, h.nope, h.rope, h.v}, {d_q, d_k, d_v, d_kv});
    if (inner_) inner_->latent_heads_backward(h, d_q, d_k, d_v, d_kv, d_k_rope);
}

void CallLog::swiglu(Tensor const& gate_up, Tensor const& y)
{
    moves("swiglu", {y.rows, y.cols}, {gate_up, y});
    if (inner_) inner_->swiglu(gate_up, y);
}

void CallLog::swiglu_quantise(Tensor const& gate_up, Operand const& y)
{
    moves("swiglu_quantise", {y.values.rows, y.values.cols}, {gate_up, y});
    if (inner_) inner_->swiglu_quantise(gate_up, y);
}

void CallLog::swiglu_backward(Tensor const& d_y, Tensor const& gate_up, Tensor const& d_gate_up)
{
    moves("swiglu_backward", {d_y.rows, d_y.cols}, {d_y, gate_up, d_gate_up});
    if (inner_) inner_->swiglu_backward(d_y, gate_up, d_gate_up);
}

void CallLog::quantise(Tensor const& x, Operand const& row, Operand const& transposed)
{
    moves(transposed.values.empty() ? "quantise" : "quantise both", {x.rows, x.cols}, {x, row, transposed});
    if (inner_) inner_->quantise(x, row, transposed);
}

void CallLog::quantise_blocks(Tensor const& w, Operand const& blocks, Operand const& transposed)
{
    moves("quantise_blocks", {w.rows, w.cols}, {w, blocks, transposed});
    if (inner_) inner_->quantise_blocks(w, blocks, transposed);
}

void CallLog::transpose_quantised(Operand const& from, Operand const& to)
{
    moves("transpose_quantised", {from.values.rows, from.values.cols}, {from, to});
    if (inner_) inner_->transpose_quantised(from, to);
}

void CallLog::transpose(Tensor const& from, Tensor const& to)
{
    moves("transpose", {from.rows, from.cols}, {from, to});
    if (inner_) inner_->transpose(from, to);
}

void CallLog::gate(Gate const& g, Tensor const& logits, Tensor const& bias, Tensor const& forced, Tensor const& chosen,
                   Tensor const& weights, Tensor const& counts)
{
    moves("gate", {logits.rows, logits.cols, g.top_k}, {logits, chosen, weights});
    if (inner_) inner_->gate(g, logits, bias, forced, chosen, weights, counts);
}

void CallLog::gate_backward(Gate const& g, Tensor const& logits, Tensor const& chosen, Tensor const& d_weights,
                            Tensor const& d_logits)
{
    moves("gate_backward", {logits.rows, logits.cols, g.top_k}, {logits, chosen, d_weights, d_logits});
    if (inner_) inner_->gate_backward(g, logits, chosen, d_weights, d_logits);
}

void CallLog::balance(Tensor const& bias, Tensor const& counts, float rate)
{
    moves("balance", {bias.size()}, {bias, counts});
    if (inner_) inner_->balance(bias, counts, rate);
}

void CallLog::sort_rows(Tensor const& keys, int buckets, std::int64_t alignment, Tensor const& position,
                        Tensor const& source, Tensor const& counts)
{
    moves("sort_rows", {keys.size(), buckets}, {keys, keys, keys}); // positions and sources: one for each key
    if (inner_) inner_->sort_rows(keys, buckets, alignment, position, source, counts);
}

void CallLog::gather_rows(Operand const& x, Tensor const& source, int divide, Operand const& y)
{
    moves("gather_rows" + elements({y}), {y.values.rows, y.values.cols}, {y, y});
    if (inner_) inner_->gather_rows(x, source, divide, y);
}

void CallLog::combine_rows(Tensor const& rows, Tensor const& position, Tensor const& weights, int k, Tensor const& y)
{
    moves("combine_rows", {y.rows, y.cols, k}, {rows, y});
    if (inner_) inner_->combine_rows(rows, position, weights, k, y);
}

void CallLog::combine_rows_backward(Tensor const& d_y, Tensor const& rows, Tensor const& position,
                                    Tensor const& weights, int k, Tensor const& d_rows, Tensor const& d_weights)
{
    moves("combine_rows_backward", {d_y.rows, d_y.cols, k}, {d_y, rows, d_rows});
    if (inner_) inner_->combine_rows_backward(d_y, rows, position, weights, k, d_rows, d_weights);
}

void CallLog::embedding_backward(Tensor const& d_y, Tensor const& ids, Tensor const& d_table)
{
    moves("embedding_backward", {d_y.rows, d_y.cols, d_table.rows}, {d_y, d_y, d_y});
    if (inner_) inner_->embedding_backward(d_y, ids, d_table);
}

void CallLog::cross_entropy(Tensor const& logits, Tensor const& targets, float grad_scale, Tensor const& loss)
{
    moves("cross_entropy" + elements({logits}), {logits.rows, logits.cols}, {logits, logits});
    if (inner_) inner_->cross_entropy(logits, targets, grad_scale, loss);
}

void CallLog::adamw(AdamW const& options, Tensor const& step, Tensor const& grad_scale, Tensor const& master,
                    Tensor const& moment1, Tensor const& moment2, Tensor const& grad, Tensor const& weights)
{
    moves("adamw" + elements({moment1}), {master.size()},
          {master, master, moment1, moment1, moment2, moment2, grad, weights});
    if (inner_) inner_->adamw(options, step, grad_scale, master, moment1, moment2, grad, weights);
}

void CallLog::increment(Tensor const& counter)
{
    moves("increment", {counter.size()}, {counter});
    if (inner_) inner_->increment(counter);
}

void CallLog::sum(Tensor const& x, Tensor const& out, bool squares)
{
    moves("sum", {x.size()}, {x});
    if (inner_) inner_->sum(x, out, squares);
}

void CallLog::clip_scale(Tensor const& sum_of_squares, float limit, Tensor const& out)
{
    moves("clip_scale", {1}, {out});
    if (inner_) inner_->clip_scale(sum_of_squares, limit, out);
}

} // namespace trainfare::measure
