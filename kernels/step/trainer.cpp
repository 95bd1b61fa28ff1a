// SPDX-License-Identifier: Apache-2.0
//
// One optimizer step from the parts in this folder, run directly or captured and replayed.
#include "kernels/step/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "kernels/step/checkpoint.hpp"
#include "kernels/step/model.hpp"
#include "kernels/step/optimizer.hpp"
#include "kernels/step/routing.hpp"
#include "model/error.hpp"

namespace trainfare::kernels {
namespace {

StepConfig const& checked(StepConfig const& config, int ranks)
{
    auto const reasons = check(config, ranks);
    if (reasons.empty()) return config;
    std::string text = "this step cannot run:";
    for (auto const& r : reasons) text += "\n  " + r;
    throw InputError(text);
}

} // namespace

struct Trainer::State {
    State(Backend& b, Communicator& w, StepConfig const& c)
        : backend{b}, world{w}, config{checked(c, w.size())}, sharing_experts{w.split(w.rank() / c.ep)},
          counts{w.split(w.rank() / c.ep)}, same_experts{w.split(w.rank() % c.ep)}, context{b, config, *sharing_experts,
                                                                                            *counts},
          parameters{b, config, w, *same_experts}, model{context, parameters}, moe{moe_layers(config.model)}
    {
        parameters.allocate();
        optimizer = std::make_unique<Optimizer>(context, world, parameters);
        tokens = context.i32(config.micro_batches * shifts(), context.tokens());
        if (moe.count > 0)
            chosen = context.i32(std::int64_t{config.micro_batches} * moe.count * context.tokens(), moe.top_k);
        loss = context.f32(1, 1), mtp_loss = context.f32(1, 1);
    }

    /// The input, and it shifted by one for each token that is predicted from it.
    [[nodiscard]] std::int64_t shifts() const { return std::ssize(config.model.mtp) + 2; }
    [[nodiscard]] std::int64_t tokens_of_step() const { return config.micro_batches * context.tokens(); }

    void upload_tokens(std::span<std::int32_t const> ids);
    MicroBatch micro_batch(Prepared&, int number);
    void run(std::vector<Program> const&);
    void passes(Prepared&, bool reduce);
    void update(Prepared const&);
    StepResult result();
    [[nodiscard]] std::string fingerprint() const;
    [[nodiscard]] std::vector<NamedTensor> contents();
    [[nodiscard]] Tensor find(std::string const& name, Tensor Parameter::*what) const;
    [[nodiscard]] Prepared prepare(Routing const* routing)
    {
        return routing ? prepare_forced(context, world, *routing) : prepare_live(context);
    }

    Backend& backend;
    Communicator& world;
    StepConfig config;
    std::unique_ptr<Communicator> sharing_experts, counts, same_experts;
    Context context;
    Parameters parameters;
    Model model;
    MoeLayers moe;
    std::unique_ptr<Optimizer> optimizer;
    Tensor tokens; // [micro-batch x shift, T]
    Tensor chosen; // [micro-batch x MoE layer x T, k]: of the last step
    Tensor loss, mtp_loss;
    Event begin, middle, end;
    bool has_run = false;

    std::unique_ptr<Prepared> captured;
    std::unique_ptr<Graph> captured_passes, captured_update;
};

void Trainer::State::upload_tokens(std::span<std::int32_t const> ids)
{
    auto const length = config.seq_len + shifts() - 1;
    auto const expected = std::int64_t{config.micro_batches} * config.micro_batch * length;
    if (std::ssize(ids) != expected)
        throw InputError(fmt::format(
            "a step takes {} tokens, not {} ({} x {} sequences of {}, targets included); make the batch fit", expected,
            ids.size(), config.micro_batches, config.micro_batch, length));
    auto const bad = std::find_if(ids.begin(), ids.end(), [&](auto id) { return id < 0 || id >= config.model.vocab; });
    if (bad != ids.end())
        throw InputError(fmt::format("token {} at place {} is not in the vocabulary of {}; check the corpus", *bad,
                                     bad - ids.begin(), config.model.vocab));
    std::vector<std::int32_t> all;
    all.reserve(static_cast<std::size_t>(tokens.size()));
    for (int m = 0; m < config.micro_batches; ++m)
        for (std::int64_t shift = 0; shift < shifts(); ++shift)
            for (int s = 0; s < config.micro_batch; ++s) {
                auto const from = ids.begin() + (std::int64_t{m} * config.micro_batch + s) * length + shift;
                all.insert(all.end(), from, from + config.seq_len);
            }
    backend.upload(tokens, std::span<std::int32_t const>{all});
}

MicroBatch Trainer::State::micro_batch(Prepared& prepared, int number)
{
    MicroBatch m;
    m.tokens = tokens.row_range(number * shifts(), shifts());
    m.grad_scale = static_cast<float>(1.0 / static_cast<double>(tokens_of_step() * world.size()));
    m.loss = loss, m.mtp_loss = mtp_loss;
    for (int l = 0; l < moe.count; ++l) {
        auto const first = (std::int64_t{number} * moe.count + l) * context.tokens();
        MoeTask task;
        task.chosen = chosen.row_range(first, context.tokens());
        if (prepared.forced) {
            task.forced = prepared.chosen.row_range(first, context.tokens());
            task.plan = &prepared.plans[static_cast<std::size_t>(number)][static_cast<std::size_t>(l)];
        }
        task.counts = std::span{prepared.counts}.subspan(static_cast<std::size_t>(l * moe.experts),
                                                         static_cast<std::size_t>(moe.experts));
        m.tasks.push_back(task);
    }
    return m;
}

void Trainer::State::run(std::vector<Program> const& programs)
{
    if (!config.overlap) {
        for (auto const& p : programs) run_in_order(backend, p);
        return;
    }
    std::vector<Program const*> lanes;
    for (auto const& p : programs) lanes.push_back(&p);
    if (config.comm_sms > 0) backend.limit_sms(std::max(1, backend.sms() - config.comm_sms));
    run_zipped(backend, lanes);
    if (config.comm_sms > 0) backend.limit_sms(0);
}

/// Forward and backward of all micro-batches; overlapping, those of a pair are zipped, forward with forward and
/// backward with backward. @p reduce: with overlap, buckets are reduced as soon as their gradients are complete.
void Trainer::State::passes(Prepared& prepared, bool reduce)
{
    backend.use(Stream::compute);
    optimizer->clear_gradients();
    backend.fill(loss, 0);
    backend.fill(mtp_loss, 0);
    model.prepare();
    int const together = config.overlap ? 2 : 1;
    for (int first = 0; first < config.micro_batches; first += together) {
        int const count = std::min(together, config.micro_batches - first);
        std::deque<MicroBatch> batches;
        for (int i = 0; i < count; ++i) batches.push_back(micro_batch(prepared, first + i));
        std::vector<Program> forward(batches.size()), backward(batches.size());
        for (std::size_t i = 0; i < batches.size(); ++i) model.forward(forward[i], batches[i]);
        run(forward);
        bool const last = first + count == config.micro_batches;
        for (std::size_t i = 0; i < batches.size(); ++i) {
            bool const now = reduce && config.overlap && last && i + 1 == batches.size();
            model.backward(backward[i], batches[i],
                           now ? [this](int bucket) { optimizer->reduce(bucket); } : std::function<void(int)>{});
        }
        run(backward);
    }
}

void Trainer::State::update(Prepared const& prepared)
{
    if (!config.overlap) optimizer->reduce_all();
    optimizer->update();
    for (std::size_t l = 0; l < model.moe_blocks().size(); ++l)
        if (auto const& bias = model.moe_blocks()[l]->bias(); !bias.empty())
            backend.balance(bias, prepared.all_counts.row_range(static_cast<std::int64_t>(l), 1), config.balance_rate);
}

StepResult Trainer::State::result()
{
    auto const number = [&](Tensor const& t) { return backend.download(t).front(); };
    auto const n = static_cast<double>(tokens_of_step());
    StepResult r;
    r.loss = number(loss) / n;
    if (!config.model.mtp.empty()) r.mtp_loss = number(mtp_loss) / n / static_cast<double>(config.model.mtp.size());
    r.gradient_norm = std::sqrt(number(optimizer->sum_of_squares()));
    has_run = true;
    return r;
}

std::string Trainer::State::fingerprint() const
{
    auto const& m = config.model;
    std::string text =
        fmt::format("back-end {}\nmodel hidden {} vocab {} layers {} mtp {} tied {}\nprecision {}\nmoments {}\n"
                    "rank {} of {}\nep {}\nemulated ep {}\nzero1 {}\nbias {}\n",
                    backend.name(), m.hidden, m.vocab, m.layers.size(), m.mtp.size(), m.tied_embeddings,
                    name(config.precision), config.moments == Element::f32 ? "f32" : "bf16", world.rank(), world.size(),
                    config.ep, config.emulated_ep, config.zero1, config.balance_rate > 0);
    for (auto const& p : parameters.all()) text += fmt::format("parameter {} {} x {}\n", p.name, p.rows, p.cols);
    return text;
}

std::vector<NamedTensor> Trainer::State::contents()
{
    std::vector<NamedTensor> all{{"steps", optimizer->steps()}};
    auto add = [&](std::string const& space, FlatSpace const& s) {
        if (s.count == 0) return;
        all.push_back({space + ".weights", s.weights});
        if (s.sharded()) all.push_back({space + ".shard_weights", s.shard_weights});
        all.push_back({space + ".master", s.master});
        all.push_back({space + ".moment1", s.moment1});
        all.push_back({space + ".moment2", s.moment2});
    };
    add("dense", parameters.dense());
    add("expert", parameters.expert());
    for (std::size_t l = 0; l < model.moe_blocks().size(); ++l)
        if (auto const& bias = model.moe_blocks()[l]->bias(); !bias.empty())
            all.push_back({fmt::format("bias.{}", l), bias});
    return all;
}

Tensor Trainer::State::find(std::string const& name, Tensor Parameter::*what) const
{
    for (auto const& p : parameters.all())
        for (int e = 0; e < std::max(1, p.experts); ++e)
            if (p.name_of(e) == name) return (p.*what).row_range(e * p.rows_each(), p.rows_each());
    throw InternalError("no parameter \"" + name + "\" on this rank");
}

Trainer::Trainer(Backend& backend, Communicator& world, StepConfig const& config)
    : state_{std::make_unique<State>(backend, world, config)}
{
}

Trainer::~Trainer() = default;

StepResult Trainer::step(std::span<std::int32_t const> tokens, Routing const* routing)
{
    auto& s = *state_;
    s.upload_tokens(tokens);
    auto prepared = s.prepare(routing);
    s.begin = s.backend.record();
    s.passes(prepared, true);
    s.middle = s.backend.record();
    if (!prepared.forced) sum_counts(s.context, s.world, prepared);
    s.update(prepared);
    s.end = s.backend.record();
    return s.result();
}

StepResult Trainer::gradients(std::span<std::int32_t const> tokens, Routing const* routing)
{
    auto& s = *state_;
    s.upload_tokens(tokens);
    auto prepared = s.prepare(routing);
    s.passes(prepared, false);
    s.optimizer->reduce_in_place();
    s.optimizer->measure_in_place();
    return s.result();
}

void Trainer::capture(Routing const& routing)
{
    auto& s = *state_;
    if (!s.has_run) throw InternalError("capture: no step has run before");
    s.captured_passes.reset();
    s.captured_update.reset();
    s.captured = std::make_unique<Prepared>(s.prepare(&routing));
    s.captured_passes = s.backend.capture([&s] { s.passes(*s.captured, true); });
    s.captured_update = s.backend.capture([&s] { s.update(*s.captured); });
}

StepResult Trainer::replay(std::span<std::int32_t const> tokens)
{
    auto& s = *state_;
    if (!s.captured_update) throw InternalError("replay: nothing was captured");
    s.upload_tokens(tokens);
    s.begin = s.backend.record();
    s.captured_passes->replay();
    s.middle = s.backend.record();
    s.captured_update->replay();
    s.end = s.backend.record();
    return s.result();
}

Trainer::Times Trainer::last_times() const
{
    auto& s = *state_;
    if (!s.end) throw InternalError("last_times: no step has run");
    return {s.backend.seconds(s.begin, s.middle), s.backend.seconds(s.middle, s.end)};
}

Routing Trainer::last_routing() const
{
    auto& s = *state_;
    Routing r;
    r.chosen.resize(static_cast<std::size_t>(s.config.micro_batches));
    if (s.moe.count == 0) return r;
    auto const all = s.backend.download_ints(s.chosen);
    auto const each = static_cast<std::ptrdiff_t>(s.context.tokens() * s.moe.top_k);
    auto from = all.begin();
    for (auto& layers : r.chosen)
        for (int l = 0; l < s.moe.count; ++l, from += each) layers.emplace_back(from, from + each);
    return r;
}

void Trainer::save(std::filesystem::path const& path) const
{
    save_checkpoint(path, state_->fingerprint(), state_->backend, state_->contents());
}

void Trainer::restore(std::filesystem::path const& path)
{
    restore_checkpoint(path, state_->fingerprint(), state_->backend, state_->contents());
}

double Trainer::parameters() const
{
    double n = 0;
    for (auto const& p : state_->parameters.all()) n += static_cast<double>(p.rows) * static_cast<double>(p.cols);
    return n;
}

std::vector<std::string> Trainer::parameter_names() const
{
    std::vector<std::string> names;
    for (auto const& p : state_->parameters.all())
        for (int e = 0; e < std::max(1, p.experts); ++e) names.push_back(p.name_of(e));
    return names;
}

Tensor Trainer::weight(std::string const& name) const { return state_->find(name, &Parameter::weight); }
Tensor Trainer::gradient(std::string const& name) const { return state_->find(name, &Parameter::gradient); }

} // namespace trainfare::kernels
