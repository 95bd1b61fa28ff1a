// SPDX-License-Identifier: Apache-2.0
//
// The router of a Mixture-of-Experts layer on a host: scores, the choice of experts (within the best groups), weights
// and loads (DeepSeek-V3, arXiv:2412.19437 s2.1.2 and s2.1.3), their derivative, and the bias that balances loads.
#include "kernels/ops/gate.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "kernels/host/backend.hpp"

namespace trainfare::kernels {
namespace {

template <class Real>
using Numbers = std::span<Real const>;

template <class Real>
std::vector<Real> scores_of(Gate const& gate, Numbers<Real> logits)
{
    std::vector<Real> scores(logits.size());
    if (gate.score == Gate::Score::sigmoid) {
        for (std::size_t e = 0; e < scores.size(); ++e) scores[e] = 1 / (1 + std::exp(-logits[e]));
        return scores;
    }
    Real top = -std::numeric_limits<Real>::max();
    for (Real x : logits) top = std::fmax(top, x);
    double sum = 0;
    for (std::size_t e = 0; e < scores.size(); ++e) sum += static_cast<double>(scores[e] = std::exp(logits[e] - top));
    for (Real& score : scores) score = static_cast<Real>(static_cast<double>(score) / sum);
    return scores;
}

template <class Real>
Real nan_last(Real x)
{
    return std::isnan(x) ? -std::numeric_limits<Real>::infinity() : x;
}

/// The index of the greatest open value, the first of equals; @p open has one at least.
template <class Real>
std::size_t best(Numbers<Real> values, std::vector<bool> const& open)
{
    std::size_t at = values.size();
    for (std::size_t i = 0; i < values.size(); ++i)
        if (open[i] && (at == values.size() || values[i] > values[at])) at = i;
    return at;
}

/// The sum of a group's two best values (one, if it has one).
template <class Real>
Real group_rank(Numbers<Real> members)
{
    Real first = -std::numeric_limits<Real>::infinity(), second = first;
    for (Real x : members) {
        if (x > first)
            second = first, first = x;
        else if (x > second)
            second = x;
    }
    return nan_last(members.size() == 1 ? first : first + second);
}

template <class Real>
std::vector<std::int32_t> choose(Gate const& gate, Numbers<Real> scores, Real const* bias)
{
    std::vector<Real> ranked(scores.begin(), scores.end());
    for (std::size_t e = 0; e < ranked.size(); ++e) ranked[e] = nan_last(bias ? ranked[e] + bias[e] : ranked[e]);

    auto const groups = static_cast<std::size_t>(gate.groups), width = ranked.size() / groups;
    std::vector<Real> ranks(groups);
    for (std::size_t g = 0; g < groups; ++g) ranks[g] = group_rank(Numbers<Real>{ranked}.subspan(g * width, width));
    std::vector<bool> open_groups(groups, true), open(ranked.size(), false);
    for (int i = 0; i < gate.top_groups; ++i) {
        std::size_t const g = best(Numbers<Real>{ranks}, open_groups);
        open_groups[g] = false;
        for (std::size_t e = g * width; e < (g + 1) * width; ++e) open[e] = true;
    }

    std::vector<std::int32_t> chosen;
    for (int j = 0; j < gate.top_k; ++j) {
        std::size_t const e = best(Numbers<Real>{ranked}, open);
        open[e] = false;
        chosen.push_back(static_cast<std::int32_t>(e));
    }
    return chosen;
}

void check_experts(Gate const& gate, std::span<std::int32_t const> chosen, char const* name)
{
    for (auto const e : chosen) require(e >= 0 && e < gate.experts, name, "there is no such expert");
}

} // namespace

template <class Real>
void HostBackend<Real>::gate(Gate const& gate, Tensor const& logits, Tensor const& bias, Tensor const& forced,
                             Tensor const& chosen, Tensor const& weights, Tensor const& counts)
{
    check_gate(gate, logits, bias, forced, chosen, weights, counts);
    auto const experts = static_cast<std::size_t>(gate.experts), k = static_cast<std::size_t>(gate.top_k);
    for (std::size_t e = 0; e < experts; ++e) ints(counts)[e] = 0;
    for (std::int64_t t = 0; t < logits.rows; ++t) {
        auto const scores = scores_of(gate, Numbers<Real>{reals<Real>(logits.row_range(t, 1)), experts});
        auto const picks =
            forced.empty() ? choose(gate, Numbers<Real>{scores}, reals<Real>(bias))
                           : std::vector<std::int32_t>(ints(forced.row_range(t, 1)), ints(forced.row_range(t, 1)) + k);
        check_experts(gate, picks, "gate");
        Real sum = 0;
        for (auto const e : picks) sum += scores[static_cast<std::size_t>(e)];
        Real const factor = gate.normalise ? static_cast<Real>(gate.scale) / (sum + static_cast<Real>(gate_sum_guard))
                                           : static_cast<Real>(gate.scale);
        for (std::size_t j = 0; j < k; ++j) {
            auto const e = static_cast<std::size_t>(picks[j]);
            ints(chosen.row_range(t, 1))[j] = picks[j];
            reals<Real>(weights.row_range(t, 1))[j] = scores[e] * factor;
            ++ints(counts)[e];
        }
    }
}

template <class Real>
void HostBackend<Real>::gate_backward(Gate const& gate, Tensor const& logits, Tensor const& chosen,
                                      Tensor const& d_weights, Tensor const& d_logits)
{
    check_gate_backward(gate, logits, chosen, d_weights, d_logits);
    auto const experts = static_cast<std::size_t>(gate.experts), k = static_cast<std::size_t>(gate.top_k);
    auto const scale = static_cast<Real>(gate.scale);
    for (std::int64_t t = 0; t < logits.rows; ++t) {
        auto const scores = scores_of(gate, Numbers<Real>{reals<Real>(logits.row_range(t, 1)), experts});
        std::span<std::int32_t const> const picks{ints(chosen.row_range(t, 1)), k};
        Numbers<Real> const d_weight{reals<Real>(d_weights.row_range(t, 1)), k};
        check_experts(gate, picks, "gate_backward");

        Real sum = static_cast<Real>(gate_sum_guard), product = 0; // weight j = scale s_j / sum
        for (std::size_t j = 0; j < k; ++j) {
            Real const score = scores[static_cast<std::size_t>(picks[j])];
            sum += score, product += d_weight[j] * score;
        }
        std::vector<Real> d_scores(experts, 0);
        Real mean = 0; // of d_scores under the scores, for softmax
        for (std::size_t j = 0; j < k; ++j) {
            auto const e = static_cast<std::size_t>(picks[j]);
            Real const d_score = scale * (gate.normalise ? (d_weight[j] - product / sum) / sum : d_weight[j]);
            d_scores[e] += d_score, mean += d_score * scores[e];
        }
        Real* const out = reals<Real>(d_logits.row_range(t, 1));
        for (std::size_t e = 0; e < experts; ++e) {
            bool const softmax = gate.score == Gate::Score::softmax;
            Real const slope = softmax ? scores[e] * (d_scores[e] - mean) : d_scores[e] * scores[e] * (1 - scores[e]);
            out[e] = stored<Real>(Element::bf16, slope);
        }
    }
}

template <class Real>
void HostBackend<Real>::balance(Tensor const& bias, Tensor const& counts, float rate)
{
    check_balance(bias, counts);
    std::int64_t total = 0;
    for (std::int64_t e = 0; e < bias.size(); ++e) total += ints(counts)[e];
    for (std::int64_t e = 0; e < bias.size(); ++e) { // the sign of mean - count, exact in integers
        std::int64_t const missing = total - ints(counts)[e] * bias.size();
        reals<Real>(bias)[e] += static_cast<Real>(rate) * static_cast<Real>((missing > 0) - (missing < 0));
    }
}

template void HostBackend<float>::gate(Gate const&, Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                       Tensor const&, Tensor const&);
template void HostBackend<double>::gate(Gate const&, Tensor const&, Tensor const&, Tensor const&, Tensor const&,
                                        Tensor const&, Tensor const&);
template void HostBackend<float>::gate_backward(Gate const&, Tensor const&, Tensor const&, Tensor const&,
                                                Tensor const&);
template void HostBackend<double>::gate_backward(Gate const&, Tensor const&, Tensor const&, Tensor const&,
                                                 Tensor const&);
template void HostBackend<float>::balance(Tensor const&, Tensor const&, float);
template void HostBackend<double>::balance(Tensor const&, Tensor const&, float);

} // namespace trainfare::kernels
