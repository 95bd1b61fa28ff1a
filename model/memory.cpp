// SPDX-License-Identifier: Apache-2.0
//
// Memory of one GPU of each pipeline rank: parameters by shard group, activations by walking the schedule, and what
// libraries take. DeepSeek-V3 on 2,048 GPUs of 80 GB is the case it must get right (memory.test.cpp).
#include "model/memory.hpp"

#include <algorithm>

#include "model/activations.hpp"
#include "model/ops.hpp"

namespace trainfare {

namespace {

// What "80 GB" is: 80 GiB, less what ECC and firmware keep. PyTorch reports 84.94e9 bytes on the H800 of the published
// trace (0.9888 of 80 GiB).
constexpr double visible_share = 0.9888;
constexpr Bytes context = units::GiB;               // CUDA context, loaded kernels, driver; assumed
constexpr Bytes collectives = units::GiB;           // NCCL: NCCL_BUFFSIZE 4 MiB x channels x peers; assumed
constexpr Bytes expert_library = units::GiB;        // DeepEP's NVLink and RDMA queues; assumed
constexpr Bytes gradient_bucket = 0.5 * units::GiB; // reduced while the next one fills; assumed
constexpr Bytes workspace = 0.5 * units::GiB;       // cuBLAS and cuDNN work areas, allocator slack; assumed
constexpr double loss_chunk = 1024;                 // tokens whose logits are fp32 at one time

/// Numbers that one element of each group costs, and over how many ranks ZeRO spreads it.
struct Elements {
    double wide;   // weight bytes of tables, norms and router
    double linear; // weight bytes of quantisable matrices
    double gradient;
    double optimizer;
};

/// fp8 weights are kept once for the forward and once transposed for the input gradient; there is no bf16 copy, the
/// master weights are the source (DeepSeek-V3, arXiv:2412.19437 s3.3.2). nvfp4 stacks cannot update fp4 weights: a bf16
/// copy stays.
Elements elements_of(Plan const& p)
{
    double const wide = p.precision == Precision::fp32 ? 4 : 2;
    double const scale = p.precision == Precision::fp8_block ? 4.0 / (128 * 128) : scale_bytes_per_element(p.precision);
    double linear = wide;
    if (is_quantised(p.precision)) linear = 2 * (size_of(gemm_dtype(p.precision)).value() + scale);
    if (p.precision == Precision::nvfp4) linear += 2;
    // Weights that already have the master's format are the master.
    bool const separate = is_quantised(p.precision) || size_of(p.master_dtype).value() != wide;
    double const master = separate ? size_of(p.master_dtype).value() : 0;
    return {wide, linear, size_of(p.gradient_dtype).value(), master + 2 * size_of(p.moment_dtype).value()};
}

/// Weights, gradients and optimizer of one rank. Dense parameters live once in dp x cp ranks, experts once in the
/// ranks of a stage over ep x etp.
void add_parameters(StageMemory& m, Plan const& p, ShardParameters const& s)
{
    auto const e = elements_of(p);
    double const dense = s.tensor + s.replicated, quantisable = s.tensor - s.tables;
    double const dense_ranks = 1.0 * p.dp * p.cp, expert_ranks = 1.0 * p.tp * p.cp * p.dp / (1.0 * p.ep * p.etp);
    auto const shared = [&](double dense_bytes, double expert_bytes, int from_stage) {
        return p.zero >= from_stage ? Bytes{dense_bytes / dense_ranks + expert_bytes / expert_ranks}
                                    : Bytes{dense_bytes + expert_bytes};
    };
    m.weights = shared(quantisable * e.linear + (dense - quantisable) * e.wide, s.expert * e.linear, 3);
    m.gradients = shared(dense * e.gradient, s.expert * e.gradient, 2);
    m.optimizer = shared(dense * e.optimizer, s.expert * e.optimizer, 1);
}

/// Parameters of the largest layer on a rank: dense shards, and the experts' shard.
struct LargestLayer {
    double dense = 0, expert = 0;
};

LargestLayer largest_layer(Architecture const& arch, Plan const& p, std::vector<Block> const& blocks)
{
    LargestLayer l;
    std::vector<Block> one(1);
    for (auto const block : blocks) {
        if (block.kind != Block::Kind::layer && block.kind != Block::Kind::mtp) continue;
        one[0] = block;
        auto const s = shard_parameters(arch, p, one);
        l.dense = std::max(l.dense, s.tensor + s.replicated - s.tables);
        l.expert = std::max(l.expert, s.expert);
    }
    return l;
}

Bytes buffer_bytes(Architecture const& arch, Plan const& p, std::vector<Block> const& blocks)
{
    double const tokens = 1.0 * p.micro_batch * p.seq_len / p.cp, own = p.sp ? tokens / p.tp : tokens;
    bool head = false;
    int rows = 0; // expert rows of one token, at most
    for (auto const b : blocks) {
        head = head || b.kind == Block::Kind::head || b.kind == Block::Kind::mtp;
        if (b.kind != Block::Kind::layer && b.kind != Block::Kind::mtp) continue;
        auto const index = static_cast<std::size_t>(b.index);
        auto const& ffn = (b.kind == Block::Kind::layer ? arch.layers : arch.mtp).at(index).ffn;
        if (ffn.experts) rows = std::max(rows, ffn.experts->top_k * p.etp);
    }
    // TransformerEngine keeps a 16-bit weight gradient for each shape of dense weight, beside the accumulated ones. It
    // is what the measured allocations of Llama layers have beyond the sum of the rest (memory.test.cpp).
    auto const largest = largest_layer(arch, p, blocks);
    Bytes bytes = workspace + Bytes{2 * largest.dense};
    if (p.gpus() > 1) bytes += collectives;
    if (p.dp > 1) bytes += gradient_bucket;
    if (p.zero == 3) // a layer's weights are gathered while the next one's arrive
        bytes += Bytes{2 * (largest.dense + largest.expert) * elements_of(p).linear};
    if (p.pp > 1) bytes += Bytes{4 * own * arch.hidden * 2}; // sent and received, forward and backward, bf16
    if (head) // logits of one micro-batch in bf16, which their gradient overwrites, and a chunk in fp32
        bytes += Bytes{(tokens * 2 + std::min(tokens, loss_chunk) * 4) * arch.vocab / p.tp};
    if (rows > 0 && p.ep * p.etp > 1) { // rows on their way back; a second set where two micro-batches overlap
        bytes += (p.overlap_ep ? 2 : 1) * own * rows * arch.hidden * size_of(p.combine_dtype);
        if (p.dispatcher == Dispatcher::deepep) bytes += expert_library;
    }
    return bytes;
}

/// What one forward of a chunk leaves behind, and the most that a backward pass recomputes at one time (one block).
struct ChunkActivations {
    Bytes kept, recomputed;
};

ChunkActivations chunk_activations(Architecture const& arch, Plan const& p, std::vector<Block> const& blocks)
{
    ChunkActivations c;
    for (auto const block : blocks) {
        auto const kept = activation_bytes(arch, p, block);
        c.kept += kept;
        if (p.recompute.kind != RecomputeKind::none)
            c.recomputed = std::max(c.recomputed, activation_bytes(arch, p, Recompute{}, block) - kept);
    }
    return c;
}

/// Walks a rank's slots. A forward adds its chunk's activations, before an overlapped backward gives any back. A
/// backward of input gradients alone frees nothing: of the 34 s b h that it could, weight gradients need 32
/// (zero-bubble pipelines, arXiv:2401.10241 s3.2).
void add_activations(StageMemory& m, std::vector<Slot> const& slots, std::vector<ChunkActivations> const& chunks)
{
    Bytes now, peak;
    int live = 0;
    auto const bytes_of = [&](int chunk) { return chunks.at(static_cast<std::size_t>(chunk)).kept; };
    for (auto const& slot : slots) {
        bool const forward = slot.kind == SlotKind::forward || slot.kind == SlotKind::overlapped;
        if (forward) {
            now += bytes_of(slot.chunk);
            ++live;
            if (now > peak || m.live_micro_batches == 0) {
                peak = now;
                m.live_micro_batches = live;
            }
        }
        if (slot.kind == SlotKind::forward || slot.kind == SlotKind::backward_input) continue;
        now -= bytes_of(forward ? slot.backward_chunk : slot.chunk);
        --live;
    }
    Bytes recomputed;
    for (auto const& chunk : chunks) recomputed = std::max(recomputed, chunk.recomputed);
    m.activations = peak + recomputed;
}

} // namespace

StageMemory const& MemoryReport::fullest() const
{
    auto const less = [](StageMemory const& a, StageMemory const& b) { return a.total() < b.total(); };
    return stages.at(static_cast<std::size_t>(std::max_element(stages.begin(), stages.end(), less) - stages.begin()));
}

MemoryReport memory_per_stage(Architecture const& arch, Plan const& plan, PipelineSchedule const& schedule, Bytes hbm)
{
    auto const stages = stage_blocks(plan, arch);
    std::vector<ChunkActivations> by_stage;
    by_stage.reserve(stages.size());
    for (auto const& blocks : stages) by_stage.push_back(chunk_activations(arch, plan, blocks));

    MemoryReport report;
    report.capacity = hbm / units::GB * units::GiB * visible_share - context;
    report.stages.reserve(static_cast<std::size_t>(schedule.ranks));
    std::vector<Block> blocks;
    std::vector<ChunkActivations> chunks;
    for (int rank = 0; rank < schedule.ranks; ++rank) {
        blocks.clear();
        chunks.clear();
        for (int chunk = 0; chunk < schedule.chunks; ++chunk) {
            auto const stage = static_cast<std::size_t>(schedule.stage_of(rank, chunk));
            blocks.insert(blocks.end(), stages.at(stage).begin(), stages.at(stage).end());
            chunks.push_back(by_stage.at(stage));
        }
        StageMemory m;
        m.rank = rank;
        add_parameters(m, plan, shard_parameters(arch, plan, blocks));
        m.buffers = buffer_bytes(arch, plan, blocks);
        add_activations(m, schedule.slots.at(static_cast<std::size_t>(rank)), chunks);
        report.stages.push_back(m);
    }
    return report;
}

} // namespace trainfare
