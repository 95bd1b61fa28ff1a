// SPDX-License-Identifier: Apache-2.0
//
// Real models, plans and clusters small enough for a test: a few layers of DeepSeek-V3 or of Llama 3.1 on 16 to 256
// H800, priced from the shipped tables.
#pragma once

#include <string>
#include <vector>

#include "model/hf_config.hpp"
#include "sim/iteration.hpp"

namespace trainfare::small_cases {

inline Tables const& tables()
{
    static Tables const shipped = load_tables(TRAINFARE_SOURCE_DIR "/calibrate/tables");
    return shipped;
}

/// DeepSeek-V3's layers, fewer of them: @p dense dense ones, then expert layers. No MTP.
inline Architecture moe_model(int layers = 8, int dense = 1)
{
    static Architecture const whole = read_hf_config(TRAINFARE_SOURCE_DIR "/scenarios/models/deepseek-v3.json");
    Architecture arch = whole;
    arch.layers.assign(whole.layers.begin(), whole.layers.begin() + dense);
    arch.layers.insert(arch.layers.end(), whole.layers.end() - (layers - dense), whole.layers.end());
    arch.mtp.clear();
    return arch;
}

inline Architecture dense_model(int layers = 4)
{
    static Architecture const whole = read_hf_config(TRAINFARE_SOURCE_DIR "/scenarios/models/llama-3.1-8b.json");
    Architecture arch = whole;
    arch.layers.resize(static_cast<std::size_t>(layers));
    return arch;
}

/// Eight H800 a node; the fabric can carry all that its NICs send.
inline Cluster h800(int gpus)
{
    Cluster c;
    c.gpu = tables().accelerator("H800-SXM");
    c.gpus = gpus;
    c.scale_up = scale_up_rate(tables(), c.gpu).payload;
    c.nic = nic_rate(tables(), 400 * units::Gbitps).payload;
    return c;
}

struct Case {
    Architecture arch;
    Plan plan;
    Cluster cluster;
    IterationOptions options;
};

/// Expert model on pp x dp GPUs, the way DeepSeek-V3 was trained. Schedules that pair passes overlap their exchanges.
inline Case moe_case(ScheduleKind schedule, int pp, int dp, int ep, int micro_batches, bool overlap = true)
{
    Case c;
    bool const v_shaped = schedule == ScheduleKind::zb_v || schedule == ScheduleKind::dualpipe_v;
    c.arch = moe_model(std::max(8, v_shaped || schedule == ScheduleKind::interleaved ? 4 * pp : 2 * pp));
    c.plan.pp = pp, c.plan.dp = dp, c.plan.ep = ep;
    c.plan.schedule = schedule;
    c.plan.vpp = schedule == ScheduleKind::interleaved ? 2 : 1;
    c.plan.zero = 1;
    c.plan.global_batch = dp * micro_batches;
    c.plan.precision = Precision::fp8_block;
    c.plan.comm_sms = overlap ? 20 : 0;
    c.plan.overlap_ep = overlap;
    c.plan.dispatcher = Dispatcher::deepep;
    c.plan.dispatch_dtype = DType::fp8;
    c.cluster = h800(pp * dp);
    return c;
}

/// Dense model, data parallelism only.
inline Case dense_case(int dp, int micro_batches)
{
    Case c;
    c.arch = dense_model();
    c.plan.dp = dp;
    c.plan.zero = 1;
    c.plan.global_batch = dp * micro_batches;
    c.plan.dispatcher = Dispatcher::none;
    c.cluster = h800(dp);
    return c;
}

inline StepModel price(Case const& c)
{
    return price_step(c.arch, c.plan, c.cluster, CostModel{tables(), c.cluster.gpu}, c.options);
}

/// Case after case: which schedules an expert model can run on four pipeline ranks, with the fewest micro-batches.
struct NamedSchedule {
    ScheduleKind kind;
    int micro_batches;
    bool overlap; // exchanges of one micro-batch under the compute of another
};
inline std::vector<NamedSchedule> const& schedules()
{
    static std::vector<NamedSchedule> const all{
        {ScheduleKind::gpipe, 4, false},      {ScheduleKind::one_f_one_b, 6, false},
        {ScheduleKind::one_f_one_b, 8, true}, {ScheduleKind::interleaved, 4, false},
        {ScheduleKind::interleaved, 8, true}, {ScheduleKind::zb_h1, 6, false},
        {ScheduleKind::zb_v, 8, false},       {ScheduleKind::dualpipe, 8, true},
        {ScheduleKind::dualpipe_v, 8, true},
    };
    return all;
}

inline std::string words(NamedSchedule const& s)
{
    return std::string{name(s.kind)} + (s.overlap ? ", overlapped" : "");
}

} // namespace trainfare::small_cases
