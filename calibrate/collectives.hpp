// SPDX-License-Identifier: Apache-2.0
//
// Collectives in closed form: latency plus volume over the slowest link, and the fits behind it. The volume factors are those of
// nccl-tests' PERFORMANCE.md; algorithms as in NCCL (ring, double binary tree, NVLS in-switch reduction).
#pragma once

#include <vector>

#include "calibrate/tables.hpp"
#include "model/routing.hpp"

namespace trainfare {

/// t = alpha + bytes / bandwidth, least squares on relative error.
struct AlphaBeta {
    Seconds alpha;
    Bandwidth bandwidth;
    double rms_error = 0;   // relative, of the fit
    double loo_error = 0;   // relative, leave-one-out mean
};
struct TimedSize {
    Bytes bytes;
    Seconds time;
};
/// @throws InputError with fewer than two distinct sizes.
AlphaBeta fit_alpha_beta(std::vector<TimedSize> const&);

enum class CollectiveOp { all_reduce, all_gather, reduce_scatter, all_to_all, send };
enum class Algorithm { ring, tree, nvls };

/// Busbw factor: algorithm bandwidth x factor = what a wire carries. all-reduce 2(n-1)/n, all-gather, reduce-scatter and
/// all-to-all (n-1)/n, send 1.
double bus_factor(CollectiveOp, int ranks);

/// One level (an NVLink domain, or a fabric): @p bytes as nccl-tests counts them (the whole buffer).
Seconds collective_time(CollectiveOp, Algorithm, int ranks, Bytes bytes, Bandwidth per_gpu, Seconds latency);

/// Two levels, rails in parallel: reduce-scatter or all-gather inside the domain, then across domains on 1/domain of the bytes.
struct TwoLevel {
    int domain = 8;      // ranks inside a domain
    int domains = 1;
    Bandwidth inside, across; // per GPU and direction
    Seconds inside_latency, across_latency;
};
Seconds hierarchical_time(CollectiveOp, Bytes bytes, TwoLevel const&);

/// Node-limited expert dispatch or combine (DeepEP): each token crosses the fabric once per domain it reaches, then NVLink fans out.
/// Returns the slower of the two levels plus latency. @p copy bytes of one copy of all tokens of one GPU.
struct ExpertExchange {
    Seconds time;
    Bytes fabric;   // sent per GPU across domains
    Bytes inside;   // sent per GPU over NVLink
};
ExpertExchange expert_exchange(Bytes copy, Reach const&, TwoLevel const&);

/// Payload rates of the links of an accelerator: line rate times the share that published transfers reach; with spread and source.
struct LinkRate {
    Bandwidth payload;
    double spread = 0;
    int source = -1;
    std::string derivation;
};
LinkRate scale_up_rate(Tables const&, Accelerator const&);
LinkRate nic_rate(Tables const&, Bandwidth line);

} // namespace trainfare
