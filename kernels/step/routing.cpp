// SPDX-License-Identifier: Apache-2.0
//
// Plans of rows from counts, and routings made to order.
#include "kernels/step/routing.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "kernels/step/random.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

double normal_number(SplitMix& random) // Box-Muller
{
    double const u = 1 - random.uniform(), v = random.uniform();
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
}

/// Loads proportional to exp(spread x z), none above @p most, that sum to @p total.
std::vector<double> loads_with_spread(std::vector<double> const& z, double spread, double most, double total)
{
    std::vector<double> loads(z.size());
    double const top = *std::max_element(z.begin(), z.end());
    auto sum_at = [&](double scale) {
        double sum = 0;
        for (std::size_t e = 0; e < z.size(); ++e)
            sum += loads[e] = std::min(most, scale * std::exp(spread * (z[e] - top)));
        return sum;
    };
    double low = 0, high = total; // the sum grows with the scale
    while (sum_at(high) < total && high < 1e300) high *= 2;
    for (int i = 0; i < 200; ++i) {
        double const middle = (low + high) / 2;
        (sum_at(middle) < total ? low : high) = middle;
    }
    sum_at(high);
    return loads;
}

double variation(std::vector<double> const& loads)
{
    double const n = static_cast<double>(loads.size());
    double const mean = std::accumulate(loads.begin(), loads.end(), 0.0) / n;
    double square = 0;
    for (double const x : loads) square += (x - mean) * (x - mean);
    return std::sqrt(square / n) / mean;
}

/// Whole numbers with the same sum, the largest remainders rounded up; none above @p most.
std::vector<std::int64_t> rounded(std::vector<double> const& loads, std::int64_t total, std::int64_t most)
{
    std::vector<std::int64_t> out(loads.size());
    std::vector<std::size_t> order(loads.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t e = 0; e < loads.size(); ++e)
        total -= out[e] = std::min(most, static_cast<std::int64_t>(loads[e]));
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return loads[a] - std::floor(loads[a]) > loads[b] - std::floor(loads[b]); });
    while (total > 0)
        for (auto const e : order)
            if (total > 0 && out[e] < most) ++out[e], --total;
    return out;
}

std::vector<std::int64_t> expert_loads(MoeLayers const& moe, std::int64_t tokens, double cv, std::uint64_t seed)
{
    double const most_cv = std::sqrt(static_cast<double>(moe.experts) / moe.top_k - 1);
    if (!(cv >= 0) || cv > 0.95 * most_cv)
        throw InputError(fmt::format(
            "a load variation of {} is out of range (a token meets an expert once, so {} of {} experts allow at "
            "most {:.2f}); try 0.3",
            cv, moe.top_k, moe.experts, 0.95 * most_cv));
    std::int64_t const total = tokens * moe.top_k;
    double const most = static_cast<double>(tokens);
    SplitMix random{mix_seeds(seed, 3)};
    std::vector<double> z(index(moe.experts));
    for (auto& x : z) x = normal_number(random);
    double low = 0, high = cv > 0 ? 1 : 0;
    while (high > 0 && high < 512 && variation(loads_with_spread(z, high, most, static_cast<double>(total))) < cv)
        high *= 2;
    for (int i = 0; i < 60 && high > 0; ++i) {
        double const middle = (low + high) / 2;
        (variation(loads_with_spread(z, middle, most, static_cast<double>(total))) < cv ? low : high) = middle;
    }
    return rounded(loads_with_spread(z, high, most, static_cast<double>(total)), total, tokens);
}

/// Each expert's load as a run in a row of T x k places; token i takes the places i, i + T, ...: no run is longer than
/// T, so its experts differ.
std::vector<std::int32_t> spread_over_tokens(std::vector<std::int64_t> const& loads, std::int64_t tokens, int top_k,
                                             std::uint64_t seed)
{
    std::vector<std::int32_t> places;
    places.reserve(index(tokens) * index(top_k));
    for (std::size_t e = 0; e < loads.size(); ++e)
        places.insert(places.end(), index(loads[e]), static_cast<std::int32_t>(e));
    std::vector<std::int64_t> order(index(tokens));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    SplitMix random{seed};
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    std::vector<std::int32_t> chosen(places.size());
    for (std::int64_t t = 0; t < tokens; ++t)
        for (int j = 0; j < top_k; ++j) chosen[index(order[index(t)] * top_k + j)] = places[index(j * tokens + t)];
    return chosen;
}

[[noreturn]] void does_not_fit(std::string const& what)
{
    throw InputError("the routing does not fit the step: " + what + "; record it with the same model and batch");
}

/// Tokens per expert. @throws InputError unless each token names different experts that exist
std::vector<std::int32_t> counted(std::vector<std::int32_t> const& chosen, MoeLayers const& moe, std::int64_t tokens)
{
    if (std::ssize(chosen) != tokens * moe.top_k)
        does_not_fit(fmt::format("a layer has {} choices instead of {} x {}", chosen.size(), tokens, moe.top_k));
    std::vector<std::int32_t> counts(index(moe.experts));
    for (std::int64_t t = 0; t < tokens; ++t) {
        auto const* const mine = chosen.data() + t * moe.top_k;
        for (int j = 0; j < moe.top_k; ++j) {
            if (mine[j] < 0 || mine[j] >= moe.experts || std::find(mine, mine + j, mine[j]) != mine + j)
                does_not_fit(
                    fmt::format("token {} chooses expert {} of {}, or twice the same", t, mine[j], moe.experts));
            ++counts[index(mine[j])];
        }
    }
    return counts;
}

} // namespace

std::int64_t ExpertPlan::received() const { return std::accumulate(receive.begin(), receive.end(), std::int64_t{0}); }

ExpertPlan plan_rows(std::vector<std::int32_t> const& counts, int rank, int ranks, int local_experts,
                     std::int64_t alignment)
{
    auto const experts = std::ssize(counts) / ranks;
    ExpertPlan plan;
    plan.send.resize(index(ranks));
    plan.receive.resize(index(ranks));
    std::vector<std::int32_t> here(index(local_experts));
    for (int from = 0; from < ranks; ++from)
        for (std::int64_t e = 0; e < experts; ++e) {
            auto const rows = counts[index(from * experts + e)];
            auto const owner = e * ranks / experts;
            if (from == rank) plan.send[index(owner)] += rows;
            if (owner != rank) continue;
            plan.receive[index(from)] += rows;
            here[index(e % local_experts)] += rows;
        }
    plan.groups = groups_from_counts(here, alignment);
    return plan;
}

MoeLayers moe_layers(Architecture const& model)
{
    MoeLayers m;
    for (auto const* layers : {&model.layers, &model.mtp})
        for (auto const& layer : *layers)
            if (layer.is_moe()) ++m.count, m.experts = layer.ffn.experts->count, m.top_k = layer.ffn.experts->top_k;
    return m;
}

Prepared prepare_live(Context const& c)
{
    auto const moe = moe_layers(c.config.model);
    Prepared p;
    p.counts.assign(index(moe.count) * index(moe.experts), 0);
    if (moe.count > 0) p.all_counts = c.i32(moe.count, moe.experts);
    return p;
}

void sum_counts(Context const& c, Communicator& world, Prepared& p)
{
    if (p.counts.empty()) return;
    c.backend.upload(p.all_counts, std::span<std::int32_t const>{p.counts});
    world.all_reduce(p.all_counts);
}

Prepared prepare_forced(Context const& c, Communicator& world, Routing const& routing)
{
    auto const moe = moe_layers(c.config.model);
    auto p = prepare_live(c);
    p.forced = true;
    if (std::ssize(routing.chosen) != c.config.micro_batches)
        does_not_fit(
            fmt::format("it has {} micro-batches instead of {}", routing.chosen.size(), c.config.micro_batches));
    std::vector<std::int32_t> chosen, counts;
    for (auto const& layers : routing.chosen) {
        if (std::ssize(layers) != moe.count)
            does_not_fit(fmt::format("it has {} MoE layers instead of {}", layers.size(), moe.count));
        for (std::size_t l = 0; l < layers.size(); ++l) {
            auto const here = counted(layers[l], moe, c.tokens());
            chosen.insert(chosen.end(), layers[l].begin(), layers[l].end());
            counts.insert(counts.end(), here.begin(), here.end());
            for (std::size_t e = 0; e < here.size(); ++e) p.counts[l * here.size() + e] += here[e];
        }
    }
    p.plans.resize(routing.chosen.size(), std::vector<ExpertPlan>(index(moe.count)));
    if (moe.count == 0) return p;
    p.chosen = c.i32(std::int64_t{c.config.micro_batches} * moe.count * c.tokens(), moe.top_k);
    c.backend.upload(p.chosen, std::span<std::int32_t const>{chosen});
    sum_counts(c, world, p);

    // All ranks' counts of all layers at once: [rank][micro-batch x layer][expert].
    int const ranks = c.experts.size();
    auto const mine = c.i32(1, std::ssize(counts)), all = c.i32(ranks, std::ssize(counts));
    c.backend.upload(mine, std::span<std::int32_t const>{counts});
    c.counts.all_gather(mine, all);
    auto const gathered = c.backend.download_ints(all);
    for (std::size_t i = 0; i < p.plans.size() * index(moe.count); ++i) {
        std::vector<std::int32_t> layer;
        for (int r = 0; r < ranks; ++r) {
            auto const* const first = gathered.data() + index(r) * counts.size() + i * index(moe.experts);
            layer.insert(layer.end(), first, first + moe.experts);
        }
        p.plans[i / index(moe.count)][i % index(moe.count)] =
            plan_rows(layer, c.experts.rank(), ranks, c.local_experts(moe.experts), c.alignment());
    }
    return p;
}

Routing make_routing(StepConfig const& config, double load_cv, std::uint64_t seed)
{
    auto const moe = moe_layers(config.model);
    Routing r;
    r.chosen.resize(index(config.micro_batches), std::vector<std::vector<std::int32_t>>(index(moe.count)));
    if (moe.count == 0) return r;
    std::int64_t const tokens = std::int64_t{config.micro_batch} * config.seq_len;
    auto const loads = expert_loads(moe, tokens, load_cv, seed);
    for (std::size_t m = 0; m < r.chosen.size(); ++m)
        for (std::size_t l = 0; l < r.chosen[m].size(); ++l)
            r.chosen[m][l] = spread_over_tokens(loads, tokens, moe.top_k, mix_seeds(seed, 4, m, l));
    return r;
}

} // namespace trainfare::kernels
