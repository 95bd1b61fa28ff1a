// SPDX-License-Identifier: Apache-2.0
//
// Gradient exchange and AdamW over the flat buffers.
#include "kernels/step/optimizer.hpp"

namespace trainfare::kernels {

Optimizer::Optimizer(Context const& context, Communicator& world, Parameters& parameters)
    : context_{context}, world_{world}, parameters_{parameters}, steps_{context.i32(1, 1)}, squares_{context.f32(1, 1)},
      expert_squares_{context.f32(1, 1)}, grad_scale_{context.f32(1, 1)}
{
    context.backend.fill(steps_, 0);
    context.backend.fill(squares_, 0);
    context.backend.fill(grad_scale_, 1);
}

/// Those that hold anything.
std::vector<FlatSpace*> Optimizer::spaces() const
{
    std::vector<FlatSpace*> out;
    for (auto* s : {&parameters_.dense(), &parameters_.expert()})
        if (s->count > 0) out.push_back(s);
    return out;
}

void Optimizer::clear_gradients()
{
    for (auto* s : spaces()) context_.backend.fill(s->gradients, 0);
}

void Optimizer::reduce(int number)
{
    for (auto* s : spaces()) {
        auto const& bucket = s->buckets[static_cast<std::size_t>(number)];
        if (bucket.count == 0) continue;
        auto const gradients = slice(s->gradients, bucket);
        if (s->sharded())
            s->group->reduce_scatter(gradients, slice(s->shard_gradients, s->shard_of(bucket)));
        else
            s->group->all_reduce(gradients);
    }
}

void Optimizer::reduce_all()
{
    for (int b = 0; b < parameters_.buckets(); ++b) reduce(b);
}

void Optimizer::reduce_in_place()
{
    for (auto* s : spaces()) s->group->all_reduce(s->gradients);
}

/// Each parameter once: without shards, dense gradients are alike on all ranks, and expert gradients are alike on ranks
/// that hold the same experts; so ranks that share the experts add theirs. Shards are all different.
void Optimizer::measure(Tensor const& dense, Tensor const& expert, bool sharded)
{
    auto& backend = context_.backend;
    backend.fill(squares_, 0);
    backend.fill(expert_squares_, 0);
    backend.sum(dense, squares_, true);
    if (!expert.empty()) {
        backend.sum(expert, expert_squares_, true);
        if (!sharded) context_.experts.all_reduce(expert_squares_);
        backend.add(squares_, expert_squares_);
    }
    if (sharded) world_.all_reduce(squares_);
}

void Optimizer::measure_in_place() { measure(parameters_.dense().gradients, parameters_.expert().gradients, false); }

void Optimizer::update()
{
    auto& backend = context_.backend;
    // Decided by the configuration: a group of one expert replica has a single shard, yet differs from all other ranks.
    measure(parameters_.dense().shard_gradients, parameters_.expert().shard_gradients, context_.config.zero1);
    if (context_.config.clip > 0) backend.clip_scale(squares_, context_.config.clip, grad_scale_);
    backend.increment(steps_);
    for (auto* s : spaces()) {
        backend.adamw(context_.config.adam, steps_, grad_scale_, s->master, s->moment1, s->moment2, s->shard_gradients,
                      s->shard_weights);
        if (!s->sharded()) continue;
        for (auto const& bucket : s->buckets)
            if (bucket.count > 0)
                s->group->all_gather(slice(s->shard_weights, s->shard_of(bucket)), slice(s->weights, bucket));
    }
}

} // namespace trainfare::kernels
