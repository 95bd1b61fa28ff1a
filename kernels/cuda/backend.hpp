// SPDX-License-Identifier: Apache-2.0
//
// Back-end `cuda`. No CUDA header here: the state is behind a pointer, so that the step and the tests compile without a toolkit.
// Memory, streams and graphs are in cuda/backend.cpp, matrix products in cuda/gemm.cpp and cuda/grouped_gemm*, attention in
// cuda/attention*, every small operation in kernels/ops/NAME.cu.
#pragma once

#include "kernels/backend.hpp"

struct CUstream_st; // cudaStream_t is a pointer to it

namespace trainfare::kernels {

class CudaBackend final : public Backend {
public:
    explicit CudaBackend(int device);
    ~CudaBackend() override;
    CudaBackend(CudaBackend const&) = delete;
    CudaBackend& operator=(CudaBackend const&) = delete;

    [[nodiscard]] std::string_view name() const override { return "cuda"; }

    /// The stream in use: where launches go.
    [[nodiscard]] CUstream_st* stream() const;
    /// SMs that computing may use (limit_sms, else all of the device).
    [[nodiscard]] int sms() const override;
    /// Blocks for a grid-stride kernel with @p work independent items: no more than @p per_sm on each SM in use, at least 1.
    [[nodiscard]] unsigned blocks(std::int64_t work, int per_sm) const;
    /// Scratch memory of at least @p bytes for work on the stream in use; valid until the next call on that stream.
    [[nodiscard]] void* scratch(std::size_t bytes);

    Tensor make(Element, std::int64_t rows, std::int64_t cols) override;
    void upload(Tensor const& to, std::span<float const>) override;
    void upload(Tensor const& to, std::span<std::int32_t const>) override;
    std::vector<double> download(Tensor const&) override;
    std::vector<std::int32_t> download_ints(Tensor const&) override;
    std::vector<std::byte> download_bytes(Tensor const&) override;
    void upload_bytes(Tensor const& to, std::span<std::byte const>) override;
    void fill(Tensor const&, float) override;
    void copy(Tensor const& to, Tensor const& from) override;
    void normal(Tensor const&, float mean, float deviation, std::uint64_t seed) override;
    void use(Stream) override;
    Event record() override;
    void wait(Event const&) override;
    void synchronise() override;
    double seconds(Event const& from, Event const& to) override;
    std::unique_ptr<Graph> capture(std::function<void()> const& work) override;
    void limit_sms(int) override;
    void tune_products(bool) override;
    [[nodiscard]] std::vector<std::string_view> grouped_libraries() const override;
    void use_grouped_library(std::string_view) override;
    void gemm(Tensor const& c, Operand const& a, Operand const& b, Form, bool accumulate) override;
    void grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, Form, Groups const&,
                      bool accumulate) override;
    void attention(AttentionShape const&, Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& o,
                   Tensor const& log_sum) override;
    void attention_backward(AttentionShape const&, Tensor const& d_o, Tensor const& q, Tensor const& k,
                            Tensor const& v, Tensor const& o, Tensor const& log_sum, Tensor const& d_q,
                            Tensor const& d_k, Tensor const& d_v) override;
    void add(Tensor const& to, Tensor const& x) override;
    void rms_norm(Tensor const& x, Tensor const& weight, float eps, Tensor const& y, Tensor const& rstd) override;
    void add_rms_norm(Tensor const& residual, Tensor const& delta, Tensor const& weight, float eps, Tensor const& y,
                      Tensor const& rstd) override;
    void rms_norm_backward(Tensor const& d_y, Tensor const& x, Tensor const& weight, Tensor const& rstd,
                           Tensor const& d_x, bool accumulate, Tensor const& d_weight) override;
    void rope(Rope const&, Tensor const& x, bool inverse) override;
    void latent_heads(LatentHeads const&, Tensor const& q, Tensor const& kv, Tensor const& k_rope, Tensor const& k,
                      Tensor const& v) override;
    void latent_heads_backward(LatentHeads const&, Tensor const& d_q, Tensor const& d_k, Tensor const& d_v,
                               Tensor const& d_kv, Tensor const& d_k_rope) override;
    void swiglu(Tensor const& gate_up, Tensor const& y) override;
    void swiglu_quantise(Tensor const& gate_up, Operand const& y) override;
    void swiglu_backward(Tensor const& d_y, Tensor const& gate_up, Tensor const& d_gate_up) override;
    void quantise(Tensor const& x, Operand const& row, Operand const& transposed) override;
    void quantise_blocks(Tensor const& w, Operand const& blocks, Operand const& transposed) override;
    void transpose_quantised(Operand const& from, Operand const& to) override;
    void transpose(Tensor const& from, Tensor const& to) override;
    void gate(Gate const&, Tensor const& logits, Tensor const& bias, Tensor const& forced, Tensor const& chosen,
              Tensor const& weights, Tensor const& counts) override;
    void gate_backward(Gate const&, Tensor const& logits, Tensor const& chosen, Tensor const& d_weights,
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
    void adamw(AdamW const&, Tensor const& step, Tensor const& grad_scale, Tensor const& master,
               Tensor const& moment1, Tensor const& moment2, Tensor const& grad, Tensor const& weights) override;
    void increment(Tensor const& counter) override;
    void sum(Tensor const& x, Tensor const& out, bool squares) override;
    void clip_scale(Tensor const& sum_of_squares, float limit, Tensor const& out) override;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace trainfare::kernels
