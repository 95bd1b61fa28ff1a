// SPDX-License-Identifier: Apache-2.0
//
// Parameters on one GPU by shard group. Three groups and not one: a stack that divides everything by TP under-reports
// what is replicated, one that divides by TP x PP over-reports experts (Megatron-Bridge pull request 3744).
#include <algorithm>

#include "model/ops.hpp"

namespace trainfare {

namespace {

void add_attention(ShardParameters& s, Architecture const& arch, Plan const& plan, Attention const& a)
{
    double replicated = a.parameters - a.matrix_parameters; // norms of latents and biases: small, counted whole
    double matrices = a.matrix_parameters;
    if (a.latent) { // down-projections: the latent is needed whole on every rank
        double const down = 1.0 * arch.hidden * (a.latent->q_rank.value_or(0) + a.latent->kv_rank + a.latent->rope_dim);
        replicated += down;
        matrices -= down;
    } else if (a.owns_kv && a.kv_heads > 0 && plan.tp > a.kv_heads) { // a head is copied, not cut
        double const one_head = 1.0 * arch.hidden * (a.qk_dim + a.v_dim);
        s.tensor += one_head;
        matrices -= one_head * a.kv_heads;
    }
    s.tensor += matrices / plan.tp;
    s.replicated += replicated;
}

void add_layer(ShardParameters& s, Architecture const& arch, Plan const& plan, Layer const& layer)
{
    add_attention(s, arch, plan, layer.attention);
    auto const& ffn = layer.ffn;
    double const router = ffn.experts ? ffn.experts->router_parameters : 0;
    s.tensor += (ffn.parameters - ffn.expert_parameters - router) / plan.tp;
    s.replicated += router + layer.norm_parameters;
    s.expert += ffn.expert_parameters / (1.0 * plan.ep * plan.etp);
}

} // namespace

ShardParameters shard_parameters(Architecture const& arch, Plan const& plan, std::vector<Block> const& blocks)
{
    ShardParameters s;
    bool embeds = false, projects = false; // an MTP module reads both tables; on one rank they are stored once
    double const positions = 1.0 * arch.hidden * arch.max_positions;
    for (auto const block : blocks) {
        auto const index = static_cast<std::size_t>(block.index);
        switch (block.kind) {
        case Block::Kind::embedding:
            embeds = true;
            s.replicated += positions;
            break;
        case Block::Kind::layer: add_layer(s, arch, plan, arch.layers.at(index)); break;
        case Block::Kind::mtp:
            embeds = projects = true;
            add_layer(s, arch, plan, arch.mtp.at(index));
            s.tensor += 2.0 * arch.hidden * arch.hidden / plan.tp;
            break;
        case Block::Kind::head:
            projects = true;
            s.replicated += std::max(0.0, arch.other_parameters - positions); // final norm, bias
            break;
        }
    }
    double const tables = arch.tied_embeddings ? (embeds || projects ? 1 : 0) : (embeds ? 1 : 0) + (projects ? 1 : 0);
    s.tables = tables * arch.hidden * arch.vocab / plan.tp;
    s.tensor += s.tables;
    return s;
}

} // namespace trainfare
