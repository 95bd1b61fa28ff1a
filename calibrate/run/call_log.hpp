// SPDX-License-Identifier: Apache-2.0
//
// A back-end that writes down what it is asked to do. Alone it computes nothing and holds no memory but that of
// integers (the step asks how many rows go where), so that a step of any size can be asked which operations it runs;
// around another back-end it passes everything on.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.hpp"

namespace trainfare::measure {

/// One operation that a back-end was asked for, by what its time depends on.
struct Call {
    std::string kind; // "gemm tn f32 bf16 bf16 +": operation, element types, what makes it another kernel
    std::vector<std::int64_t> sizes; // products: m, n, k, groups
    double work = 0;                 // FLOPs of products and attention, bytes of all else

    [[nodiscard]] std::string operation() const { return kind.substr(0, kind.find(' ')); }
    [[nodiscard]] std::string text() const; // "rms_norm bf16 4096x7168"
    [[nodiscard]] bool is_product() const { return operation() == "gemm" || operation() == "grouped_gemm"; }
    friend bool operator<(Call const& a, Call const& b)
    {
        return std::tie(a.kind, a.sizes) < std::tie(b.kind, b.sizes);
    }
    friend bool operator==(Call const& a, Call const& b) { return a.kind == b.kind && a.sizes == b.sizes; }
};

/// Of one kind, and no size differs by more than 5 %: padding may make a little more of it.
bool alike(Call const&, Call const&);
/// How far apart the sizes are: the sum of |log(ratio)|.
double distance(Call const&, Call const&);

class CallLog final : public kernels::Backend {
    using Tensor = kernels::Tensor;
    using Operand = kernels::Operand;

public:
    explicit CallLog(kernels::Backend* inner = nullptr) : inner_{inner} {}

    std::vector<Call> calls;
    std::vector<std::size_t> records; // how many calls there were at each record()

    [[nodiscard]] std::string_view name() const override { return "calls"; }
    Tensor make(kernels::Element, std::int64_t rows, std::int64_t cols) override;
    void upload(Tensor const&, std::span<float const>) override;
    void upload(Tensor const&, std::span<std::int32_t const>) override;
    std::vector<double> download(Tensor const&) override;
    std::vector<std::int32_t> download_ints(Tensor const&) override;
    std::vector<std::byte> download_bytes(Tensor const&) override;
    void upload_bytes(Tensor const&, std::span<std::byte const>) override;
    void normal(Tensor const&, float mean, float deviation, std::uint64_t seed) override; // not written down: set-up
    void use(kernels::Stream) override;
    kernels::Event record() override;
    void wait(kernels::Event const&) override;
    void synchronise() override;
    double seconds(kernels::Event const&, kernels::Event const&) override;
    std::unique_ptr<kernels::Graph> capture(std::function<void()> const&) override;

    void fill(Tensor const&, float) override;
    void copy(Tensor const& to, Tensor const& from) override;
    void gemm(Tensor const& c, Operand const& a, Operand const& b, kernels::Form, bool accumulate) override;
    void grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, kernels::Form, kernels::Groups const&,
                      bool accumulate) override;
    void attention(kernels::AttentionShape const&, Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& o,
                   Tensor const& log_sum) override;
    void attention_backward(kernels::AttentionShape const&, Tensor const& d_o, Tensor const& q, Tensor const& k,
                            Tensor const& v, Tensor const& o, Tensor const& log_sum, Tensor const& d_q,
                            Tensor const& d_k, Tensor const& d_v) override;
    void add(Tensor const& to, Tensor const& x) override;
    void rms_norm(Tensor const& x, Tensor const& weight, float eps, Tensor const& y, Tensor const& rstd) override;
    void add_rms_norm(Tensor const& residual, Tensor const& delta, Tensor const& weight, float eps, Tensor const& y,
                      Tensor const& rstd) override;
    void rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                           Tensor const& d_x, bool accumulate, Tensor const& d_weight) override;
    void rope(kernels::Rope const&, Tensor const& x, bool inverse) override;
    void latent_heads(kernels::LatentHeads const&, Tensor const& q, Tensor const& kv, Tensor const& k_rope,
                      Tensor const& k, Tensor const& v) override;
    void latent_heads_backward(kernels::LatentHeads const&, Tensor const& d_q, Tensor const& d_k, Tensor const& d_v,
                               Tensor const& d_kv, Tensor const& d_k_rope) override;
    void swiglu(Tensor const& gate_up, Tensor const& y) override;
    void swiglu_quantise(Tensor const& gate_up, Operand const& y) override;
    void swiglu_backward(Tensor const& d_y, Tensor const& gate_up, Tensor const& d_gate_up) override;
    void quantise(Tensor const& x, Operand const& row, Operand const& transposed) override;
    void quantise_blocks(Tensor const& w, Operand const& blocks, Operand const& transposed) override;
    void transpose_quantised(Operand const& from, Operand const& to) override;
    void transpose(Tensor const& from, Tensor const& to) override;
    void gate(kernels::Gate const&, Tensor const& logits, Tensor const& bias, Tensor const& forced,
              Tensor const& chosen, Tensor const& weights, Tensor const& counts) override;
    void gate_backward(kernels::Gate const&, Tensor const& logits, Tensor const& chosen, Tensor const& d_weights,
                       Tensor const& d_logits) override;
    void balance(Tensor const& bias, Tensor const& counts, float rate) override;
    void sort_rows(Tensor const& keys, int buckets, std::int64_t alignment, Tensor const& position,
                   Tensor const& source, Tensor const& counts) override;
    void gather_rows(Operand const& x, Tensor const& source, int divide, Operand const& y) override;
    void combine_rows(Tensor const& rows, Tensor const& position, Tensor const& weights, int k,
                      Tensor const& y) override;
    void combine_rows_backward(Tensor const& d_y, Tensor const& rows, Tensor const& position, Tensor const& weights,
                               int k, Tensor const& d_rows, Tensor const& d_weights) override;
    void embedding_backward(Tensor const& d_y, Tensor const& ids, Tensor const& d_table) override;
    void cross_entropy(Tensor const& logits, Tensor const& targets, float grad_scale, Tensor const& loss) override;
    void adamw(kernels::AdamW const&, Tensor const& step, Tensor const& grad_scale, Tensor const& master,
               Tensor const& moment1, Tensor const& moment2, Tensor const& grad, Tensor const& weights) override;
    void increment(Tensor const& counter) override;
    void sum(Tensor const& x, Tensor const& out, bool squares) override;
    void clip_scale(Tensor const& sum_of_squares, float limit, Tensor const& out) override;

private:
    /// Bound by memory: @p what moves its operands once.
    void moves(std::string kind, std::vector<std::int64_t> sizes, std::vector<Operand> const& operands);

    kernels::Backend* inner_;
};

} // namespace trainfare::measure
