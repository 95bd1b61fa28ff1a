// SPDX-License-Identifier: Apache-2.0
//
// The whole model: embedding, layers, head, and modules that predict further tokens (MTP, DeepSeek-V3, arXiv:2412.19437
// s2.2: module d joins the hidden state of token i with the embedding of token i + d, runs one layer and predicts token
// i + d + 1 with the model's own embedding and head).
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/step/head.hpp"
#include "kernels/step/layer.hpp"

namespace trainfare::kernels {

/// One micro-batch on its way: its input, and what the backward needs.
struct MicroBatch {
    /// A stack of layers with its norm and head: the model's, or a MTP module's.
    struct Stack {
        Residual residual;
        std::deque<LayerBlock::Saved> layers;
        ResidualNorm::Saved final_norm;
        Tensor d_head;                                   // gradient of the head's input
        Tensor d;                                        // gradient of the residual
        ResidualNorm::Saved hidden_norm, embedding_norm; // MTP
        Operand joined;                                  // MTP: both, side by side
    };

    Tensor tokens;              // i32 [MTP modules + 2, T]: row s is the input shifted by s
    std::vector<MoeTask> tasks; // per MoE layer, MTP last
    float grad_scale = 1;       // 1 / tokens of the global batch
    Tensor loss, mtp_loss;      // f32 [1, 1], summed over tokens (and MTP modules)
    std::deque<Stack> stacks;   // the model's, then the MTP modules'
};

class Model {
public:
    /// Declares all parameters; they are allocated before the model is used.
    Model(Context const&, Parameters&);

    /// Once per step: quantised copies of the weights.
    void prepare();
    void forward(Program&, MicroBatch&) const;
    /// @p finished, if set, is queued (Program::reduce) for each bucket of parameters whose gradients are complete.
    void backward(Program&, MicroBatch&, std::function<void(int bucket)> const& finished) const;

    /// In the order of MicroBatch::tasks.
    [[nodiscard]] std::vector<MoeBlock const*> const& moe_blocks() const { return moe_; }

private:
    struct Stack {
        std::vector<std::unique_ptr<LayerBlock>> layers;
        std::vector<int> buckets; // of the layers; a MTP module's joining parameters are in its layer's
        std::unique_ptr<ResidualNorm> final_norm;
        std::unique_ptr<ResidualNorm> hidden_norm, embedding_norm; // MTP
        std::unique_ptr<Linear> join;
        std::size_t first_task = 0;
    };

    void add_layer(Parameters&, Stack&, Layer const&, std::string const& prefix);
    void join(MicroBatch&, std::size_t module) const;
    void split(MicroBatch&, std::size_t module) const;
    void predict(MicroBatch&, std::size_t stack) const;
    [[nodiscard]] Tensor embedding(Tensor const& ids) const;

    Context const& context_;
    Parameter const* table_ = nullptr;
    int table_bucket_ = 0, head_bucket_ = 0;
    std::vector<Stack> stacks_;
    std::unique_ptr<Head> head_;
    std::vector<MoeBlock const*> moe_;
};

} // namespace trainfare::kernels
