// SPDX-License-Identifier: Apache-2.0
//
// Forward and backward of a mixture of experts. The way of a row, with its names here:
//
//     token --position--> leaving --exchange--> arriving --arrived--> expert order
//
// Without exchange, positions lead to expert order at once. Gradients go the same way and come back the same way.
#include "kernels/step/moe_block.hpp"

namespace trainfare::kernels {
namespace {

Gate gate_of(StepConfig const& config, Experts const& e)
{
    Gate g;
    g.score = config.score, g.experts = e.count, g.top_k = e.top_k;
    g.groups = e.groups, g.top_groups = e.top_groups;
    g.normalise = config.normalise_gate, g.scale = config.gate_scale;
    return g;
}

Mlp make_experts(Context const& c, Parameters& parameters, Experts const& e, std::string const& prefix)
{
    int const local = c.local_experts(e.count), first = c.experts.rank() * local;
    auto const& up = parameters.experts(prefix + ".experts.*.up", local, first, 2 * std::int64_t{e.width}, c.hidden());
    auto const& down = parameters.experts(prefix + ".experts.*.down", local, first, c.hidden(), e.width);
    return {c, up, down};
}

std::unique_ptr<Mlp> make_shared_expert(Context const& c, Parameters& parameters, Experts const& e,
                                        std::string const& prefix)
{
    if (e.shared_width == 0) return nullptr;
    auto const& up = parameters.matrix(prefix + ".shared.up", 2 * std::int64_t{e.shared_width}, c.hidden());
    auto const& down = parameters.matrix(prefix + ".shared.down", c.hidden(), e.shared_width);
    return std::make_unique<Mlp>(c, up, down);
}

} // namespace

MoeBlock::MoeBlock(Context const& context, Parameters& parameters, Experts const& e, std::string const& prefix)
    : context_{context}, shape_{e}, gate_{gate_of(context.config, e)}, local_{context.local_experts(e.count)},
      router_{context, parameters.matrix(prefix + ".router", e.count, context.hidden()), Linear::Format::bf16},
      experts_{make_experts(context, parameters, e, prefix)},
      shared_{make_shared_expert(context, parameters, e, prefix)}, exchange_{context}
{
    if (context.config.balance_rate > 0) {
        bias_ = context.f32(1, e.count);
        context.backend.fill(bias_, 0);
    }
    std::vector<std::int32_t> number(static_cast<std::size_t>(e.count));
    for (int i = 0; i < e.count; ++i) number[static_cast<std::size_t>(i)] = i % local_;
    local_number_ = context.i32(e.count, 1);
    context.backend.upload(local_number_, std::span<std::int32_t const>{number});
}

void MoeBlock::prepare()
{
    experts_.prepare();
    if (shared_) shared_->prepare();
}

Operand MoeBlock::gather(Operand const& x, Tensor const& source, int divide) const
{
    auto const rows = source.cols, cols = x.values.cols;
    auto y = x.scaling == Scaling::none ? Operand{context_.backend.make(x.values.element, rows, cols)}
                                        : context_.quantised(rows, cols);
    context_.backend.gather_rows(x, source, divide, y);
    return y;
}

Tensor MoeBlock::gather_plain(Tensor const& x, Tensor const& source) const { return gather(x, source, 1).values; }

void MoeBlock::ask_for_counts(Saved& s, Tensor const& counts) const
{
    int const ranks = context_.experts.size(), rank = context_.experts.rank();
    auto const all = context_.i32(ranks, shape_.count);
    context_.counts.all_gather(counts, all);
    auto const numbers = context_.backend.download_ints(all);
    s.plan = plan_rows(numbers, rank, ranks, local_, context_.alignment());
    auto const* const mine = numbers.data() + static_cast<std::ptrdiff_t>(rank) * shape_.count;
    for (std::size_t e = 0; e < s.task.counts.size(); ++e) s.task.counts[e] += mine[e];
}

/// Chooses experts, and orders the rows that leave for them.
void MoeBlock::route(Saved& s) const
{
    auto& backend = context_.backend;
    auto const tokens = s.y.rows, choices = tokens * shape_.top_k;
    s.logits = context_.f32(tokens, shape_.count);
    router_.forward(s.y, s.logits, false);
    s.weights = context_.f32(tokens, shape_.top_k);
    auto const counts = context_.i32(1, shape_.count);
    backend.gate(gate_, s.logits, bias_, s.task.forced, s.task.chosen, s.weights, counts);
    if (s.task.plan)
        s.plan = *s.task.plan;
    else
        ask_for_counts(s, counts);

    bool const travel = context_.exchanges();
    auto const places = travel ? choices : s.plan.groups.padded_rows();
    auto const source = context_.i32(1, places);
    s.position = context_.i32(1, choices);
    backend.sort_rows(s.task.chosen.reshaped(1, choices), shape_.count, travel ? 1 : context_.alignment(), s.position,
                      source, counts);
    s.x = experts_.input(s.y);
    auto const rows = gather(s.x, source, shape_.top_k);
    if (!travel) {
        s.experts.x = rows;
        return;
    }
    s.parcel = exchange_.pack(rows, gather_plain(s.task.chosen.reshaped(choices, 1), source), s.plan.received());
}

/// Orders the rows that have come by expert; the backward finds the order already there.
Operand MoeBlock::to_experts(Saved& s) const
{
    auto const arrived = s.plan.received();
    if (s.parcel.ids_in.cols > 0) {
        auto const numbers = gather_plain(local_number_, s.parcel.ids_in.reshaped(1, arrived));
        s.arrived = context_.i32(1, arrived);
        s.source = context_.i32(1, s.plan.groups.padded_rows());
        auto const counts = context_.i32(1, local_);
        context_.backend.sort_rows(numbers.reshaped(1, arrived), local_, context_.alignment(), s.arrived, s.source,
                                   counts);
    }
    auto const rows = exchange_.unpack(s.parcel);
    s.parcel = {};
    return gather(rows, s.source, 1);
}

void MoeBlock::forward(Program& program, Saved& s, Tensor const& y, Tensor& out) const
{
    program.compute([this, &s, &y] {
        s.y = y;
        route(s);
    });
    if (context_.exchanges()) program.exchange([this, &s] { exchange_.ship(s.parcel, s.plan.send, s.plan.receive); });
    program.compute([this, &s] {
        auto const x = context_.exchanges() ? to_experts(s) : s.experts.x;
        s.rows = context_.bf16(x.values.rows, context_.hidden());
        experts_.forward(s.experts, x, s.rows, false, &s.plan.groups);
        if (context_.exchanges()) s.parcel = exchange_.pack(gather_plain(s.rows, s.arrived), {}, s.position.cols);
    });
    if (context_.exchanges()) program.exchange([this, &s] { exchange_.ship(s.parcel, s.plan.receive, s.plan.send); });
    program.compute([this, &s, &out] {
        if (context_.exchanges()) s.rows = s.parcel.rows_in;
        s.parcel = {};
        out = context_.bf16(s.y.rows, context_.hidden());
        context_.backend.combine_rows(s.rows, s.position, s.weights, shape_.top_k, out);
        if (shared_) shared_->forward(s.shared, s.x, out, true);
    });
}

void MoeBlock::backward(Program& program, Saved& s, Tensor const& d_out, Tensor& d_y) const
{
    program.compute([this, &s, &d_out] {
        auto const d_weights = context_.f32(s.weights.rows, s.weights.cols);
        s.gradient = context_.bf16(s.rows.rows, s.rows.cols);
        context_.backend.combine_rows_backward(d_out, s.rows, s.position, s.weights, shape_.top_k, s.gradient,
                                               d_weights);
        s.rows = {};
        s.d_logits = context_.bf16(s.logits.rows, s.logits.cols);
        context_.backend.gate_backward(gate_, s.logits, s.task.chosen, d_weights, s.d_logits);
        if (context_.exchanges()) s.parcel = exchange_.pack(experts_.input(s.gradient), {}, s.plan.received());
    });
    if (context_.exchanges()) program.exchange([this, &s] { exchange_.ship(s.parcel, s.plan.send, s.plan.receive); });
    program.compute([this, &s] {
        auto const d_rows = context_.exchanges() ? to_experts(s) : Operand{s.gradient};
        auto const d_x = context_.bf16(d_rows.values.rows, context_.hidden());
        experts_.backward(s.experts, experts_.output_gradient(d_rows), d_x, false, &s.plan.groups);
        s.experts = {};
        s.gradient = d_x;
        if (context_.exchanges()) s.parcel = exchange_.pack(gather_plain(d_x, s.arrived), {}, s.position.cols);
    });
    if (context_.exchanges()) program.exchange([this, &s] { exchange_.ship(s.parcel, s.plan.receive, s.plan.send); });
    program.compute([this, &s, &d_out, &d_y] {
        auto const rows = context_.exchanges() ? s.parcel.rows_in : s.gradient;
        d_y = context_.bf16(s.y.rows, context_.hidden());
        context_.backend.combine_rows(rows, s.position, {}, shape_.top_k, d_y);
        router_.backward({s.d_logits, {}}, s.y, d_y, true);
        if (shared_) shared_->backward(s.shared, shared_->output_gradient(d_out), d_y, true);
        s = {};
    });
}

} // namespace trainfare::kernels
