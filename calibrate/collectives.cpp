// SPDX-License-Identifier: Apache-2.0
//
// Closed forms of collectives. Each is checked against published bandwidths in tests/calibrate/collectives.test.cpp.
#include "calibrate/collectives.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace trainfare {

namespace {

// Sums of the normal equations of t = a + b z, each row divided by t so that relative errors are what is squared.
struct Sums {
    long double one = 0, z = 0, zz = 0, t = 0, zt = 0;

    void add(long double size, long double time, int sign = 1)
    {
        auto const w = sign / (time * time);
        one += w, z += w * size, zz += w * size * size, t += w * time, zt += w * size * time;
    }
};

struct Line {
    double alpha = 0, slope = 0;
};

/// Latency is never negative: where the best line says so, the best line through the origin.
Line solve(Sums const& s)
{
    auto const determinant = s.one * s.zz - s.z * s.z;
    if (determinant > 1e-12L * s.one * s.zz) {
        auto const alpha = (s.t * s.zz - s.zt * s.z) / determinant;
        if (alpha >= 0)
            return {static_cast<double>(alpha), static_cast<double>((s.one * s.zt - s.z * s.t) / determinant)};
    }
    return {0, static_cast<double>(s.zt / s.zz)};
}

/// What a reduction inside the NVSwitch reaches of the rate that a ring reaches. All-reduce on 5, 6, 7 and 8 H100s
/// prints 420, 440, 460 and 480 GB/s bus bandwidth (nccl issue 1455); with S (1 + 1/n) bytes per GPU and direction that
/// is 315, 308, 307 and 309 GB/s on the wire, of the ring's 365.
constexpr double nvls_share = 0.845;

double log2_ceil(int n) { return std::ceil(std::log2(static_cast<double>(n))); }

void check_ranks(int ranks)
{
    if (ranks < 1) throw InputError(fmt::format("a collective of {} ranks cannot be; use at least 1", ranks));
}

/// Sequential messages of a collective, each of which pays the latency.
double steps(CollectiveOp op, Algorithm algorithm, int ranks)
{
    double const halves = op == CollectiveOp::all_reduce ? 2 : 1;
    if (op == CollectiveOp::send || op == CollectiveOp::all_to_all) return 1; // all peers at once
    switch (algorithm) {
    case Algorithm::ring: return halves * (ranks - 1);
    case Algorithm::tree: return halves * log2_ceil(ranks);
    case Algorithm::nvls: return halves;
    }
    return halves;
}

} // namespace

AlphaBeta fit_alpha_beta(std::vector<TimedSize> const& points)
{
    double largest = 0;
    for (auto const& [bytes, time] : points) {
        if (!(time.value() > 0 && std::isfinite(time.value()) && bytes.value() >= 0 && std::isfinite(bytes.value())))
            throw InputError("a timed message has no positive time or a negative size; leave it out of the fit");
        largest = std::max(largest, bytes.value());
    }
    auto const other_size = [&](TimedSize const& p) { return p.bytes != points.front().bytes; };
    if (points.empty() || std::none_of(points.begin(), points.end(), other_size))
        throw InputError(
            "fewer than two message sizes (latency and bandwidth cannot be told apart); time at least two");

    auto const scaled = [&](TimedSize const& p) { return p.bytes.value() / largest; };
    Sums all;
    for (auto const& p : points) all.add(scaled(p), p.time.value());
    auto const line = solve(all);
    if (!(line.slope > 0))
        throw InputError("times do not grow with the size of the message (no bandwidth follows); time larger messages");

    auto const error = [&](Line const& l, TimedSize const& p) {
        return (l.alpha + l.slope * scaled(p)) / p.time.value() - 1;
    };
    double squares = 0, left_out = 0;
    for (auto const& p : points) {
        squares += error(line, p) * error(line, p);
        Sums rest = all;
        rest.add(scaled(p), p.time.value(), -1);
        left_out += std::abs(error(solve(rest), p));
    }
    auto const n = static_cast<double>(points.size());
    // Two points determine the line: leaving one out says nothing.
    return {Seconds{line.alpha}, Bandwidth{largest / line.slope}, std::sqrt(squares / n),
            points.size() > 2 ? left_out / n : 0};
}

double bus_factor(CollectiveOp op, int ranks)
{
    check_ranks(ranks);
    double const n = ranks;
    switch (op) {
    case CollectiveOp::all_reduce: return 2 * (n - 1) / n;
    case CollectiveOp::all_gather:
    case CollectiveOp::reduce_scatter:
    case CollectiveOp::all_to_all: return (n - 1) / n;
    case CollectiveOp::send: return 1;
    }
    return 1;
}

Seconds collective_time(CollectiveOp op, Algorithm algorithm, int ranks, Bytes bytes, Bandwidth per_gpu,
                        Seconds latency)
{
    check_ranks(ranks);
    if (ranks == 1 && op != CollectiveOp::send) return Seconds{0};
    Bytes wire = bytes * bus_factor(op, ranks);
    if (op == CollectiveOp::all_reduce && algorithm == Algorithm::tree)
        wire = bytes * 2.0; // up one tree, down the other
    if (op == CollectiveOp::all_reduce && algorithm == Algorithm::nvls) {
        // The switch reads all S bytes of a GPU and hands 1/n of the sums back; then 1/n goes out and S comes in.
        wire = bytes * (1 + 1.0 / ranks);
        per_gpu = per_gpu * nvls_share;
    }
    return latency * steps(op, algorithm, ranks) + wire / per_gpu;
}

Seconds hierarchical_time(CollectiveOp op, Bytes bytes, TwoLevel const& levels)
{
    check_ranks(levels.domain);
    check_ranks(levels.domains);
    if (op == CollectiveOp::send)
        return levels.domains > 1 ? levels.across_latency + bytes / levels.across
                                  : levels.inside_latency + bytes / levels.inside;
    auto const time = [&](CollectiveOp part, int ranks, Bytes size, Bandwidth rate) {
        return collective_time(part, Algorithm::ring, ranks, size, rate, Seconds{0});
    };
    Seconds inside, across;
    double halves = 1;
    if (op == CollectiveOp::all_to_all) { // every pair talks directly: shares of the buffer by where the peer is
        double const ranks = static_cast<double>(levels.domain) * levels.domains;
        inside = bytes * ((levels.domain - 1) / ranks) / levels.inside;
        across = bytes * ((ranks - levels.domain) / ranks) / levels.across;
    } else {
        halves = op == CollectiveOp::all_reduce ? 2 : 1;
        inside = halves * time(CollectiveOp::all_gather, levels.domain, bytes, levels.inside);
        across = time(op, levels.domains, bytes / levels.domain, levels.across);
    }
    // Chunks are pipelined through the levels, so the slower one shows: 8 x 400 Gb/s per H100 node gives 380 GB/s bus
    // bandwidth, not the 200 of one level after the other.
    Seconds latency{0};
    if (levels.domain > 1) latency += levels.inside_latency * halves;
    if (levels.domains > 1) latency += levels.across_latency * (halves * log2_ceil(levels.domains));
    return std::max(inside, across) + latency;
}

ExpertExchange expert_exchange(Bytes copy, Reach const& reach, TwoLevel const& levels)
{
    check_ranks(levels.domain);
    check_ranks(levels.domains);
    ExpertExchange out;
    double const remote =
        (levels.domains - 1.0) / levels.domains; // of the domains reached, by symmetry of a uniform router
    out.fabric = copy * (reach.domains * remote);
    // Copies for the own GPU count: they take the same buffers and the same kernel (and the published bandwidth counts
    // them).
    out.inside = levels.domain > 1 ? copy * reach.gpus : Bytes{0};
    Seconds latency{0};
    Seconds slower{0};
    if (out.fabric.value() > 0) slower = out.fabric / levels.across, latency += levels.across_latency;
    if (out.inside.value() > 0) slower = std::max(slower, out.inside / levels.inside), latency += levels.inside_latency;
    out.time = slower + latency;
    return out;
}

} // namespace trainfare
