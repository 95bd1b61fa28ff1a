// SPDX-License-Identifier: Apache-2.0
//
// Back-end `cuda` without a GPU: its kernels (kernels/ops/*.cu) run on the CPU, and what NVIDIA's libraries do for it
// (matrix products, attention) is left to back-end `cpu`. Memory holds the bits that a GPU's would. Linked instead of
// kernels/cuda/*.cpp.
#include "kernels/cuda/backend.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "kernels/cuda/formats.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int emulated_sms = 3; // so few that kernels must go through their grid more than once
constexpr std::align_val_t gpu_alignment{256};

/// Exactly as large as asked for, so that the address sanitizer sees what is beyond; NaN, as it is undefined.
std::shared_ptr<void> allocate(std::size_t bytes)
{
    auto const size = std::max<std::size_t>(bytes, 1);
    auto* const data = ::operator new(size, gpu_alignment);
    std::memset(data, 0xff, size);
    return {data, [](void* p) { ::operator delete(p, gpu_alignment); }};
}

std::size_t row_bytes(Tensor const& t) { return static_cast<std::size_t>(t.cols) * t.bytes_each; }

} // namespace

struct CudaBackend::State {
    Stream in_use = Stream::compute;
    int sm_limit = 0;
    bool recording = false;
    std::array<std::shared_ptr<void>, 3> scratch;
    std::unique_ptr<Backend> cpu = make_host_backend(false);

    void not_while_recording(char const* what) const
    {
        if (recording) throw InternalError(std::string{what} + ": the host cannot take part in what a graph records");
    }
};

CudaBackend::CudaBackend(int device) : state_{std::make_unique<State>()}
{
    if (device != 0) throw InputError("cuda: no CUDA device " + std::to_string(device) + " (the emulator has one)");
}
CudaBackend::~CudaBackend() = default;

CUstream_st* CudaBackend::stream() const { return nullptr; }
int CudaBackend::sms() const { return state_->sm_limit > 0 ? state_->sm_limit : emulated_sms; }
void CudaBackend::limit_sms(int sms) { state_->sm_limit = std::min(sms, emulated_sms); }
void CudaBackend::tune_products(bool) {}
std::vector<std::string_view> CudaBackend::grouped_libraries() const { return {}; }
void CudaBackend::use_grouped_library(std::string_view) {}

unsigned CudaBackend::blocks(std::int64_t work, int per_sm) const
{
    return static_cast<unsigned>(std::clamp<std::int64_t>(work, 1, std::int64_t{sms()} * per_sm));
}

void* CudaBackend::scratch(std::size_t bytes)
{
    auto& kept = state_->scratch[static_cast<std::size_t>(state_->in_use)];
    kept = allocate(bytes); // what the last call gave is no longer valid
    return kept.get();
}

// --- memory -------------------------------------------------------------------------------------------------------

Tensor CudaBackend::make(Element element, std::int64_t rows, std::int64_t cols)
{
    if (rows < 0 || cols < 0) throw InternalError("make: a negative shape");
    Tensor t;
    t.element = element;
    t.rows = rows, t.cols = t.pitch = cols;
    t.bytes_each = cuda::size_of(element);
    t.owner = allocate(static_cast<std::size_t>(t.size()) * t.bytes_each);
    t.data = t.owner.get();
    return t;
}

void CudaBackend::upload_bytes(Tensor const& to, std::span<std::byte const> from)
{
    state_->not_while_recording("upload");
    std::size_t const width = row_bytes(to);
    if (from.size() != static_cast<std::size_t>(to.rows) * width) throw InternalError("upload: wrong number of bytes");
    if (from.empty()) return;
    for (std::int64_t row = 0; row < to.rows; ++row)
        std::memcpy(to.row_range(row, 1).data, from.data() + static_cast<std::size_t>(row) * width, width);
}

void CudaBackend::upload(Tensor const& to, std::span<float const> from)
{
    upload_bytes(to, cuda::encoded(to.element, from));
}

void CudaBackend::upload(Tensor const& to, std::span<std::int32_t const> from)
{
    if (to.element != Element::i32) throw InternalError("upload: integers go to i32");
    upload_bytes(to, std::as_bytes(from));
}

std::vector<std::byte> CudaBackend::download_bytes(Tensor const& from)
{
    state_->not_while_recording("download");
    std::size_t const width = row_bytes(from);
    std::vector<std::byte> out(static_cast<std::size_t>(from.rows) * width);
    if (out.empty()) return out;
    for (std::int64_t row = 0; row < from.rows; ++row)
        std::memcpy(out.data() + static_cast<std::size_t>(row) * width, from.row_range(row, 1).data, width);
    return out;
}

std::vector<double> CudaBackend::download(Tensor const& from)
{
    return cuda::decoded(from.element, download_bytes(from));
}

std::vector<std::int32_t> CudaBackend::download_ints(Tensor const& from)
{
    if (from.element != Element::i32) throw InternalError("download_ints: the tensor holds no integers");
    auto const bytes = download_bytes(from);
    std::vector<std::int32_t> out(static_cast<std::size_t>(from.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
}

// --- order and time -----------------------------------------------------------------------------------------------

void CudaBackend::use(Stream stream) { state_->in_use = stream; }
Event CudaBackend::record() { return std::make_shared<Clock::time_point>(Clock::now()); }
void CudaBackend::wait(Event const& event)
{
    if (!event) throw InternalError("an event that was never recorded");
}
void CudaBackend::synchronise() { state_->not_while_recording("synchronise"); }

double CudaBackend::seconds(Event const& from, Event const& to)
{
    synchronise();
    auto const time = [](Event const& event) { return *static_cast<Clock::time_point const*>(event.get()); };
    return std::chrono::duration<double>(time(to) - time(from)).count();
}

std::unique_ptr<Graph> CudaBackend::capture(std::function<void()> const& work)
{
    class Replay final : public Graph {
    public:
        Replay(bool& recording, std::function<void()> work) : recording_{recording}, work_{std::move(work)} {}
        void replay() override
        {
            if (recording_) throw InternalError("replay: not while a graph is recorded");
            struct Restore {
                bool& flag;
                ~Restore() { flag = false; }
            } const restore{recording_};
            recording_ = true; // a GPU would not let the host take part
            work_();
        }

    private:
        bool& recording_;
        std::function<void()> work_;
    };
    state_->not_while_recording("capture");
    return std::make_unique<Replay>(state_->recording, work);
}

// --- what is left to back-end cpu ---------------------------------------------------------------------------------

namespace {

std::vector<std::byte> stored_bytes(Tensor const& t)
{
    std::size_t const width = row_bytes(t);
    std::vector<std::byte> out(static_cast<std::size_t>(t.rows) * width);
    for (std::int64_t row = 0; row < t.rows && width > 0; ++row)
        std::memcpy(out.data() + static_cast<std::size_t>(row) * width, t.row_range(row, 1).data, width);
    return out;
}

/// Tensors of one operation as copies on back-end cpu.
class OnCpu {
public:
    explicit OnCpu(Backend& cpu) : cpu_{cpu} {}

    Tensor operator()(Tensor const& t)
    {
        if (t.empty()) return {};
        auto const copy = cpu_.make(t.element, t.rows, t.cols);
        auto const bytes = stored_bytes(t);
        if (t.element == Element::i32) {
            cpu_.upload_bytes(copy, bytes);
        } else {
            auto const numbers = cuda::decoded(t.element, bytes);
            std::vector<float> const floats(numbers.begin(), numbers.end());
            cpu_.upload_bytes(copy, std::as_bytes(std::span{floats})); // back-end cpu holds any element as a float
        }
        return copy;
    }
    Operand operator()(Operand const& x) { return {(*this)(x.values), (*this)(x.scales), x.scaling}; }
    /// A copy whose numbers bring_back() returns: f32, bf16 or i32.
    Tensor result(Tensor const& t)
    {
        results_.emplace_back(t, (*this)(t));
        return results_.back().second;
    }
    void bring_back()
    {
        for (auto const& [to, from] : results_) {
            std::vector<std::byte> bytes;
            if (to.element == Element::i32) {
                bytes = cpu_.download_bytes(from);
            } else {
                auto const numbers = cpu_.download(from);
                bytes = cuda::encoded(to.element, std::vector<float>(numbers.begin(), numbers.end()));
            }
            std::size_t const width = row_bytes(to);
            for (std::int64_t row = 0; row < to.rows && width > 0; ++row)
                std::memcpy(to.row_range(row, 1).data, bytes.data() + static_cast<std::size_t>(row) * width, width);
        }
    }

private:
    Backend& cpu_;
    std::vector<std::pair<Tensor, Tensor>> results_;
};

} // namespace

void CudaBackend::gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, bool accumulate)
{
    OnCpu on{*state_->cpu};
    state_->cpu->gemm(on.result(c), on(a), on(b), form, accumulate);
    on.bring_back();
}

void CudaBackend::grouped_gemm(Tensor const& c, Operand const& a, Operand const& b, Form form, Groups const& groups,
                               bool accumulate)
{
    OnCpu on{*state_->cpu};
    state_->cpu->grouped_gemm(on.result(c), on(a), on(b), form, groups, accumulate);
    on.bring_back();
}

void CudaBackend::attention(AttentionShape const& shape, Tensor const& q, Tensor const& k, Tensor const& v,
                            Tensor const& o, Tensor const& log_sum)
{
    OnCpu on{*state_->cpu};
    state_->cpu->attention(shape, on(q), on(k), on(v), on.result(o), on.result(log_sum));
    on.bring_back();
}

void CudaBackend::attention_backward(AttentionShape const& shape, Tensor const& d_o, Tensor const& q, Tensor const& k,
                                     Tensor const& v, Tensor const& o, Tensor const& log_sum, Tensor const& d_q,
                                     Tensor const& d_k, Tensor const& d_v)
{
    OnCpu on{*state_->cpu};
    state_->cpu->attention_backward(shape, on(d_o), on(q), on(k), on(v), on(o), on(log_sum), on.result(d_q),
                                    on.result(d_k), on.result(d_v));
    on.bring_back();
}

std::unique_ptr<Backend> make_cuda_backend(int device) { return std::make_unique<CudaBackend>(device); }

bool cuda_available(std::string* why)
{
    if (why != nullptr) why->clear();
    return true;
}

} // namespace trainfare::kernels
