// SPDX-License-Identifier: Apache-2.0
//
// Physical quantities as types. A quantity is one double and five exponents known at compile time, so adding
// FLOP to bytes does not compile, and FLOP divided by FLOP/s *is* seconds. Values are SI: FLOP, byte, second,
// US dollar, GPU, joule. value() is for the borders only: printing, SimGrid, CSV.
#pragma once

#include <compare>

namespace trainfare {

template <int Flop, int Byte, int Second, int Dollar, int Gpu, int Joule>
struct Dimension {};

template <class D>
class Quantity;

namespace detail {

template <class A, class B, int Sign>
struct Combine;

template <int F1, int B1, int S1, int D1, int G1, int J1, int F2, int B2, int S2, int D2, int G2, int J2, int Sign>
struct Combine<Dimension<F1, B1, S1, D1, G1, J1>, Dimension<F2, B2, S2, D2, G2, J2>, Sign> {
    using type = Dimension<F1 + Sign * F2, B1 + Sign * B2, S1 + Sign * S2, D1 + Sign * D2, G1 + Sign * G2,
                           J1 + Sign * J2>;
};

template <class D>
struct Reduced { // a quantity without dimension is a plain number
    using type = Quantity<D>;
    static constexpr type make(double v) { return type{v}; }
};

template <>
struct Reduced<Dimension<0, 0, 0, 0, 0, 0>> {
    using type = double;
    static constexpr double make(double v) { return v; }
};

} // namespace detail

template <class D>
class Quantity {
public:
    using dimension = D;

    constexpr Quantity() = default;
    constexpr explicit Quantity(double value) : value_{value} {}

    [[nodiscard]] constexpr double value() const { return value_; }

    constexpr Quantity& operator+=(Quantity other) { value_ += other.value_; return *this; }
    constexpr Quantity& operator-=(Quantity other) { value_ -= other.value_; return *this; }
    constexpr Quantity& operator*=(double factor) { value_ *= factor; return *this; }
    constexpr Quantity& operator/=(double factor) { value_ /= factor; return *this; }

    friend constexpr Quantity operator+(Quantity a, Quantity b) { return Quantity{a.value_ + b.value_}; }
    friend constexpr Quantity operator-(Quantity a, Quantity b) { return Quantity{a.value_ - b.value_}; }
    friend constexpr Quantity operator-(Quantity a) { return Quantity{-a.value_}; }
    friend constexpr Quantity operator*(Quantity a, double f) { return Quantity{a.value_ * f}; }
    friend constexpr Quantity operator*(double f, Quantity a) { return Quantity{f * a.value_}; }
    friend constexpr Quantity operator/(Quantity a, double f) { return Quantity{a.value_ / f}; }
    friend constexpr auto operator<=>(Quantity, Quantity) = default;

private:
    double value_ = 0;
};

template <class A, class B>
constexpr auto operator*(Quantity<A> a, Quantity<B> b)
{
    return detail::Reduced<typename detail::Combine<A, B, 1>::type>::make(a.value() * b.value());
}

template <class A, class B>
constexpr auto operator/(Quantity<A> a, Quantity<B> b)
{
    return detail::Reduced<typename detail::Combine<A, B, -1>::type>::make(a.value() / b.value());
}

template <class A>
constexpr auto operator/(double f, Quantity<A> a)
{
    using Inverse = typename detail::Combine<Dimension<0, 0, 0, 0, 0, 0>, A, -1>::type;
    return detail::Reduced<Inverse>::make(f / a.value());
}

using Flops = Quantity<Dimension<1, 0, 0, 0, 0, 0>>;
using Bytes = Quantity<Dimension<0, 1, 0, 0, 0, 0>>;
using Seconds = Quantity<Dimension<0, 0, 1, 0, 0, 0>>;
using Dollars = Quantity<Dimension<0, 0, 0, 1, 0, 0>>;
using Gpus = Quantity<Dimension<0, 0, 0, 0, 1, 0>>;
using Joules = Quantity<Dimension<0, 0, 0, 0, 0, 1>>;

using FlopRate = decltype(Flops{} / Seconds{1});       // FLOP/s
using Bandwidth = decltype(Bytes{} / Seconds{1});      // B/s
using Watts = decltype(Joules{} / Seconds{1});         // J/s
using GpuTime = decltype(Gpus{} * Seconds{});          // GPU*s; 3600 of them are one GPU-hour
using GpuPrice = decltype(Dollars{} / (Gpus{} * Seconds{1})); // USD per GPU-second

namespace units {

constexpr Seconds us{1e-6}, ms{1e-3}, s{1}, hour{3600}, day{86400};
constexpr Bytes kB{1e3}, MB{1e6}, GB{1e9}, TB{1e12}, KiB{1024}, MiB{1048576}, GiB{1073741824};
constexpr Bandwidth GBps{1e9}, TBps{1e12}, Gbitps{1e9 / 8};
constexpr Flops GFLOP{1e9}, TFLOP{1e12};
constexpr FlopRate TFLOPps{1e12};
constexpr Watts W{1}, kW{1e3};
constexpr Joules kWh{3.6e6};
constexpr GpuTime gpu_hour{3600};
constexpr GpuPrice usd_per_gpu_hour{1.0 / 3600};

} // namespace units

} // namespace trainfare
