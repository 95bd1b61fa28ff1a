// SPDX-License-Identifier: Apache-2.0
//
// The emulator itself: it computes what a GPU would, and it notices what would go wrong there.
#include "kernels/cuda/launch.cuh"
#include "tests/catch.hpp"

#include <string>
#include <vector>

namespace trainfare::kernels {
namespace {

using emulator::Order;
using namespace cuda;

/// Runs @p kernel over one int per thread, in the given order of threads. @p seed: so that what an earlier launch left
/// in __shared__ memory is not what this one should compute.
std::vector<int> ints_of(Order order, void (*kernel)(int*), unsigned threads, unsigned blocks = 1, int seed = 0)
{
    emulator::set_order(order);
    std::vector<int> out(threads * blocks, seed);
    launch("test", kernel, blocks, threads, 0, nullptr, out.data());
    for (int& x : out) x -= seed;
    emulator::set_order(Order::forward);
    return out;
}

__global__ void reverse_kernel(int* out)
{
    __shared__ int all[256];
    all[threadIdx.x] = static_cast<int>(threadIdx.x + 1000 * blockIdx.x);
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

__global__ void reverse_without_barrier_kernel(int* out)
{
    __shared__ int all[256];
    all[threadIdx.x] = static_cast<int>(threadIdx.x + 1000 * blockIdx.x);
    out[blockIdx.x * blockDim.x + threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

__global__ void from_the_left_without_barrier_kernel(int* out)
{
    __shared__ int all[257];
    if (threadIdx.x == 0) all[0] = out[0];
    all[threadIdx.x + 1] = out[threadIdx.x] + static_cast<int>(threadIdx.x + 1);
    out[threadIdx.x] = all[threadIdx.x];
}

__global__ void ended_before_barrier_kernel(int* out)
{
    if (threadIdx.x == 5) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void two_barriers_kernel(int* out)
{
    if (threadIdx.x < 32) {
        __syncthreads();
        out[threadIdx.x] = 1;
    } else {
        __syncthreads();
        out[threadIdx.x] = 2;
    }
}

__global__ void missing_lane_kernel(int* out)
{
    if (threadIdx.x != 7) out[threadIdx.x] = __shfl_xor_sync(whole_warp, 1, 1);
}

__global__ void shuffle_kernel(int* out)
{
    int const lane = static_cast<int>(threadIdx.x) % 32, x = 10 * static_cast<int>(threadIdx.x);
    int* const mine = out + 6 * threadIdx.x;
    mine[0] = __shfl_sync(whole_warp, x, 3);
    mine[1] = __shfl_xor_sync(whole_warp, x, 16);
    mine[2] = __shfl_up_sync(whole_warp, x, 1);
    mine[3] = __shfl_down_sync(whole_warp, x, 30);
    mine[4] = static_cast<int>(__ballot_sync(whole_warp, lane % 2 == 0));
    mine[5] = __shfl_sync(whole_warp, x, 1, 8); // lane 1 of each eight
}

__global__ void half_warps_kernel(int* out)
{
    bool const low = threadIdx.x % 32 < 16;
    int x = static_cast<int>(threadIdx.x);
    if (low) x = __shfl_xor_sync(0x0000ffffU, x, 1);
    else x = __shfl_xor_sync(0xffff0000U, x, 2);
    out[threadIdx.x] = x;
}

__global__ void sums_kernel(float const* x, float* sum, float* largest)
{
    float const total = block_sum(x[threadIdx.x]), top = block_max(x[threadIdx.x]);
    sum[threadIdx.x] = total + block_sum(0.0F), largest[threadIdx.x] = top;
}

__global__ void dynamic_kernel(int* out)
{
    int* const all = dynamic_shared<int>();
    all[threadIdx.x] = static_cast<int>(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = all[(threadIdx.x + 1) % blockDim.x];
}

__global__ void volume_kernel(int* count)
{
    atomicAdd(count + (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x,
              static_cast<int>(1 + threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z));
}

std::string message_of(void (*kernel)(int*), unsigned threads)
{
    std::vector<int> out(threads);
    try {
        launch("broken", kernel, 1, threads, 0, nullptr, out.data());
    } catch (InternalError const& error) {
        return error.what();
    }
    return "";
}

} // namespace

TEST_CASE("a kernel that waits at its barrier gives the same in either order of threads")
{
    auto const forward = ints_of(Order::forward, reverse_kernel, 256, 2);
    CHECK(forward == ints_of(Order::backward, reverse_kernel, 256, 2));
    CHECK(forward[0] == 255);
    CHECK(forward[256] == 1255);
}

TEST_CASE("a kernel that lacks a barrier gives different results in the two orders of threads")
{
    CHECK(ints_of(Order::forward, reverse_without_barrier_kernel, 256, 2) !=
          ints_of(Order::backward, reverse_without_barrier_kernel, 256, 2));
    // This one works by chance in the forward order.
    auto const forward = ints_of(Order::forward, from_the_left_without_barrier_kernel, 256);
    CHECK(forward[200] == 200);
    CHECK(forward != ints_of(Order::backward, from_the_left_without_barrier_kernel, 256, 1, 7000));
}

TEST_CASE("threads that wait for others which never come are reported with the kernel's name")
{
    using Catch::Matchers::Contains;
    CHECK_THAT(message_of(ended_before_barrier_kernel, 64),
               Contains("kernel broken") && Contains("thread 5 has ended"));
    CHECK_THAT(message_of(two_barriers_kernel, 64), Contains("different barriers") && Contains("emulator.test.cpp:"));
    CHECK_THAT(message_of(missing_lane_kernel, 32), Contains("lanes of its warp that do not come"));
    CHECK(ints_of(Order::forward, reverse_kernel, 64)[0] == 63); // the next launch is not disturbed
}

TEST_CASE("shuffles and ballots give what the CUDA guide says")
{
    std::vector<int> out(6 * 64);
    launch("test", shuffle_kernel, 1, 64, 0, nullptr, out.data());
    for (int t = 0; t < 64; ++t) {
        int const warp = t / 32 * 32, lane = t % 32;
        int const* const got = out.data() + 6 * t;
        CHECK(got[0] == 10 * (warp + 3));
        CHECK(got[1] == 10 * (warp + (lane ^ 16)));
        CHECK(got[2] == 10 * (lane == 0 ? t : t - 1));
        CHECK(got[3] == 10 * (lane + 30 < 32 ? t + 30 : t));
        CHECK(got[4] == 0x55555555);
        CHECK(got[5] == 10 * (t / 8 * 8 + 1));
    }
    auto const halves = ints_of(Order::backward, half_warps_kernel, 32);
    CHECK(halves[0] == 1);
    CHECK(halves[16] == 18);
}

TEST_CASE("block_sum and block_max give every thread the result, again and again")
{
    for (unsigned threads : {32U, 96U, 1024U})
        for (auto order : {Order::forward, Order::backward}) {
            emulator::set_order(order);
            std::vector<float> x(threads), sum(threads), largest(threads);
            for (unsigned i = 0; i < threads; ++i) x[i] = static_cast<float>(i % 7) - 3;
            x[threads / 2] = 50;
            float expected = 0;
            for (float const value : x) expected += value; // small integers: exact in any order
            launch("test", sums_kernel, 1, threads, 0, nullptr, x.data(), sum.data(), largest.data());
            CHECK(sum == std::vector<float>(threads, expected));
            CHECK(largest == std::vector<float>(threads, 50.0F));
        }
    emulator::set_order(Order::forward);
}

TEST_CASE("grids and blocks have three dimensions, and dynamic shared memory is as large as asked for")
{
    std::vector<int> count(2 * 3 * 4);
    launch("test", volume_kernel, dim3{2, 3, 4}, dim3{2, 2, 2}, 0, nullptr, count.data());
    CHECK(count == std::vector<int>(24, 8 + 4 * (1 + 10 + 100)));
    std::vector<int> out(64);
    launch("test", dynamic_kernel, 1, 64, 64 * sizeof(int), nullptr, out.data());
    CHECK(out[0] == 1);
    CHECK(out[63] == 0);
}

TEST_CASE("a launch that a GPU would refuse is refused")
{
    std::vector<int> out(4096);
    CHECK_THROWS_AS(launch("test", reverse_kernel, 0, 32, 0, nullptr, out.data()), InternalError);
    CHECK_THROWS_AS(launch("test", reverse_kernel, 1, 1025, 0, nullptr, out.data()), InternalError);
    CHECK_THROWS_AS(launch("test", reverse_kernel, 1, 32, std::size_t{228} << 10U, nullptr, out.data()), InternalError);
}

} // namespace trainfare::kernels
