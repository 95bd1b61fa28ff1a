// SPDX-License-Identifier: Apache-2.0
//
// Everything the training step asks of a machine. Three implementations: `cpu` (float loops that round where a GPU would), `ref`
// (the same loops in double, no rounding) and `cuda`. The host code of the step is written once, against this interface.
//
// Shapes are [rows, columns]. Tensors are bf16 unless said otherwise. T tokens, h hidden, E experts, k experts of a token,
// P rows in expert order, padding included. "accumulate": the result is added to what is there. No operation allocates its results;
// none is in place unless it says so. Wrong shapes are programming errors: @throws InternalError naming the operation.
// Every operation is deterministic: same input, same bits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/tensor.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {

/// This back-end has no way to run an operation on this shape or type; a calibration records it and goes on.
class Unsupported : public InternalError {
public:
    using InternalError::InternalError;
};

/// Queues of work that run beside each other on a GPU; on a host they are one.
enum class Stream : std::uint8_t { compute, exchange, gradients };

/// A point in a queue, to wait for or to time from.
using Event = std::shared_ptr<void>;

/// Work recorded once and run again with the same tensors (a CUDA graph; on a host the function itself).
class Graph {
public:
    virtual ~Graph() = default;
    virtual void replay() = 0;
};

/// c = a b with c[m,n]. nt: a[m,k] b[n,k]; nn: a[m,k] b[k,n]; tn: a[k,m] b[k,n]. Quantised operands: nt only.
enum class Form : std::uint8_t { nt, nn, tn };

struct AttentionShape {
    int batch = 1, seq = 0;  // T = batch x seq rows, sequence by sequence
    int heads = 0, kv_heads = 0, qk_dim = 0, v_dim = 0;
    bool causal = true;
    float scale = 0;         // of the scores; 1/sqrt(qk_dim) as a rule
    bool deterministic = true; // backward: same bits every time; false only to time what that costs
};

/// Rotary position embedding on @p dim columns from @p first of each head; a pair is (i, i + dim/2). Position = row % seq.
struct Rope {
    int seq = 0, heads = 0, width = 0; // columns of one head
    int first = 0, dim = 0;
    float base = 10000;
};

/// Heads of multi-head latent attention: each has nope columns without and rope columns with rotation, and v columns of values.
struct LatentHeads {
    int seq = 0, heads = 0, nope = 0, rope = 0, v = 0;
    float base = 10000;
};

/// softmax: probabilities over all experts. sigmoid: DeepSeek-V3 (arXiv:2412.19437 s2.1.2): scores + bias choose, scores weigh.
struct Gate {
    enum class Score : std::uint8_t { softmax, sigmoid } score = Score::sigmoid;
    int experts = 0, top_k = 0;
    int groups = 1, top_groups = 1; // a group's rank is the sum of its two best (one, if it has one) biased scores
    bool normalise = true;          // weights of a token sum to `scale`; else they are scores x scale
    float scale = 1;
};

struct AdamW {
    float lr = 1e-3F, beta1 = 0.9F, beta2 = 0.95F, eps = 1e-8F, weight_decay = 0.1F;
};

class Backend {
public:
    virtual ~Backend() = default;
    [[nodiscard]] virtual std::string_view name() const = 0; // "cpu", "ref", "cuda"

    // --- memory -----------------------------------------------------------------------------------------------
    /// Uninitialised. Freed with the last copy, for work queued later on the compute stream. What another stream uses must be kept
    /// until that stream was waited for, and that stream must wait for an event of the compute stream recorded after make().
    virtual Tensor make(Element, std::int64_t rows, std::int64_t cols) = 0;
    virtual void upload(Tensor const& to, std::span<float const>) = 0;        // f32, bf16 (rounded)
    virtual void upload(Tensor const& to, std::span<std::int32_t const>) = 0; // i32
    virtual std::vector<double> download(Tensor const&) = 0;                  // any element; waits
    virtual std::vector<std::int32_t> download_ints(Tensor const&) = 0;       // i32; waits
    virtual std::vector<std::byte> download_bytes(Tensor const&) = 0;         // as stored; waits
    virtual void upload_bytes(Tensor const& to, std::span<std::byte const>) = 0;
    virtual void fill(Tensor const&, float) = 0;                              // f32, bf16, i32
    virtual void copy(Tensor const& to, Tensor const& from) = 0;              // one shape, column ranges too; f32 <-> bf16
    /// Normal numbers from a counter-based generator: element i depends on (seed, i) alone, alike on every back-end to rounding.
    virtual void normal(Tensor const&, float mean, float deviation, std::uint64_t seed) = 0; // f32, bf16

    // --- order and time ---------------------------------------------------------------------------------------
    virtual void use(Stream) = 0;                 // what follows is queued there
    virtual Event record() = 0;                   // on the stream in use
    virtual void wait(Event const&) = 0;          // the stream in use waits
    virtual void synchronise() = 0;               // the caller waits for all streams
    virtual double seconds(Event const& from, Event const& to) = 0; // waits for both
    /// Records what @p work queues. Inside, nothing may wait (download, synchronise). One warm-up run must have come before.
    virtual std::unique_ptr<Graph> capture(std::function<void()> const& work) = 0;
    /// SMs that computing may use from now on; 0: all. Matrix products and the grids of own kernels keep to it.
    virtual void limit_sms(int) {}
    /// What limit_sms() allows, else all there are; 0 on a host.
    [[nodiscard]] virtual int sms() const { return 0; }
    /// Off until called: products take the library's own first choice, which depends on their shape alone. On: each new shape
    /// tries the library's candidates once and keeps the fastest (never while capturing). Faster, but the last bits may then differ
    /// from run to run.
    virtual void tune_products(bool) {}
    /// Libraries that can run quantised grouped products nt here, by the name that calibration writes; empty on a host. The first is
    /// used until another is chosen.
    [[nodiscard]] virtual std::vector<std::string_view> grouped_libraries() const { return {}; }
    virtual void use_grouped_library(std::string_view) {}

    // --- matrix products --------------------------------------------------------------------------------------
    /// c bf16 or f32. a and b bf16, f32 (both) or quantised (nt). Plain tensors may be column ranges.
    virtual void gemm(Tensor const& c, Operand const& a, Operand const& b, Form, bool accumulate) = 0;
    /// One product per group. Plain: nt a[P,k] b[G n,k] c[P,n]; nn a[P,n] b[G n,k] c[P,k]; tn a[P,m] b[P,n] c[G m,n], where the
    /// group's rows are summed over. Quantised: nt as above (b block128, c bf16); tn stands for a[m,P] b[n,P] (both
    /// vector128, already transposed), c[G m,n]. Padding rows of a (tn: of a and b) must be zero. Those of c are then zero too
    /// (accumulating: what they were), whatever was there; rows of c beyond the last group are not touched. Quantised groups start
    /// at multiples of 128.
    virtual void grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, Form, Groups const&, bool accumulate) = 0;
    /// q [T, heads qk_dim], k [T, kv_heads qk_dim], v [T, kv_heads v_dim] (may be column ranges) -> o [T, heads v_dim],
    /// log_sum f32 [heads batch, seq] (natural logarithm; row: sequence x heads + head).
    virtual void attention(AttentionShape const&, Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& o,
                           Tensor const& log_sum) = 0;
    virtual void attention_backward(AttentionShape const&, Tensor const& d_o, Tensor const& q, Tensor const& k, Tensor const& v,
                                    Tensor const& o, Tensor const& log_sum, Tensor const& d_q, Tensor const& d_k,
                                    Tensor const& d_v) = 0; // d_q, d_k, d_v may be column ranges

    // --- small operations, each in kernels/ops/NAME.cpp (cpu, ref) and kernels/ops/NAME.cu -------------------------
    // add
    virtual void add(Tensor const& to, Tensor const& x) = 0; // to += x; bf16 or f32, same element
    // rms_norm: y = x rstd w, rstd f32 [1, T] = 1/sqrt(mean(x^2) + eps). x, y, dy, dx may be column ranges; weight bf16 [1, h].
    virtual void rms_norm(Tensor const& x, Tensor const& weight, float eps, Tensor const& y, Tensor const& rstd) = 0;
    /// residual += delta (in place, rounded), then y = norm(residual). One pass over memory.
    virtual void add_rms_norm(Tensor const& residual, Tensor const& delta, Tensor const& weight, float eps, Tensor const& y,
                              Tensor const& rstd) = 0;
    /// d_weight f32 [1, h] always accumulates; d_x accumulates on request (the residual's gradient is there already).
    virtual void rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                                   Tensor const& d_x, bool accumulate, Tensor const& d_weight) = 0;
    // rope
    virtual void rope(Rope const&, Tensor const& x, bool inverse) = 0; // in place; x may be a column range
    // latent_heads: q [T, heads (nope + rope)] is rotated in place; kv [T, heads (nope + v)] and k_rope [T, rope] (may be a
    // column range, shared by all heads) -> k [T, heads (nope + rope)], v [T, heads v].
    virtual void latent_heads(LatentHeads const&, Tensor const& q, Tensor const& kv, Tensor const& k_rope, Tensor const& k,
                              Tensor const& v) = 0;
    /// d_q in place; d_k, d_v -> d_kv, d_k_rope (summed over heads; may be a column range).
    virtual void latent_heads_backward(LatentHeads const&, Tensor const& d_q, Tensor const& d_k, Tensor const& d_v,
                                       Tensor const& d_kv, Tensor const& d_k_rope) = 0;
    // swiglu: gate_up [R, 2 I] (gate first) -> y [R, I] = silu(gate) up
    virtual void swiglu(Tensor const& gate_up, Tensor const& y) = 0;
    virtual void swiglu_quantise(Tensor const& gate_up, Operand const& y) = 0; // y vector128, never in memory as bf16
    virtual void swiglu_backward(Tensor const& d_y, Tensor const& gate_up, Tensor const& d_gate_up) = 0;
    // quantise: e4m3, scale = max|x|/448 of its block (1 where the block is zero). x [R, C] -> row [R, C] vector128 and,
    // if not empty, transposed [C, R] vector128, out of one read.
    virtual void quantise(Tensor const& x, Operand const& row, Operand const& transposed) = 0;
    /// Weights [N, K] -> blocks [N, K] block128 and transposed [K, N] block128 with the same scales.
    virtual void quantise_blocks(Tensor const& w, Operand const& blocks, Operand const& transposed) = 0;
    /// vector128 [R, C] -> vector128 [C, R]: other numbers share a scale, so it quantises again.
    virtual void transpose_quantised(Operand const& from, Operand const& to) = 0;
    // transpose: to = from^T, f32
    virtual void transpose(Tensor const& from, Tensor const& to) = 0;
    // gate: logits f32 [T, E], bias f32 [1, E] (empty: none), forced i32 [T, k] (empty: choose) -> chosen i32 [T, k] (ascending
    // score rank is not promised; equal scores: the lower index first), weights f32 [T, k], counts i32 [1, E].
    virtual void gate(Gate const&, Tensor const& logits, Tensor const& bias, Tensor const& forced, Tensor const& chosen,
                      Tensor const& weights, Tensor const& counts) = 0;
    virtual void gate_backward(Gate const&, Tensor const& logits, Tensor const& chosen, Tensor const& d_weights,
                               Tensor const& d_logits) = 0; // d_logits bf16 [T, E]
    /// bias += rate x sign(mean(counts) - counts): against the load (arXiv:2412.19437 s2.1.2).
    virtual void balance(Tensor const& bias, Tensor const& counts, float rate) = 0;
    // sort_rows: stable counting sort. keys i32 [1, N] in [0, buckets) -> position i32 [1, N] (where row i goes), source i32
    // [1, capacity] (which row came; -1 padding and beyond the end), counts i32 [1, buckets]. Each bucket starts at a multiple of
    // @p alignment. capacity = source.cols: room for all buckets with their padding. A host says if it has not; a GPU cannot, so rows
    // without room (or whose key is no bucket) get position -1.
    virtual void sort_rows(Tensor const& keys, int buckets, std::int64_t alignment, Tensor const& position, Tensor const& source,
                           Tensor const& counts) = 0;
    // permute: y[p] = x[source[p] / divide], zeros where source[p] < 0. Any element, i32 and f32 included; a vector128
    // operand moves with its scales.
    virtual void gather_rows(Operand const& x, Tensor const& source, int divide, Operand const& y) = 0;
    /// y[t] = sum_j weights[t,j] rows[position[t k + j]]; weights f32 [T, k], empty: all 1. A negative position adds nothing.
    virtual void combine_rows(Tensor const& rows, Tensor const& position, Tensor const& weights, int k, Tensor const& y) = 0;
    /// d_rows [P, h] (other rows zero; a row belongs to one position at most), d_weights f32 [T, k] (empty: not wanted).
    virtual void combine_rows_backward(Tensor const& d_y, Tensor const& rows, Tensor const& position, Tensor const& weights, int k,
                                       Tensor const& d_rows, Tensor const& d_weights) = 0;
    // embedding: backward adds d_y [T, h] to the f32 rows [V, h] named by ids i32 [1, T], in the order of T
    virtual void embedding_backward(Tensor const& d_y, Tensor const& ids, Tensor const& d_table) = 0;
    // cross_entropy: logits [C, V] (bf16 or f32) become their gradient x grad_scale in place; loss f32 [1, C] in nats. targets
    // i32 [1, C]; -1: no loss, no gradient.
    virtual void cross_entropy(Tensor const& logits, Tensor const& targets, float grad_scale, Tensor const& loss) = 0;
    // adamw: decoupled weight decay (arXiv:1711.05101). step i32 [1, 1] counts from 1; grad_scale f32 [1, 1]. master f32,
    // moments f32 or bf16, grad f32, weights bf16 <- master.
    virtual void adamw(AdamW const&, Tensor const& step, Tensor const& grad_scale, Tensor const& master, Tensor const& moment1,
                       Tensor const& moment2, Tensor const& grad, Tensor const& weights) = 0;
    virtual void increment(Tensor const& counter) = 0; // i32 [1, 1]
    // reduce
    virtual void sum(Tensor const& x, Tensor const& out, bool squares) = 0; // f32 -> f32 [1, 1], accumulates
    /// out = min(1, limit / sqrt(sum_of_squares)): gradient clipping.
    virtual void clip_scale(Tensor const& sum_of_squares, float limit, Tensor const& out) = 0;
};

/// Host back-ends; @p reference: double without rounding.
std::unique_ptr<Backend> make_host_backend(bool reference);
/// Back-end on CUDA device @p device. @throws InputError in one line where there is no driver or no such device.
std::unique_ptr<Backend> make_cuda_backend(int device);
/// False where the program was built without CUDA or finds no driver or device; @p why says which.
bool cuda_available(std::string* why = nullptr);

/// A quantised operand of the given shape with its scales in place.
Operand make_quantised(Backend&, Scaling, std::int64_t rows, std::int64_t cols);

} // namespace trainfare::kernels
