// SPDX-License-Identifier: Apache-2.0
//
// Which blocks each model stage holds. A block weighs its FLOPs, whatever their number format: in the published trace
// of DeepSeek-V3 (arXiv:2412.19437) an fp8 layer of 16.4 TFLOP takes 32.25 ms, 510 TFLOP/s, no more than a bf16 product
// of the head's size reaches, because a quarter of the layer's time is not matrix products.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "model/error.hpp"
#include "model/plan.hpp"

namespace trainfare {

namespace {

using Cost = std::int64_t;

/// Multiply-adds per token, weights and attention scores.
double layer_cost(Layer const& layer, int seq_len)
{
    auto const& a = layer.attention;
    bool const recurrent = a.kind == AttentionKind::lightning || a.kind == AttentionKind::delta_net;
    double const per_head = recurrent ? 2.0 * a.qk_dim * a.v_dim // write the state, read it
                                      : (1.0 * a.qk_dim + a.v_dim) * mean_keys(a, seq_len, true);
    return a.matrix_parameters + layer.ffn.matrix_parameters + a.heads * per_head;
}

double block_cost(Architecture const& arch, int seq_len, Block block)
{
    double const head = 1.0 * arch.hidden * arch.vocab;
    auto const index = static_cast<std::size_t>(block.index);
    switch (block.kind) {
    case Block::Kind::embedding: return 0; // a look-up
    case Block::Kind::layer: return layer_cost(arch.layers[index], seq_len);
    case Block::Kind::mtp: return layer_cost(arch.mtp[index], seq_len) + 2.0 * arch.hidden * arch.hidden + head;
    case Block::Kind::head: return head;
    }
    return 0;
}

std::vector<Block> all_blocks(Architecture const& arch, int mtp_layers)
{
    std::vector<Block> blocks;
    blocks.reserve(arch.layers.size() + arch.mtp.size() + 2);
    blocks.push_back({Block::Kind::embedding, 0});
    for (int i = 0; i < static_cast<int>(arch.layers.size()); ++i) blocks.push_back({Block::Kind::layer, i});
    for (int i = 0; i < mtp_layers; ++i) blocks.push_back({Block::Kind::mtp, i});
    blocks.push_back({Block::Kind::head, 0});
    return blocks;
}

/// Running sums of block costs, in millionths of the whole: whole numbers, so that equal splits compare equal.
std::vector<Cost> running_costs(Architecture const& arch, int seq_len, std::vector<Block> const& blocks)
{
    std::vector<double> costs;
    costs.reserve(blocks.size());
    for (auto const block : blocks) costs.push_back(block_cost(arch, seq_len, block));
    double const total = std::accumulate(costs.begin(), costs.end(), 0.0);
    std::vector<Cost> sums{0};
    sums.reserve(blocks.size() + 1);
    for (double const c : costs) sums.push_back(sums.back() + (total > 0 ? std::llround(c / total * 1e6) : 0));
    return sums;
}

/// Stages needed when none may cost more than @p bound and each takes all it can.
std::size_t stages_within(std::vector<Cost> const& sums, Cost bound)
{
    std::size_t stages = 1, first = 0;
    for (std::size_t i = 1; i < sums.size(); ++i)
        if (sums[i] - sums[first] > bound) {
            first = i - 1;
            ++stages;
        }
    return stages;
}

/// The smallest cost of the largest stage. A split with fewer stages can always be cut further.
Cost smallest_bound(std::vector<Cost> const& sums, std::size_t stages)
{
    Cost low = 0, high = sums.back();
    for (std::size_t i = 1; i < sums.size(); ++i) low = std::max(low, sums[i] - sums[i - 1]);
    while (low < high) {
        Cost const middle = low + (high - low) / 2;
        if (stages_within(sums, middle) <= stages)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}

/// Where each stage ends. Of all splits with the smallest bound the most even one (least squares); of equals the one
/// with fewer blocks in early stages, which keep more micro-batches alive.
std::vector<std::size_t> balanced_ends(std::vector<Cost> const& sums, std::size_t stages)
{
    std::size_t const n = sums.size() - 1;
    Cost const bound = smallest_bound(sums, stages);
    constexpr double impossible = 1e300;
    std::vector<double> best(n + 1, impossible), next(n + 1);
    std::vector<std::size_t> from((stages + 1) * (n + 1), 0);
    best[0] = 0;
    for (std::size_t s = 1; s <= stages; ++s) {
        std::fill(next.begin(), next.end(), impossible);
        for (std::size_t end = s; end <= n - (stages - s); ++end)
            for (std::size_t start = end; start-- >= s && sums[end] - sums[start] <= bound;) {
                if (best[start] >= impossible) continue;
                double const cost = static_cast<double>(sums[end] - sums[start]);
                double const squares = best[start] + cost * cost;
                if (squares > next[end]) continue; // at a tie the earlier start wins: this stage is the longer one
                next[end] = squares;
                from[s * (n + 1) + end] = start;
            }
        best.swap(next);
    }
    std::vector<std::size_t> ends(stages);
    for (std::size_t s = stages, end = n; s > 0; --s) {
        ends[s - 1] = end;
        end = from[s * (n + 1) + end];
    }
    return ends;
}

/// As plan.stage_layers says; the embedding goes first, MTP and head last.
std::vector<std::size_t> explicit_ends(Plan const& plan, std::size_t blocks)
{
    std::vector<std::size_t> ends;
    std::size_t end = 1;
    for (int const layers : plan.stage_layers) ends.push_back(end += static_cast<std::size_t>(layers));
    ends.back() = blocks;
    return ends;
}

void require(bool holds, char const* text)
{
    if (!holds) throw InputError(text);
}

} // namespace

std::vector<std::vector<Block>> stage_blocks(Plan const& plan, Architecture const& arch)
{
    auto const stages = static_cast<std::size_t>(std::max(model_stages(plan), 1));
    require(plan.mtp_layers >= 0 && static_cast<std::size_t>(plan.mtp_layers) <= arch.mtp.size(),
            "plan.mtp_layers asks for modules that the model does not have; check the plan first");
    auto const blocks = all_blocks(arch, plan.mtp_layers);
    require(stages <= blocks.size(), "plan.pp makes more stages than the model has blocks; try fewer");
    if (!plan.stage_layers.empty()) {
        bool const positive =
            std::all_of(plan.stage_layers.begin(), plan.stage_layers.end(), [](int n) { return n >= 0; });
        auto const sum = std::accumulate(plan.stage_layers.begin(), plan.stage_layers.end(), std::int64_t{0});
        require(positive && plan.stage_layers.size() == stages && sum == static_cast<std::int64_t>(arch.layers.size()),
                "plan.stage_layers does not cover the model's layers and stages; check the plan first");
    }
    auto const ends = plan.stage_layers.empty() ? balanced_ends(running_costs(arch, plan.seq_len, blocks), stages)
                                                : explicit_ends(plan, blocks.size());
    std::vector<std::vector<Block>> result(stages);
    std::size_t start = 0;
    for (std::size_t s = 0; s < stages; start = ends[s++])
        result[s].assign(blocks.begin() + static_cast<std::ptrdiff_t>(start),
                         blocks.begin() + static_cast<std::ptrdiff_t>(ends[s]));
    return result;
}

} // namespace trainfare
