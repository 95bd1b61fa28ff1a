// SPDX-License-Identifier: Apache-2.0
//
// The router on a GPU: one warp a token, one pass. Lane l holds experts l, l + 32, ..., so every step is a few
// instructions on registers and a shuffle; only the ranking of groups goes through shared memory. Moves 4 T E bytes
// (and as little else), so at T = 4096, E = 256 latency and not bandwidth is what it costs.
#include "kernels/ops/gate.hpp"

#include <climits>
#include <limits>
#include <type_traits>

#include "kernels/cuda/backend.hpp"
#include "kernels/cuda/launch.cuh"

namespace trainfare::kernels {
namespace {

using cuda::warp_size;
using cuda::whole_warp;

constexpr int warps = 4; // of a block: as many tokens at a time
constexpr float lowest = -std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Task {
    std::int64_t tokens;
    int experts, top_k, groups, top_groups;
    bool sigmoid, normalise;
    float scale;
};

Task task_of(Gate const& gate, Tensor const& logits)
{
    return {logits.rows,    gate.experts, gate.top_k, gate.groups, gate.top_groups, gate.score == Gate::Score::sigmoid,
            gate.normalise, gate.scale};
}

struct Candidate {
    float value; // never NaN
    int index;
};

constexpr Candidate nobody{lowest, INT_MAX}; // loses against every candidate

__device__ bool better(Candidate a, Candidate b)
{
    return a.value > b.value || (a.value == b.value && a.index < b.index);
}

__device__ Candidate best_of_warp(Candidate mine)
{
    for (int offset = warp_size / 2; offset > 0; offset /= 2) {
        Candidate const other{__shfl_xor_sync(whole_warp, mine.value, offset),
                              __shfl_xor_sync(whole_warp, mine.index, offset)};
        if (better(other, mine)) mine = other;
    }
    return mine;
}

__device__ float nan_last(float x) { return x == x ? x : lowest; }

/// Scores of experts lane, lane + 32, ...; zero beyond the last.
template <int N>
__device__ void scores_of(Task const& task, float const* logits, int lane, float (&score)[N])
{
    float top = -3.402823466e38F, sum = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        int const e = lane + warp_size * i;
        score[i] = e < task.experts ? logits[e] : lowest;
        top = fmaxf(top, score[i]);
    }
    if (!task.sigmoid) top = cuda::warp_reduce(top, cuda::Max{});
#pragma unroll
    for (int i = 0; i < N; ++i) {
        bool const real = lane + warp_size * i < task.experts;
        if (task.sigmoid)
            score[i] = real ? 1 / (1 + expf(-score[i])) : 0.0F;
        else
            sum += score[i] = real ? expf(score[i] - top) : 0.0F;
    }
    if (task.sigmoid) return;
    sum = cuda::warp_reduce(sum, cuda::Add{});
#pragma unroll
    for (int i = 0; i < N; ++i) score[i] /= sum;
}

/// The score of one expert to all lanes; NaN where there is no such expert.
template <int N>
__device__ float score_of(Task const& task, float const (&score)[N], int expert, int lane)
{
    float found = 0;
#pragma unroll
    for (int i = 0; i < N; ++i)
        if (lane + warp_size * i == expert) found = score[i];
    found = __shfl_sync(whole_warp, found, expert & (warp_size - 1));
    return expert >= 0 && expert < task.experts ? found : not_a_number;
}

/// The sum of a group's two best values. Lanes begin at different members, so that they read different banks.
__device__ float group_rank(float const* members, int count, int lane)
{
    float first = lowest, second = lowest;
    int at = lane % count;
    for (int i = 0; i < count; ++i) {
        float const x = members[at];
        if (x > first)
            second = first, first = x;
        else if (x > second)
            second = x;
        at = at + 1 == count ? 0 : at + 1;
    }
    return nan_last(count == 1 ? first : first + second);
}

/// Bit g: group g is kept. @p ranked is this warp's shared memory.
template <int N>
__device__ unsigned kept_groups(Task const& task, float const (&biased)[N], int lane, float* ranked)
{
#pragma unroll
    for (int i = 0; i < N; ++i)
        if (lane + warp_size * i < task.experts) ranked[lane + warp_size * i] = biased[i];
    __syncwarp();
    int const width = task.experts / task.groups;
    Candidate mine = nobody;
    if (lane < task.groups) mine = {group_rank(ranked + lane * width, width, lane), lane};
    unsigned kept = 0;
    for (int g = 0; g < task.top_groups; ++g) {
        int const winner = best_of_warp(mine).index;
        kept |= 1U << winner;
        if (lane == winner) mine = nobody;
    }
    __syncwarp();
    return kept;
}

template <int N>
__global__ void __launch_bounds__(warps* warp_size)
    gate_kernel(Task task, float const* logits, float const* bias, int const* forced, int* chosen, float* weights,
                int* counts)
{
    __shared__ float ranked[warps][N * warp_size];
    int const lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
    std::int64_t const step = static_cast<std::int64_t>(gridDim.x) * warps;
    for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * warps + warp; t < task.tokens; t += step) {
        float score[N];
        scores_of(task, logits + t * task.experts, lane, score);

        float biased[N];
        unsigned open = 0; // bit i: expert lane + 32 i may be chosen
        if (forced == nullptr) {
#pragma unroll
            for (int i = 0; i < N; ++i) {
                int const e = lane + warp_size * i;
                biased[i] = nan_last(bias != nullptr && e < task.experts ? score[i] + bias[e] : score[i]);
            }
            unsigned const kept =
                task.top_groups < task.groups ? kept_groups(task, biased, lane, ranked[warp]) : whole_warp;
            int const width = task.experts / task.groups;
#pragma unroll
            for (int i = 0; i < N; ++i) {
                int const e = lane + warp_size * i;
                if (e < task.experts && (kept >> (e / width) & 1U) != 0) open |= 1U << i;
            }
        }

        int my_expert = 0; // lane j keeps choice j
        float my_score = 0, sum = 0;
        for (int j = 0; j < task.top_k; ++j) {
            int expert = 0;
            if (forced != nullptr) {
                expert = forced[t * task.top_k + j];
            } else {
                Candidate mine = nobody;
#pragma unroll
                for (int i = 0; i < N; ++i) {
                    Candidate const other{biased[i], lane + warp_size * i};
                    if ((open >> i & 1U) != 0 && better(other, mine)) mine = other;
                }
                expert = best_of_warp(mine).index;
                if (expert % warp_size == lane) open &= ~(1U << expert / warp_size);
            }
            float const s = score_of(task, score, expert, lane);
            sum += s;
            if (lane == j) my_expert = expert, my_score = s;
        }
        if (lane < task.top_k) {
            chosen[t * task.top_k + lane] = my_expert;
            weights[t * task.top_k + lane] =
                my_score * (task.normalise ? task.scale / (sum + gate_sum_guard) : task.scale);
            if (my_expert >= 0 && my_expert < task.experts) atomicAdd(counts + my_expert, 1);
        }
    }
}

template <int N>
__global__ void __launch_bounds__(warps* warp_size)
    gate_backward_kernel(Task task, float const* logits, int const* chosen, float const* d_weights,
                         __nv_bfloat16* d_logits)
{
    int const lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
    std::int64_t const step = static_cast<std::int64_t>(gridDim.x) * warps;
    for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * warps + warp; t < task.tokens; t += step) {
        float score[N];
        scores_of(task, logits + t * task.experts, lane, score);

        bool const has_choice = lane < task.top_k; // lane j keeps choice j
        int const my_expert = has_choice ? chosen[t * task.top_k + lane] : 0;
        float const my_slope = has_choice ? d_weights[t * task.top_k + lane] : 0;
        float my_score = 0, sum = gate_sum_guard, product = 0; // weight j = scale s_j / sum
        for (int j = 0; j < task.top_k; ++j) {
            float const s = score_of(task, score, __shfl_sync(whole_warp, my_expert, j), lane);
            sum += s, product += __shfl_sync(whole_warp, my_slope, j) * s;
            if (lane == j) my_score = s;
        }
        float const my_d_score = task.scale * (task.normalise ? (my_slope - product / sum) / sum : my_slope);

        float d_score[N] = {};
        float mean = 0; // of d_score under the scores, for softmax
        for (int j = 0; j < task.top_k; ++j) {
            int const expert = __shfl_sync(whole_warp, my_expert, j);
            float const d = __shfl_sync(whole_warp, my_d_score, j);
            mean += d * __shfl_sync(whole_warp, my_score, j);
#pragma unroll
            for (int i = 0; i < N; ++i)
                if (lane + warp_size * i == expert) d_score[i] += d;
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            int const e = lane + warp_size * i;
            float const slope = task.sigmoid ? d_score[i] * score[i] * (1 - score[i]) : score[i] * (d_score[i] - mean);
            if (e < task.experts) d_logits[t * task.experts + e] = __float2bfloat16_rn(slope);
        }
    }
}

constexpr int balance_threads = 256;

/// One block.
__global__ void __launch_bounds__(balance_threads)
    balance_kernel(float* bias, int const* counts, std::int64_t experts, float rate)
{
    __shared__ long long partial[balance_threads];
    auto const me = static_cast<int>(threadIdx.x);
    long long total = 0;
    for (std::int64_t e = me; e < experts; e += balance_threads) total += counts[e];
    partial[me] = total;
    __syncthreads();
    for (int half = balance_threads / 2; half > 0; half /= 2) {
        if (me < half) partial[me] += partial[me + half];
        __syncthreads();
    }
    total = partial[0];
    for (std::int64_t e = me; e < experts; e += balance_threads) { // the sign of mean - count, exact in integers
        long long const missing = total - static_cast<long long>(counts[e]) * experts;
        bias[e] += rate * static_cast<float>((missing > 0) - (missing < 0));
    }
}

/// Calls launch_with(std::integral_constant<int, N>) with the least N of 1, 2, 4, 8, 16 for which 32 N lanes hold all
/// experts.
template <int N = 1, class Launch>
void for_experts(int experts, Launch const& launch_with)
{
    if constexpr (N * warp_size < gate_max_experts) {
        if (experts > N * warp_size) return for_experts<2 * N>(experts, launch_with);
    }
    launch_with(std::integral_constant<int, N>{});
}

} // namespace

void CudaBackend::gate(Gate const& gate, Tensor const& logits, Tensor const& bias, Tensor const& forced,
                       Tensor const& chosen, Tensor const& weights, Tensor const& counts)
{
    check_gate(gate, logits, bias, forced, chosen, weights, counts);
    fill(counts, 0);
    if (logits.rows == 0) return;
    for_experts(gate.experts, [&](auto n) {
        cuda::launch("gate", gate_kernel<n()>, blocks((logits.rows + warps - 1) / warps, 16), warps * warp_size, 0,
                     stream(), task_of(gate, logits), static_cast<float const*>(logits.data),
                     static_cast<float const*>(bias.data), static_cast<int const*>(forced.data),
                     static_cast<int*>(chosen.data), static_cast<float*>(weights.data), static_cast<int*>(counts.data));
    });
}

void CudaBackend::gate_backward(Gate const& gate, Tensor const& logits, Tensor const& chosen, Tensor const& d_weights,
                                Tensor const& d_logits)
{
    check_gate_backward(gate, logits, chosen, d_weights, d_logits);
    if (logits.rows == 0) return;
    for_experts(gate.experts, [&](auto n) {
        cuda::launch("gate_backward", gate_backward_kernel<n()>, blocks((logits.rows + warps - 1) / warps, 16),
                     warps * warp_size, 0, stream(), task_of(gate, logits), static_cast<float const*>(logits.data),
                     static_cast<int const*>(chosen.data), static_cast<float const*>(d_weights.data),
                     static_cast<__nv_bfloat16*>(d_logits.data));
    });
}

void CudaBackend::balance(Tensor const& bias, Tensor const& counts, float rate)
{
    check_balance(bias, counts);
    if (bias.size() == 0) return;
    cuda::launch("balance", balance_kernel, 1, balance_threads, 0, stream(), static_cast<float*>(bias.data),
                 static_cast<int const*>(counts.data), bias.size(), rate);
}

} // namespace trainfare::kernels
