// SPDX-License-Identifier: Apache-2.0
//
// [plan] -> Plan. scenarios/PLAN.md has each key beside its Megatron-LM flag. Rules between keys are check_plan's.
#include <algorithm>
#include <array>

#include "scenarios/scenario_sections.hpp"

namespace trainfare {

namespace {

constexpr int max_degree = 1 << 20;
constexpr int max_sequences = 100'000'000;

/// Names of `recompute_modules` and the switches they turn on.
constexpr std::array<std::pair<std::string_view, bool Recompute::*>, 6> modules{{
    {"attention_core", &Recompute::attention_core},
    {"mlp", &Recompute::mlp},
    {"moe", &Recompute::moe},
    {"moe_act", &Recompute::moe_act},
    {"norm", &Recompute::norm},
    {"mla_up_proj", &Recompute::mla_up_proj},
}};

Recompute read_recompute(TableReader& in)
{
    Recompute r;
    r.kind = in.choice("recompute", r.kind, recompute_from, 3);
    for (auto const& word : in.words("recompute_modules")) {
        auto const it = std::find_if(modules.begin(), modules.end(), [&](auto const& m) { return m.first == word; });
        if (it == modules.end()) {
            std::vector<std::string> names;
            for (auto const& m : modules) names.emplace_back(m.first);
            in.fail_choice("recompute_modules", word, names);
        }
        r.*it->second = true;
    }
    bool const any = std::any_of(modules.begin(), modules.end(), [&](auto const& m) { return r.*m.second; });
    if (any && r.kind != RecomputeKind::selective)
        in.fail("recompute_modules", "are only used with selective recomputation", "recompute = \"selective\"");
    return r;
}

} // namespace

Plan read_plan(TableReader& in, Architecture const& model, int gpus)
{
    Plan p;
    bool const moe = std::any_of(model.layers.begin(), model.layers.end(), [](Layer const& l) { return l.is_moe(); });
    p.tp = in.whole("tp", 1, 1, max_degree);
    p.sp = in.flag("sp", false);
    p.cp = in.whole("cp", 1, 1, max_degree);
    p.pp = in.whole("pp", 1, 1, max_degree);
    p.vpp = in.whole("vpp", 1, 1, 1000);
    if (in.find("dp")) {
        p.dp = in.whole("dp", 1, 1, max_degree);
    } else {
        double const others = 1.0 * p.tp * p.cp * p.pp;
        p.dp = std::max(1, static_cast<int>(gpus / others));
        in.note_as("dp", std::to_string(p.dp), "derived: cluster.gpus / (tp x cp x pp)");
    }
    p.ep = in.whole("ep", 1, 1, max_degree);
    p.etp = in.whole("etp", 1, 1, max_degree);
    p.zero = in.whole("zero", 0, 0, 3);
    auto const usual = p.pp == 1   ? ScheduleKind::none
                       : p.vpp > 1 ? ScheduleKind::interleaved
                                   : ScheduleKind::one_f_one_b;
    p.schedule = in.choice("schedule", usual, schedule_from, 8);
    p.recompute = read_recompute(in);
    p.micro_batch = in.whole("micro_batch", 1, 1, max_sequences);
    p.global_batch = in.whole("global_batch", {}, 1, max_sequences, "global_batch = 1024 (sequences a step)");
    p.seq_len = in.whole("seq_len", {}, 1, max_sequences, "seq_len = 4096");
    p.precision = in.choice("precision", p.precision, precision_from, 7);
    p.comm_sms = in.whole("comm_sms", 0, 0, 10'000);
    p.overlap_ep = in.flag("overlap_ep", p.overlap_ep);
    p.overlap_tp = in.flag("overlap_tp", p.overlap_tp);
    p.overlap_dp = in.flag("overlap_dp", p.overlap_dp);
    p.overlap_pp = in.flag("overlap_pp", p.overlap_pp);
    p.dispatcher = in.choice("dispatcher", moe ? Dispatcher::alltoall : Dispatcher::none, dispatcher_from, 4);
    p.gradient_dtype = in.choice("gradient_dtype", p.gradient_dtype, dtype_from, 5);
    p.moment_dtype = in.choice("moment_dtype", p.moment_dtype, dtype_from, 5);
    p.master_dtype = in.choice("master_dtype", p.master_dtype, dtype_from, 5);
    p.dispatch_dtype = in.choice("dispatch_dtype", p.dispatch_dtype, dtype_from, 5);
    p.combine_dtype = in.choice("combine_dtype", p.combine_dtype, dtype_from, 5);
    p.mtp_layers = in.whole("mtp_layers", 0, 0, 100);
    p.stage_layers = in.wholes("stage_layers", 0, 10'000);
    in.finish();
    return p;
}

} // namespace trainfare
