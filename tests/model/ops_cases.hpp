// SPDX-License-Identifier: Apache-2.0
//
// Operations of DeepSeek-V3's blocks, and ways to pick and add them up.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "model/hf_config.hpp"
#include "model/ops.hpp"
#include "tests/catch.hpp"
#include "tests/model/deepseek_v3.hpp"

namespace trainfare::ops_cases {

inline std::string const models = TRAINFARE_SOURCE_DIR "/scenarios/models";
inline constexpr double tokens = 4096, hidden = 7168;

inline Architecture const& v3()
{
    static Architecture const arch = read_hf_config(models + "/deepseek-v3.json");
    return arch;
}

/// One GPU, one sequence of 4,096 tokens, bf16, everything kept.
inline Plan plain()
{
    Plan plan;
    plan.seq_len = 4096;
    return plan;
}

inline BlockOps layer(Architecture const& arch, Plan const& plan, int index)
{
    return block_ops(arch, plan, {Block::Kind::layer, index});
}

inline std::vector<Op> every(BlockOps const& b)
{
    std::vector<Op> all;
    for (auto const* list : {&b.forward, &b.backward, &b.weight_ffn, &b.weight_attention})
        all.insert(all.end(), list->begin(), list->end());
    return all;
}

inline std::vector<Block> blocks(Architecture const& arch)
{
    std::vector<Block> all{{Block::Kind::embedding, 0}, {Block::Kind::head, 0}};
    for (std::size_t i = 0; i < arch.layers.size(); ++i) all.push_back({Block::Kind::layer, static_cast<int>(i)});
    for (std::size_t i = 0; i < arch.mtp.size(); ++i) all.push_back({Block::Kind::mtp, static_cast<int>(i)});
    return all;
}

inline std::vector<Op> named(std::vector<Op> const& ops, std::string const& name)
{
    std::vector<Op> found;
    std::copy_if(ops.begin(), ops.end(), std::back_inserter(found), [&](Op const& op) { return op.name == name; });
    return found;
}

inline Op one(std::vector<Op> const& ops, std::string const& name, Pass pass)
{
    auto found = named(ops, name);
    std::erase_if(found, [&](Op const& op) { return op.pass != pass; });
    INFO(name << " " << trainfare::name(pass));
    REQUIRE(found.size() == 1);
    return found.front();
}

inline int count(std::vector<Op> const& ops, OpKind kind)
{
    return static_cast<int>(std::count_if(ops.begin(), ops.end(), [&](Op const& op) { return op.kind == kind; }));
}

struct Work { // FLOPs by pass, of products with weights and of the attention kernel
    double linear[5]{}, scores[5]{};
    void add(std::vector<Op> const& ops)
    {
        for (auto const& op : ops)
            (op.kind == OpKind::attention ? scores : linear)[static_cast<int>(op.pass)] += op.flops.value();
    }
    [[nodiscard]] double forward() const { return linear[0] + scores[0]; }
};

inline Work work(Architecture const& arch, Plan const& plan)
{
    Work w;
    for (auto const block : blocks(arch)) w.add(every(block_ops(arch, plan, block)));
    return w;
}

inline constexpr int forward = static_cast<int>(Pass::forward), dgrad = static_cast<int>(Pass::dgrad),
                     wgrad = static_cast<int>(Pass::wgrad), recompute = static_cast<int>(Pass::recompute);

inline Plan v3_plan_keeping_all()
{
    auto plan = deepseek_v3_plan();
    plan.recompute = {};
    return plan;
}

inline double payload(std::vector<Op> const& ops, OpKind kind)
{
    double sum = 0;
    for (auto const& op : ops)
        if (op.kind == kind) sum += op.payload.value();
    return sum;
}

} // namespace trainfare::ops_cases
