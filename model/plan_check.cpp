// SPDX-License-Identifier: Apache-2.0
//
// Which plans can exist: every rule a training stack would stop at, each with its reason and the nearest values that
// keep it. A vocabulary need not divide by tp: stacks pad it.
#include "model/plan.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>

#include <fmt/format.h>

namespace trainfare {

namespace {

using Size = std::int64_t;

// Far beyond any training, and small enough that products of three fit 64 bits.
constexpr Size most_ranks = 1 << 20;          // of one degree
constexpr Size most_pipeline_ranks = 1024;    // as in schedule.cpp
constexpr Size most_passes = 3'000'000;       // as in schedule.cpp: ranks x chunks x micro-batches
constexpr Size most_sequences = 1 << 26;      // in a step
constexpr Size most_tokens = 1 << 30;         // in a micro-batch
constexpr Size most_searched = Size{1} << 40; // advice must not take long: divisors are found in the root of this

/// "64 or 128": the divisors of @p n next to @p value.
std::string divisors_near(Size n, Size value)
{
    if (n > most_searched) return fmt::format("a divisor of {}", n);
    Size below = 0, above = 0;
    auto const consider = [&](Size d) {
        if (d < value) below = std::max(below, d);
        if (d > value && (above == 0 || d < above)) above = d;
    };
    for (Size d = 1; d * d <= n; ++d)
        if (n % d == 0) {
            consider(d);
            consider(n / d);
        }
    if (below == 0) return fmt::to_string(above);
    return above == 0 ? fmt::to_string(below) : fmt::format("{} or {}", below, above);
}

/// "15232 or 15360": the multiples of @p step next to @p value, none below @p least.
std::string multiples_near(Size step, Size value, Size least)
{
    Size const above = std::max(least, (value / step + 1) * step), below = value / step * step;
    return below < std::max(least, Size{1}) || below == value ? fmt::to_string(above)
                                                              : fmt::format("{} or {}", below, above);
}

/// Model chunks that a pipeline rank works through.
Size chunks_per_rank(Plan const& p) { return p.schedule == ScheduleKind::dualpipe ? 2 : model_stages(p) / p.pp; }

class Broken {
public:
    template <class... Args>
    void add(fmt::format_string<Args...> text, Args&&... args)
    {
        messages_.push_back(fmt::format(text, std::forward<Args>(args)...));
    }
    void range(char const* key, Size value, Size low, Size high)
    {
        if (value < low || value > high)
            add("plan.{} = {} is not between {} and {} (no training is laid out so); try {}", key, value, low, high,
                std::clamp(value, low, high));
    }
    [[nodiscard]] bool none() const { return messages_.empty(); }
    [[nodiscard]] std::vector<std::string> take() { return std::move(messages_); }

private:
    std::vector<std::string> messages_;
};

void check_ranges(Plan const& p, Architecture const& arch, Broken& broken)
{
    broken.range("tp", p.tp, 1, most_ranks);
    broken.range("cp", p.cp, 1, most_ranks);
    broken.range("pp", p.pp, 1, most_pipeline_ranks);
    broken.range("vpp", p.vpp, 1, most_ranks);
    broken.range("dp", p.dp, 1, most_ranks);
    broken.range("ep", p.ep, 1, most_ranks);
    broken.range("etp", p.etp, 1, most_ranks);
    broken.range("zero", p.zero, 0, 3);
    broken.range("seq_len", p.seq_len, 1, most_tokens);
    broken.range("micro_batch", p.micro_batch, 1, most_sequences);
    broken.range("global_batch", p.global_batch, 1, most_sequences);
    broken.range("comm_sms", p.comm_sms, 0, 1024);
    auto const modules = static_cast<Size>(arch.mtp.size());
    if (p.mtp_layers < 0 || p.mtp_layers > modules)
        broken.add(
            "plan.mtp_layers = {} but {} has {} multi-token-prediction modules (only what exists can be trained); "
            "try {}",
            p.mtp_layers, arch.name, modules, std::clamp<Size>(p.mtp_layers, 0, modules));
    auto const& r = p.recompute;
    bool const modules_named = r.attention_core || r.mlp || r.moe || r.moe_act || r.norm || r.mla_up_proj;
    if (modules_named && r.kind != RecomputeKind::selective)
        broken.add(
            "plan.recompute = {} with modules named (modules are for selective recomputation only); try selective, "
            "or no modules",
            name(r.kind));
}

/// A width that tensor parallelism cuts into equal slices.
struct Cut {
    char const* what;
    Size size;
};

void check_tensor(Plan const& p, Architecture const& arch, Broken& broken)
{
    std::vector<Cut> cuts{{"hidden", arch.hidden}};
    auto const add = [&](char const* what, Size size) {
        auto const same = [&](Cut const& c) { return c.size == size && std::string_view{c.what} == what; };
        if (size > 0 && std::none_of(cuts.begin(), cuts.end(), same)) cuts.push_back({what, size});
    };
    for (auto const* layers : {&arch.layers, &arch.mtp})
        for (auto const& layer : *layers) {
            add("attention heads", layer.attention.heads);
            if (layer.is_moe())
                add("shared expert width", layer.ffn.experts->shared_width);
            else
                add("FFN width", layer.ffn.width);
            add("residual MLP width", layer.ffn.residual_width);
        }
    Size common = 0; // what every cut allows: the advice must not break another rule
    for (auto const& cut : cuts) common = std::gcd(common, cut.size);
    for (auto const& layer : arch.layers)
        if (!layer.attention.latent) common = std::gcd(common, Size{layer.attention.kv_heads});
    for (auto const& cut : cuts)
        if (cut.size % p.tp != 0)
            broken.add("plan.tp = {} does not divide {} {} (every rank must hold the same slice); try {}", p.tp,
                       cut.what, cut.size, divisors_near(common, p.tp));
    Size reported = 0;
    for (auto const& layer : arch.layers) {
        Size const kv = layer.attention.kv_heads;
        if (kv <= 0 || kv == reported || layer.attention.latent) continue;
        if (kv % p.tp == 0 || p.tp % kv == 0) continue;
        reported = kv;
        broken.add("plan.tp = {} and {} key-value heads do not divide one another (a rank holds whole heads, or a head "
                   "is copied to whole ranks); try {}",
                   p.tp, kv, divisors_near(common, p.tp));
    }
    if (p.sp && p.tp == 1)
        broken.add("plan.sp = true with tp = 1 (sequence parallelism shares out the sequence inside a tensor-parallel "
                   "group); try sp = false");
    Size const slices = p.sp ? Size{p.cp} * p.tp : Size{p.cp};
    if (p.seq_len % slices != 0)
        broken.add(
            "plan.seq_len = {} does not divide by {} = {} (every rank must hold the same part of the sequence); try {}",
            p.seq_len, p.sp ? "cp * tp" : "cp", slices, multiples_near(slices, p.seq_len, 1));
}

void check_experts(Plan const& p, Architecture const& arch, Broken& broken)
{
    auto const moe = std::find_if(arch.layers.begin(), arch.layers.end(), [](Layer const& l) { return l.is_moe(); });
    if (moe == arch.layers.end()) {
        if (p.ep > 1)
            broken.add("plan.ep = {} but {} has no experts (there is nothing to spread); try 1", p.ep, arch.name);
        if (p.etp > 1)
            broken.add("plan.etp = {} but {} has no experts (there is nothing to cut); try 1", p.etp, arch.name);
        return;
    }
    Size reported_count = 0, reported_width = 0; // once for each size, not for each layer
    for (auto const& layer : arch.layers) {
        if (!layer.is_moe()) continue;
        auto const& e = *layer.ffn.experts;
        if (e.count % p.ep != 0 && e.count != reported_count) {
            reported_count = e.count;
            broken.add("plan.ep = {} does not divide {} experts (every rank must hold the same number); try {}", p.ep,
                       e.count, divisors_near(e.count, p.ep));
        }
        if (e.width % p.etp != 0 && e.width != reported_width) {
            reported_width = e.width;
            broken.add("plan.etp = {} does not divide expert width {} (every rank must hold the same slice); try {}",
                       p.etp, e.width, divisors_near(e.width, p.etp));
        }
    }
    Size const span = Size{p.ep} * p.etp, ranks = Size{p.tp} * p.cp * p.dp;
    if (ranks % span != 0)
        broken.add(
            "plan.ep = {} with etp = {} needs {} ranks, which do not divide the tp * cp * dp = {} of a pipeline stage "
            "(expert groups tile the ranks of a stage); try {} for ep * etp",
            p.ep, p.etp, span, ranks, divisors_near(ranks, span));
    if (p.dispatcher == Dispatcher::none)
        broken.add("plan.dispatcher = none but {} has experts (tokens must reach them); try alltoall or deepep",
                   arch.name);
}

void check_gpus(Plan const& p, int gpus, Broken& broken)
{
    Size const replica = Size{p.tp} * p.cp * p.pp;
    bool const fits = replica <= gpus && gpus % replica == 0;
    if (fits && gpus / replica == p.dp) return;
    std::string const advice = fits ? fmt::format("dp = {}", gpus / replica)
                                    : fmt::format("{} for tp * cp * pp", divisors_near(std::max(gpus, 1), replica));
    broken.add("plan.dp = {} with tp = {}, cp = {} and pp = {} does not make {} GPUs (each has one place in the plan); "
               "try {}",
               p.dp, p.tp, p.cp, p.pp, gpus, advice);
}

void check_micro_batches(Plan const& p, Broken& broken)
{
    Size const pass = Size{p.dp} * p.micro_batch, batch = p.global_batch;
    if (batch % pass != 0) {
        broken.add(
            "plan.global_batch = {} does not divide by dp * micro_batch = {} (every rank must see the same number of "
            "sequences); try {}",
            batch, pass, multiples_near(pass, batch, pass));
        return; // there is no whole number of micro-batches to check
    }
    Size const count = batch / pass, pp = p.pp;
    Size step = 1, least = 1; // what the schedule asks of the number of micro-batches
    char const* why = "";
    switch (p.schedule) {
    case ScheduleKind::interleaved:
        step = least = pp;
        why = "micro-batches go through the chunks in groups of pp";
        break;
    case ScheduleKind::dualpipe:
        step = 2, least = 2 * pp;
        why = "half enters at each end, and each end fills the pipeline";
        break;
    case ScheduleKind::dualpipe_v:
        least = 2 * pp;
        why = "the pipeline has 2 pp stages to fill";
        break;
    default: break;
    }
    if (count % step != 0 || count < least)
        broken.add(
            "plan.global_batch = {} gives {} micro-batches, and {} with pp = {} needs {}at least {} ({}); try {}",
            batch, count, name(p.schedule), pp, step > 1 ? fmt::format("a multiple of {}, ", step) : "", least, why,
            multiples_near(pass * step, batch, pass * least));
    Size const chunks = chunks_per_rank(p);
    if (count > most_passes / (pp * chunks))
        broken.add(
            "plan.global_batch = {} gives {} micro-batches on pp = {} with {} chunks (a schedule lays out at most {} "
            "passes); try more dp or a larger micro_batch",
            batch, count, pp, chunks, most_passes);
}

void check_schedule(Plan const& p, Broken& broken)
{
    bool const interleaved = p.schedule == ScheduleKind::interleaved;
    if (p.schedule == ScheduleKind::none && p.pp > 1)
        broken.add("plan.schedule = none with pp = {} (a pipeline needs an order of work); try 1f1b, or pp = 1", p.pp);
    if ((interleaved || chunks_per_rank(p) > 1) && p.pp == 1)
        broken.add("plan.schedule = {} with pp = 1 (there is no pipeline); try none", name(p.schedule));
    if (!interleaved && p.vpp > 1)
        broken.add("plan.vpp = {} with schedule = {} (only the interleaved schedule has a free number of chunks); try "
                   "vpp = 1, or interleaved",
                   p.vpp, name(p.schedule));
    if (interleaved && p.vpp == 1)
        broken.add(
            "plan.vpp = 1 with schedule = interleaved (with one chunk there is nothing to interleave); try vpp = 2, "
            "or 1f1b");
    if (p.schedule == ScheduleKind::dualpipe && p.pp > 1 && p.pp % 2 != 0)
        broken.add("plan.pp = {} with schedule = dualpipe (ranks come in mirrored pairs); try {} or {}", p.pp, p.pp - 1,
                   p.pp + 1);
}

void check_stages(Plan const& p, Architecture const& arch, Broken& broken)
{
    Size const layers = static_cast<Size>(arch.layers.size());
    Size const stages = model_stages(p), blocks = layers + p.mtp_layers + 2; // and embedding and head
    if (stages > blocks)
        broken.add(
            "plan.pp = {} makes {} stages of {} layers, {} MTP modules, embedding and head (a stage needs at least one "
            "of them); try pp = {}",
            p.pp, stages, layers, p.mtp_layers, std::max<Size>(1, blocks / (stages / p.pp)));
    if (p.stage_layers.empty()) return;
    if (static_cast<Size>(p.stage_layers.size()) != stages)
        broken.add("plan.stage_layers has {} entries for {} model stages (each stage needs its number); try {} entries",
                   p.stage_layers.size(), stages, stages);
    Size const sum = std::accumulate(p.stage_layers.begin(), p.stage_layers.end(), Size{0});
    if (sum != layers)
        broken.add("plan.stage_layers sums to {}, {} has {} layers (each layer has one place); try {} {}", sum,
                   arch.name, layers, std::abs(layers - sum), sum < layers ? "more" : "fewer");
    for (std::size_t s = 0; s < p.stage_layers.size(); ++s) {
        bool const holds_more = s == 0 || s + 1 == p.stage_layers.size(); // the embedding, or the head
        if (p.stage_layers[s] < (holds_more ? 0 : 1))
            broken.add(
                "plan.stage_layers[{}] = {} (a stage needs at least one layer; the first and the last may live on "
                "embedding and head); try 1",
                s, p.stage_layers[s]);
    }
}

} // namespace

std::vector<std::string> check_plan(Plan const& plan, Architecture const& arch, int gpus)
{
    Broken broken;
    check_ranges(plan, arch, broken);
    if (!broken.none()) return broken.take(); // the other rules divide and multiply by these numbers
    if (Size{plan.micro_batch} * plan.seq_len > most_tokens)
        broken.add("plan.micro_batch = {} of {} tokens is more than {} tokens a pass (no GPU holds that); try 1",
                   plan.micro_batch, plan.seq_len, most_tokens);
    check_gpus(plan, gpus, broken);
    check_tensor(plan, arch, broken);
    check_experts(plan, arch, broken);
    check_schedule(plan, broken);
    check_micro_batches(plan, broken);
    check_stages(plan, arch, broken);
    return broken.take();
}

} // namespace trainfare
