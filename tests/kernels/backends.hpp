// SPDX-License-Identifier: Apache-2.0
//
// What tests of kernels/ share: the back-ends under test, tensors of reproducible numbers, poison, distance, and
// slopes. No CUDA here. The same test files make two programs: test_kernels (cpu, and cuda where there is a GPU) and
// test_kernels_emulated (the CUDA kernels run on the CPU; TRAINFARE_EMULATED is defined).
//
//     TEST_CASE("add adds on every back-end")
//     {
//         auto const a = numbers(3 * 70, 1), b = numbers(3 * 70, 2);           // values that bf16 holds exactly
//         auto const run = [&](Backend& on) {
//             Tensor const to = tensor(on, Element::bf16, 3, 70, a);
//             on.add(to, tensor(on, Element::bf16, 3, 70, b));
//             return on.download(to);
//         };
//         auto const expected = run(*reference());                             // double, unrounded
//         on_every_backend([&](Backend& on) { CHECK(distance(run(on), expected) < 1e-2); }); // prints which one failed
//     }
//
// Tags: [sanitize] what tests/gpu also runs under compute-sanitizer, some of every .cu file; [library] if kernels of
// NVIDIA's libraries run there too, whose shared memory racecheck does not understand.
//
// Backward: `gradient(f, x)` is the slope of a scalar function by central differences; with f = dot(forward(x), d_y) it
// must be what the backward pass of `ref` returns, to 1e-6.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.hpp"
#include "tests/catch.hpp"

namespace trainfare::kernels::test {

using Values = std::vector<double>;

// --- back-ends ----------------------------------------------------------------------------------------------------

inline std::unique_ptr<Backend> reference() { return make_host_backend(true); }

/// The GPU (or, in test_kernels_emulated, its emulator); empty, with a warning that says why, where there is none:
///     auto const cuda = cuda_or_warning();
///     if (!cuda) return;
inline std::unique_ptr<Backend> cuda_or_warning()
{
    static bool warned = false;
    std::string why;
    if (cuda_available(&why)) return make_cuda_backend(0);
    if (!warned) WARN("not tested on cuda: " << why);
    warned = true;
    return nullptr;
}

/// Calls test(Backend&). What the GPU's libraries have no way to run is a warning that names it, not a failure: a
/// calibration leaves such shapes out too.
template <class Test>
void on_gpu(Backend& cuda, Test const& test)
{
    try {
        test(cuda);
    } catch (Unsupported const& why) {
        WARN("left out on " << cuda.name() << ": " << why.what());
    }
}

/// Calls test(Backend&) for every back-end but `ref`; on_gpu() where it is a GPU.
template <class Test>
void on_every_backend(Test const& test)
{
#if !defined(TRAINFARE_EMULATED)
    {
        INFO("back-end: cpu");
        test(*make_host_backend(false));
    }
    char const* const gpu = "cuda";
#else
    char const* const gpu = "emulated";
#endif
    if (auto const cuda = cuda_or_warning()) {
        INFO("back-end: " << gpu);
        on_gpu(*cuda, test);
    }
}

// --- numbers ------------------------------------------------------------------------------------------------------

/// Nearest number that bf16 holds (ties to even).
inline double rounded_to_bf16(double x)
{
    auto const narrow = static_cast<float>(x);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &narrow, sizeof bits);
    bits = (bits + 0x7fffU + ((bits >> 16U) & 1U)) & 0xffff0000U;
    float out = 0;
    std::memcpy(&out, &bits, sizeof out);
    return static_cast<double>(out);
}

/// A number in [0, 1) that depends on (seed, i) alone (splitmix64).
inline double uniform(std::uint64_t seed, std::uint64_t i)
{
    std::uint64_t z = seed * 0xd1342543de82ef95U + (i + 1) * 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return static_cast<double>((z ^ (z >> 31U)) >> 11U) * 0x1p-53;
}

/// Normal numbers, rounded so that every back-end holds them exactly.
inline Values numbers(std::int64_t count, std::uint64_t seed, double deviation = 1)
{
    Values out(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < out.size(); ++i) {
        double const radius = std::sqrt(-2 * std::log(1 - uniform(seed, 2 * i)));
        out[i] = rounded_to_bf16(deviation * radius * std::cos(6.283185307179586 * uniform(seed, 2 * i + 1)));
    }
    return out;
}

/// Integers in [0, end).
inline std::vector<std::int32_t> integers(std::int64_t count, int end, std::uint64_t seed)
{
    std::vector<std::int32_t> out(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::int32_t>(uniform(seed, i) * end);
    return out;
}

// --- tensors ------------------------------------------------------------------------------------------------------

/// Writes numbers (f32, bf16); `ref` gets them in double, so that small steps are not rounded away.
inline void put(Backend& on, Tensor const& to, Values const& values)
{
    if (values.size() != static_cast<std::size_t>(to.size())) throw std::logic_error("put: as many values as elements");
    if (values.empty()) return;
    if (to.bytes_each == sizeof(double)) return on.upload_bytes(to, std::as_bytes(std::span{values}));
    on.upload(to, std::vector<float>(values.begin(), values.end()));
}

inline Tensor tensor(Backend& on, Element element, std::int64_t rows, std::int64_t cols, Values const& values)
{
    Tensor out = on.make(element, rows, cols);
    put(on, out, values);
    return out;
}

/// i32 [rows, cols].
inline Tensor tensor(Backend& on, std::int64_t rows, std::int64_t cols, std::vector<std::int32_t> const& values)
{
    Tensor out = on.make(Element::i32, rows, cols);
    if (!values.empty()) on.upload(out, values);
    return out;
}

/// NaN in every element (a large negative number in i32): what an operation forgets to write is seen.
inline void poison(Backend& on, Tensor const& t)
{
    auto const bytes = static_cast<std::size_t>(t.size()) * t.bytes_each;
    auto const byte = t.element == Element::i32 ? std::byte{0x87} : std::byte{0xff};
    if (bytes > 0) on.upload_bytes(t, std::vector<std::byte>(bytes, byte));
}

inline Tensor poisoned(Backend& on, Element element, std::int64_t rows, std::int64_t cols)
{
    Tensor out = on.make(element, rows, cols);
    poison(on, out);
    return out;
}

inline Operand poisoned_quantised(Backend& on, Scaling scaling, std::int64_t rows, std::int64_t cols)
{
    Operand out = make_quantised(on, scaling, rows, cols);
    poison(on, out.values);
    poison(on, out.scales);
    return out;
}

/// A column range inside a wider, poisoned tensor: for parameters that "may be a column range". `view` is what to pass.
/// The margins are 8 columns before and 16 after, so rows stay 16-byte aligned where cols is a multiple of 8.
struct Inside {
    Tensor whole, view;

    /// What is in the view.
    [[nodiscard]] Values values(Backend& on) const { return split(on).first; }
    /// No number was written beside it.
    [[nodiscard]] bool margins_untouched(Backend& on) const
    {
        for (double x : split(on).second)
            if (!std::isnan(x)) return false;
        return true;
    }

private:
    [[nodiscard]] std::pair<Values, Values> split(Backend& on) const
    {
        auto const all = on.download(whole);
        std::pair<Values, Values> out;
        for (std::size_t i = 0; i < all.size(); ++i) {
            auto const col = static_cast<std::int64_t>(i) % whole.cols - 8;
            (col >= 0 && col < view.cols ? out.first : out.second).push_back(all[i]);
        }
        return out;
    }
};

/// @p values of the view; empty: poison there too.
inline Inside inside(Backend& on, Element element, std::int64_t rows, std::int64_t cols, Values const& values = {})
{
    Values all(static_cast<std::size_t>(rows * (cols + 24)), std::numeric_limits<double>::quiet_NaN());
    for (std::size_t i = 0; i < values.size(); ++i) {
        auto const row = static_cast<std::int64_t>(i) / cols, col = static_cast<std::int64_t>(i) % cols;
        all[static_cast<std::size_t>(row * (cols + 24) + col + 8)] = values[i];
    }
    Inside out{tensor(on, element, rows, cols + 24, all), {}};
    out.view = out.whole.column_range(8, cols);
    return out;
}

/// The numbers that a quantised operand stands for, value x scale (layout of the scales: tensor.hpp).
inline Values dequantised(Backend& on, Operand const& x)
{
    Values out = on.download(x.values);
    Values const scales = on.download(x.scales);
    auto const rows = x.values.rows, cols = x.values.cols;
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c) {
            auto const at = x.scaling == Scaling::vector128 ? c / 128 * rows + r : r / 128 * x.scales.cols + c / 128;
            out[static_cast<std::size_t>(r * cols + c)] *= scales[static_cast<std::size_t>(at)];
        }
    return out;
}

// --- comparing ----------------------------------------------------------------------------------------------------

/// ||out - expected|| / ||expected|| (||out|| where expected is zero); infinite if a number is missing or not finite.
inline double distance(Values const& out, Values const& expected)
{
    constexpr double infinite = std::numeric_limits<double>::infinity();
    if (out.size() != expected.size()) return infinite;
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
        if (!std::isfinite(out[i]) || !std::isfinite(expected[i])) return infinite;
        difference += (out[i] - expected[i]) * (out[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    return std::sqrt(size > 0 ? difference / size : difference);
}

inline double dot(Values const& a, Values const& b)
{
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
    return sum;
}

/// Slope of @p f in every direction at @p x: central differences of fourth order. Use it on `ref` alone.
inline Values gradient(std::function<double(Values const&)> const& f, Values x, double step = 1e-3)
{
    Values out(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        double const at = x[i];
        auto const moved = [&](double by) { return x[i] = at + by, f(x); };
        out[i] = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step);
        x[i] = at;
    }
    return out;
}

} // namespace trainfare::kernels::test
