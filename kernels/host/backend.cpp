// SPDX-License-Identifier: Apache-2.0
//
// The core of the host back-ends: memory, transfers, and the parts of a GPU's queues that make sense on a host. There
// is one queue and it is always done, so waiting is nothing, an event is a time, and a graph is the function itself.
#include "kernels/host/backend.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "kernels/host/rounding.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::align_val_t cache_line{64};

std::shared_ptr<void> allocate(std::size_t bytes)
{
    auto const release = [](void* p) { ::operator delete(p, cache_line); };
    return {::operator new(std::max<std::size_t>(bytes, 1), cache_line), release};
}

void require(bool right, std::string_view operation, Tensor const& t, std::size_t given)
{
    if (!right)
        throw InternalError(fmt::format("{}: {} elements or bytes for a tensor [{}, {}] of element {}", operation,
                                        given, t.rows, t.cols, static_cast<int>(t.element)));
}

template <class From, class To, class Convert>
void copy_rows(Tensor const& shape, From const* from, std::int64_t from_pitch, To* to, std::int64_t to_pitch,
               Convert convert)
{
    for (std::int64_t row = 0; row < shape.rows; ++row)
        std::transform(from + row * from_pitch, from + row * from_pitch + shape.cols, to + row * to_pitch, convert);
}

template <class To>
auto const converted = [](auto x) { return static_cast<To>(x); };

class HostGraph final : public Graph {
public:
    explicit HostGraph(std::function<void()> work) : work_{std::move(work)} {}
    void replay() override { work_(); }

private:
    std::function<void()> work_;
};

} // namespace

template <class Real>
Real stored(Element element, Real x)
{
    if constexpr (std::is_same_v<Real, float>) {
        if (element == Element::bf16) return round_to_bf16(x);
        if (element == Element::e4m3) return round_to_e4m3(x);
    }
    return x;
}

template float stored(Element, float);
template double stored(Element, double);

template <class Real>
Tensor HostBackend<Real>::make(Element element, std::int64_t rows, std::int64_t cols)
{
    constexpr std::int64_t limit = std::int64_t{1} << 40; // far beyond any host, and products stay far from overflow
    if (rows < 0 || cols < 0 || (cols > 0 && rows > limit / cols))
        throw InternalError(fmt::format("make: [{}, {}] is no shape of a tensor", rows, cols));
    Tensor t;
    t.element = element;
    t.rows = rows, t.cols = t.pitch = cols;
    t.bytes_each = element == Element::i32 ? sizeof(std::int32_t) : sizeof(Real);
    t.owner = allocate(static_cast<std::size_t>(t.size()) * t.bytes_each);
    t.data = t.owner.get();
    return t;
}

template <class Real>
void HostBackend<Real>::upload(Tensor const& to, std::span<float const> from)
{
    bool const real = to.element == Element::f32 || to.element == Element::bf16;
    require(real && std::cmp_equal(to.size(), from.size()), "upload", to, from.size());
    copy_rows(to, from.data(), to.cols, reals<Real>(to), to.pitch,
              [&](float x) { return stored<Real>(to.element, static_cast<Real>(x)); });
}

template <class Real>
void HostBackend<Real>::upload(Tensor const& to, std::span<std::int32_t const> from)
{
    require(to.element == Element::i32 && std::cmp_equal(to.size(), from.size()), "upload", to, from.size());
    copy_rows(to, from.data(), to.cols, ints(to), to.pitch, converted<std::int32_t>);
}

template <class Real>
std::vector<double> HostBackend<Real>::download(Tensor const& from)
{
    std::vector<double> out(static_cast<std::size_t>(from.size()));
    if (from.element == Element::i32)
        copy_rows(from, ints(from), from.pitch, out.data(), from.cols, converted<double>);
    else
        copy_rows(from, reals<Real>(from), from.pitch, out.data(), from.cols, converted<double>);
    return out;
}

template <class Real>
std::vector<std::int32_t> HostBackend<Real>::download_ints(Tensor const& from)
{
    require(from.element == Element::i32, "download_ints", from, 0);
    std::vector<std::int32_t> out(static_cast<std::size_t>(from.size()));
    copy_rows(from, ints(from), from.pitch, out.data(), from.cols, converted<std::int32_t>);
    return out;
}

template <class Real>
std::vector<std::byte> HostBackend<Real>::download_bytes(Tensor const& from)
{
    std::size_t const width = static_cast<std::size_t>(from.cols) * from.bytes_each;
    std::vector<std::byte> out(static_cast<std::size_t>(from.rows) * width);
    if (out.empty()) return out;
    for (std::int64_t row = 0; row < from.rows; ++row)
        std::memcpy(out.data() + static_cast<std::size_t>(row) * width, from.row_range(row, 1).data, width);
    return out;
}

template <class Real>
void HostBackend<Real>::upload_bytes(Tensor const& to, std::span<std::byte const> from)
{
    std::size_t const width = static_cast<std::size_t>(to.cols) * to.bytes_each;
    require(from.size() == static_cast<std::size_t>(to.rows) * width, "upload_bytes", to, from.size());
    if (from.empty()) return;
    for (std::int64_t row = 0; row < to.rows; ++row)
        std::memcpy(to.row_range(row, 1).data, from.data() + static_cast<std::size_t>(row) * width, width);
}

template <class Real>
void HostBackend<Real>::use(Stream)
{
}

template <class Real>
Event HostBackend<Real>::record()
{
    return std::make_shared<Clock::time_point>(Clock::now());
}

template <class Real>
void HostBackend<Real>::wait(Event const&)
{
}

template <class Real>
void HostBackend<Real>::synchronise()
{
}

template <class Real>
double HostBackend<Real>::seconds(Event const& from, Event const& to)
{
    auto const time = [](Event const& event) { return *static_cast<Clock::time_point const*>(event.get()); };
    return std::chrono::duration<double>(time(to) - time(from)).count();
}

template <class Real>
std::unique_ptr<Graph> HostBackend<Real>::capture(std::function<void()> const& work)
{
    return std::make_unique<HostGraph>(work);
}

// The members above; each of the others is instantiated beside its definition.
template class HostBackend<float>;
template class HostBackend<double>;

std::unique_ptr<Backend> make_host_backend(bool reference)
{
    if (reference) return std::make_unique<HostBackend<double>>();
    return std::make_unique<HostBackend<float>>();
}

} // namespace trainfare::kernels
