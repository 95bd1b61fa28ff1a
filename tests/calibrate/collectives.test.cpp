// SPDX-License-Identifier: Apache-2.0
//
// Closed forms against published bandwidths.
#include "calibrate/collectives.hpp"

#include <fmt/format.h>

#include <cmath>

#include "tests/catch.hpp"

using namespace trainfare;
using namespace trainfare::units;

namespace {

Tables const& tables()
{
    static Tables const loaded = load_tables(TRAINFARE_SOURCE_DIR "/calibrate/tables");
    return loaded;
}

double bus_gbps(CollectiveOp op, int ranks, Bytes bytes, Seconds time)
{
    return (bytes / time).value() * bus_factor(op, ranks) / 1e9;
}

Reach deepep_reach(int nodes)
{
    Experts experts;
    experts.count = 256, experts.top_k = 8, experts.groups = nodes, experts.top_groups = nodes < 4 ? nodes : 4;
    return expected_reach(experts, 8 * nodes, nodes);
}

TwoLevel h800(int nodes)
{
    auto const& gpu = tables().accelerator("H800-SXM");
    return {8,          nodes,     scale_up_rate(tables(), gpu).payload, nic_rate(tables(), *gpu.nic).payload,
            Seconds{0}, Seconds{0}};
}

std::vector<TimedSize> aws(int ranks)
{
    std::vector<TimedSize> points;
    for (auto const& row : tables().collectives) {
        if (tables().sources[static_cast<std::size_t>(row.source)].id != "aws-p6-b200" || row.ranks != ranks) continue;
        points.push_back({*row.message, *row.message * bus_factor(CollectiveOp::all_reduce, ranks) / *row.bandwidth});
    }
    return points;
}

} // namespace

TEST_CASE("bus factors are those of nccl-tests")
{
    CHECK(bus_factor(CollectiveOp::all_reduce, 8) == Approx(1.75));
    CHECK(bus_factor(CollectiveOp::all_gather, 8) == Approx(0.875));
    CHECK(bus_factor(CollectiveOp::reduce_scatter, 4) == Approx(0.75));
    CHECK(bus_factor(CollectiveOp::all_to_all, 64) == Approx(63.0 / 64));
    CHECK(bus_factor(CollectiveOp::send, 2) == 1);
    CHECK(bus_factor(CollectiveOp::all_reduce, 1) == 0);
    CHECK_THROWS_AS(bus_factor(CollectiveOp::all_reduce, 0), InputError);
}

TEST_CASE("latency and bandwidth come back out of times made from them")
{
    std::vector<TimedSize> points;
    for (double size = 1024; size < 1e9; size *= 4)
        points.push_back({Bytes{size}, 12 * us + Bytes{size} / (300 * GBps)});
    auto const fit = fit_alpha_beta(points);
    CHECK(fit.alpha.value() == Approx(12e-6));
    CHECK(fit.bandwidth.value() == Approx(300e9));
    CHECK(fit.rms_error < 1e-9);
    CHECK(fit.loo_error < 1e-6);
}

TEST_CASE("a fit never has negative latency, and says how far it is off")
{
    auto const fit = fit_alpha_beta({{1 * MB, 1 * us}, {2 * MB, 4 * us}, {4 * MB, 8 * us}});
    CHECK(fit.alpha == Seconds{0});
    CHECK(fit.rms_error > 0.05);
    CHECK(fit.loo_error > fit.rms_error);
}

TEST_CASE("a fit refuses what has no bandwidth in it")
{
    CHECK_THROWS_AS(fit_alpha_beta({}), InputError);
    CHECK_THROWS_AS(fit_alpha_beta({{1 * MB, 1 * us}, {1 * MB, 2 * us}}), InputError);
    CHECK_THROWS_AS(fit_alpha_beta({{1 * MB, 1 * us}, {2 * MB, Seconds{0}}}), InputError);
    CHECK_THROWS_AS(fit_alpha_beta({{Bytes{-1}, 1 * us}, {2 * MB, 1 * us}}), InputError);
    CHECK_THROWS_AS(fit_alpha_beta({{Bytes{0}, 1 * us}, {Bytes{0}, 2 * us}}), InputError);
}

TEST_CASE("all-reduce on AWS P6-B200 is a latency and a bandwidth within 20 percent from 32 KiB to 16 GiB on one node")
{
    auto const fit = fit_alpha_beta(aws(8));
    INFO(fmt::format("alpha {:.1f} us, bus {:.0f} GB/s, rms {:.2f}, left out {:.2f}", fit.alpha.value() * 1e6,
                     fit.bandwidth.value() * 1.75 / 1e9, fit.rms_error, fit.loo_error));
    CHECK(aws(8).size() == 20);
    CHECK(fit.alpha.value() == Approx(53e-6).epsilon(0.02));
    CHECK(fit.bandwidth.value() * 1.75 == Approx(718e9).epsilon(0.02));
    CHECK(fit.rms_error < 0.2);
    CHECK(fit.loo_error < 0.2);
}

TEST_CASE("a ring all-reduce of 8 H100s reaches the 365 GB/s that NCCL prints")
{
    auto const rate = scale_up_rate(tables(), tables().accelerator("H100-SXM"));
    auto const time = collective_time(CollectiveOp::all_reduce, Algorithm::ring, 8, 4 * GiB, rate.payload, 3.33 * us);
    CHECK(bus_gbps(CollectiveOp::all_reduce, 8, 4 * GiB, time) == Approx(365).epsilon(0.02));
}

TEST_CASE("reduction in the switch gives 420, 440, 460 and 480 GB/s on 5 to 8 H100s")
{
    auto const rate = scale_up_rate(tables(), tables().accelerator("H100-SXM")).payload;
    int const printed[] = {420, 440, 460, 480};
    for (int n = 5; n <= 8; ++n) {
        auto const time = collective_time(CollectiveOp::all_reduce, Algorithm::nvls, n, 4 * GiB, rate, 3.33 * us);
        CHECK(bus_gbps(CollectiveOp::all_reduce, n, 4 * GiB, time) == Approx(printed[n - 5]).epsilon(0.03));
    }
}

TEST_CASE("reduction in the switch of an H800 gives the 215 GB/s of nccl issue 1374, above its 200 GB/s link")
{
    auto const rate = scale_up_rate(tables(), tables().accelerator("H800-SXM")).payload;
    auto const time = collective_time(CollectiveOp::all_reduce, Algorithm::nvls, 8, 4 * GiB, rate, 3.33 * us);
    CHECK(bus_gbps(CollectiveOp::all_reduce, 8, 4 * GiB, time) == Approx(215).epsilon(0.05));
}

TEST_CASE("an all-reduce across nodes runs at eight NICs: 380 GB/s on DGX H100, 192 on DGX A100")
{
    TwoLevel levels{8, 8, 365 * GBps, 48 * GBps, 3.33 * us, 3.7 * us};
    auto const h100 = hierarchical_time(CollectiveOp::all_reduce, 8 * GiB, levels);
    CHECK(bus_gbps(CollectiveOp::all_reduce, 64, 8 * GiB, h100) == Approx(380).epsilon(0.1));
    levels.domains = 256; // at many nodes the bus factors of both levels agree
    auto const many = hierarchical_time(CollectiveOp::all_reduce, 8 * GiB, levels);
    CHECK(bus_gbps(CollectiveOp::all_reduce, 2048, 8 * GiB, many) == Approx(384).epsilon(0.02));
    TwoLevel const a100{8, 256, 232 * GBps, 24 * GBps, 3.33 * us, 3.7 * us};
    CHECK(bus_gbps(CollectiveOp::all_reduce, 2048, 8 * GiB,
                   hierarchical_time(CollectiveOp::all_reduce, 8 * GiB, a100)) == Approx(192).epsilon(0.02));
}

TEST_CASE("one domain and one level agree, and a single rank costs nothing")
{
    TwoLevel const levels{8, 1, 365 * GBps, 45 * GBps, Seconds{0}, Seconds{0}};
    for (auto const op :
         {CollectiveOp::all_reduce, CollectiveOp::all_gather, CollectiveOp::reduce_scatter, CollectiveOp::all_to_all})
        CHECK(hierarchical_time(op, 1 * GB, levels).value() ==
              Approx(collective_time(op, Algorithm::ring, 8, 1 * GB, 365 * GBps, Seconds{0}).value()));
    CHECK(collective_time(CollectiveOp::all_reduce, Algorithm::nvls, 1, 1 * GB, 365 * GBps, 1 * us) == Seconds{0});
    CHECK_THROWS_AS(collective_time(CollectiveOp::all_reduce, Algorithm::ring, -1, 1 * GB, 365 * GBps, 1 * us),
                    InputError);
}

TEST_CASE("an all-to-all across nodes is bound by one NIC per GPU")
{
    TwoLevel const levels{8, 8, 160 * GBps, 45 * GBps, Seconds{0}, Seconds{0}};
    CHECK(hierarchical_time(CollectiveOp::all_to_all, 64 * MB, levels).value() == Approx(56e6 / 45e9));
    CHECK(hierarchical_time(CollectiveOp::send, 45 * MB, levels).value() == Approx(1e-3));
}

TEST_CASE("latency counts the steps: 14 on a ring of 8, 6 on a tree, 2 in the switch")
{
    auto const steps = [](Algorithm a) {
        return collective_time(CollectiveOp::all_reduce, a, 8, Bytes{0}, 1 * GBps, Seconds{1}).value();
    };
    CHECK(steps(Algorithm::ring) == Approx(14));
    CHECK(steps(Algorithm::tree) == Approx(6));
    CHECK(steps(Algorithm::nvls) == Approx(2));
}

TEST_CASE("NVLink payload is what was published, or the median share of the line rate with a wider band")
{
    auto const h800 = scale_up_rate(tables(), tables().accelerator("H800-SXM"));
    CHECK(h800.payload.value() == Approx(160e9));
    CHECK(h800.source >= 0);
    auto const gb200 = scale_up_rate(tables(), tables().accelerator("GB200-NVL72"));
    CHECK(gb200.payload.value() == Approx(0.80 * 900e9).epsilon(0.02));
    CHECK(gb200.spread > h800.spread);
    CHECK(gb200.derivation.find("not measured on GB200-NVL72") != std::string::npos);
    CHECK_THROWS_AS(scale_up_rate(tables(), tables().accelerator("L40S")), InputError);
}

TEST_CASE(
    "a NIC carries 0.87 of its line rate in expert exchanges: 51 GB/s logical on 8 nodes is 44.6 of 50 on the wire")
{
    auto const& gpu = tables().accelerator("H800-SXM");
    auto const rate = nic_rate(tables(), 400 * Gbitps);
    INFO(rate.derivation);
    CHECK(rate.payload.value() == Approx(0.87 * 50e9).epsilon(0.015));
    CHECK(rate.spread < 0.1);
    CHECK(nic_rate(tables(), 200 * Gbitps).payload.value() == Approx(rate.payload.value() / 2));
    CHECK(tables().sources[static_cast<std::size_t>(rate.source)].id == "deepep-v1");
}

TEST_CASE("expert exchange reproduces DeepEP on 8, 16, 32 and 64 H800s")
{
    struct Published {
        int nodes;
        double gbps, tolerance;
    };
    // 16 GPUs are the one case bound by NVLink behind a fabric: the kernel loses a further 14 % there, which is not
    // modelled.
    for (auto const& [nodes, gbps, tolerance] :
         {Published{1, 153, 0.06}, Published{1, 158, 0.02}, Published{2, 43, 0.15}, Published{4, 58, 0.05},
          Published{4, 57, 0.05}, Published{8, 51, 0.05}, Published{8, 50, 0.05}}) {
        auto const reach = deepep_reach(nodes);
        Bytes const copy = 4096.0 * 7168 * Bytes{1};
        auto const exchange = expert_exchange(copy, reach, h800(nodes));
        auto const logical = copy * (nodes == 1 ? reach.gpus : reach.domains) / exchange.time;
        INFO(fmt::format("{} nodes: {:.1f} GB/s, published {}", nodes, logical.value() / 1e9, gbps));
        CHECK(logical.value() / 1e9 == Approx(gbps).epsilon(tolerance));
    }
    auto const two = expert_exchange(1 * GB, deepep_reach(2), h800(2));
    CHECK(two.time.value() == Approx((two.inside / h800(2).inside).value())); // NVLink sets the pace
    auto const eight = expert_exchange(1 * GB, deepep_reach(8), h800(8));
    CHECK(eight.time.value() == Approx((eight.fabric / h800(8).across).value())); // the NIC does
    CHECK(eight.fabric.value() == Approx(1e9 * 3.62 * 7 / 8).epsilon(0.005));
}

TEST_CASE("an exchange inside one NVLink domain sends nothing over the fabric")
{
    auto const one = expert_exchange(1 * GB, deepep_reach(1), {8, 1, 160 * GBps, 45 * GBps, 3 * us, 4 * us});
    CHECK(one.fabric == Bytes{0});
    CHECK(one.time.value() == Approx((one.inside / (160 * GBps)).value() + 3e-6));
}
