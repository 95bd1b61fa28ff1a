// SPDX-License-Identifier: Apache-2.0
//
// Layout and first values of the flat parameter buffers.
#include "kernels/step/parameters.hpp"

#include <utility>

#include "kernels/step/random.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

constexpr std::int64_t alignment = 128; // elements: 256 bytes of bf16, what wide loads and copies like

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

} // namespace

Tensor slice(Tensor const& flat, std::int64_t first, std::int64_t count)
{
    return flat.reshaped(flat.size(), 1).row_range(first, count).reshaped(1, count);
}

std::string Parameter::name_of(int expert) const
{
    auto const star = name.find('*');
    if (star == std::string::npos) return name;
    return name.substr(0, star) + std::to_string(first_expert + expert) + name.substr(star + 1);
}

Parameters::Parameters(Backend& backend, StepConfig const& config, Communicator& world, Communicator& expert_group)
    : backend_{backend}, config_{config}
{
    dense_.group = &world;
    expert_.group = &expert_group;
    if (config.zero1) dense_.shards = world.size(), expert_.shards = expert_group.size();
}

int Parameters::next_bucket()
{
    for (auto* space : {&dense_, &expert_}) space->buckets.push_back({space->count, 0});
    return buckets() - 1;
}

Parameter const& Parameters::declare(Parameter p)
{
    if (dense_.buckets.empty()) throw InternalError("a parameter was declared before the first bucket");
    auto& space = space_of(p);
    auto& bucket = space.buckets.back();
    // The bucket's end is padded so that it divides into shards; what was padding before is used by this parameter.
    p.offset = round_up(bucket.begin + bucket.count, alignment);
    bucket.count = p.offset + p.rows * p.cols - bucket.begin;
    space.count = bucket.begin + round_up(bucket.count, alignment * space.shards);
    all_.push_back(std::move(p));
    return all_.back();
}

Parameter const& Parameters::matrix(std::string name, std::int64_t rows, std::int64_t cols)
{
    Parameter p;
    p.name = std::move(name), p.rows = rows, p.cols = cols;
    return declare(std::move(p));
}

Parameter const& Parameters::norm(std::string name, std::int64_t cols)
{
    Parameter p;
    p.name = std::move(name), p.rows = 1, p.cols = cols, p.ones = true;
    return declare(std::move(p));
}

Parameter const& Parameters::experts(std::string name, int count, int first, std::int64_t rows, std::int64_t cols)
{
    Parameter p;
    p.name = std::move(name), p.rows = count * rows, p.cols = cols, p.experts = count, p.first_expert = first;
    return declare(std::move(p));
}

void Parameters::allocate(FlatSpace& s)
{
    for (std::size_t b = 0; b < s.buckets.size(); ++b)
        s.buckets[b].count = (b + 1 < s.buckets.size() ? s.buckets[b + 1].begin : s.count) - s.buckets[b].begin;
    if (s.count == 0) return;
    auto const shard = s.count / s.shards;
    s.weights = backend_.make(Element::bf16, 1, s.count);
    s.gradients = backend_.make(Element::f32, 1, s.count);
    s.master = backend_.make(Element::f32, 1, shard);
    s.moment1 = backend_.make(config_.moments, 1, shard);
    s.moment2 = backend_.make(config_.moments, 1, shard);
    s.shard_weights = s.sharded() ? backend_.make(Element::bf16, 1, shard) : s.weights;
    s.shard_gradients = s.sharded() ? backend_.make(Element::f32, 1, shard) : s.gradients;
    for (auto const& t : {s.gradients, s.moment1, s.moment2}) backend_.fill(t, 0);
    for (std::size_t b = 0; b < s.buckets.size(); ++b) start_values(s, b);
}

void Parameters::start_values(FlatSpace& s, std::size_t number)
{
    auto const bucket = s.buckets[number];
    if (bucket.count == 0) return;
    auto const values = backend_.make(Element::f32, 1, bucket.count);
    backend_.fill(values, 0);
    for (auto const& p : all_) {
        if (&space_of(p) != &s || p.offset < bucket.begin || p.offset >= bucket.begin + bucket.count) continue;
        auto const each = p.rows_each() * p.cols;
        for (int e = 0; e < (p.experts == 0 ? 1 : p.experts); ++e) {
            auto const part = slice(values, p.offset - bucket.begin + e * each, each);
            if (p.ones)
                backend_.fill(part, 1);
            else
                backend_.normal(part, 0, config_.init_deviation, mix_seeds(config_.seed, fnv1a(p.name_of(e))));
        }
    }
    auto const own = s.shard_of(bucket);
    auto const rank = s.sharded() ? s.group->rank() : 0;
    backend_.copy(slice(s.master, own), slice(values, rank * own.count, own.count));
    backend_.copy(slice(s.weights, bucket), values);
    if (s.sharded()) backend_.copy(slice(s.shard_weights, own), slice(s.master, own));
}

void Parameters::allocate()
{
    allocate(dense_);
    allocate(expert_);
    for (auto& p : all_) {
        auto& s = space_of(p);
        p.weight = slice(s.weights, p.offset, p.rows * p.cols).reshaped(p.rows, p.cols);
        p.gradient = slice(s.gradients, p.offset, p.rows * p.cols).reshaped(p.rows, p.cols);
    }
}

} // namespace trainfare::kernels
