// SPDX-License-Identifier: Apache-2.0
//
// Operations that choose or move rows by index: the gate, rows to and from the order of experts, the embedding.
#include <algorithm>

#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

constexpr int samples = 8;

std::vector<std::int32_t> random_ints(std::int64_t count, std::int64_t end, std::uint64_t seed)
{
    std::vector<std::int32_t> out(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
        out[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(pick(seed, i, end));
    return out;
}

/// A permutation of [0, count): no row is written twice.
std::vector<std::int32_t> permutation(std::int64_t count, std::uint64_t seed)
{
    std::vector<std::int32_t> out(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::int32_t>(i);
    for (std::size_t i = out.size(); i > 1; --i)
        std::swap(out[i - 1], out[static_cast<std::size_t>(pick(seed, std::int64_t(i), std::int64_t(i)))]);
    return out;
}

/// y[p] = x[source[p]]: m rows out of k; each row of x about equally often.
Instance gather(Maker& make, Point const& p)
{
    auto& on = make.backend;
    std::int64_t const rows = p.op.m, width = p.op.n, from = p.op.k;
    bool const lookup = p.op.kind == OpKind::embedding, quantised = p.method == "gather_quantised",
               numbers = p.method == "gather_ids";
    Operand x, y;
    if (quantised) {
        x = make.activations(from, width), y = make.empty_quantised(Scaling::vector128, rows, width);
    } else if (numbers) {
        x = make.integers(random_ints(from, 1 << 20, 9)).reshaped(from, 1), y = make.empty(Element::i32, rows, 1);
    } else {
        x = make.bf16(from, width), y = make.empty(Element::bf16, rows, width);
    }
    auto ids = lookup ? random_ints(rows, from, 3) : permutation(rows, 3);
    for (auto& id : ids) id = static_cast<std::int32_t>(id % from);
    auto const source = make.integers(ids);
    Instance out;
    out.run = [=, &on] { on.gather_rows(x, source, 1, y); };
    out.check = [=, &on, run = out.run] {
        run();
        Difference d;
        for (int s = 0; s < samples; ++s) {
            auto const row = pick(5, s, rows);
            d.add(row_of(on, y, row), row_of(on, x, ids[static_cast<std::size_t>(row)]));
        }
        return d.error();
    };
    double const each = quantised ? 1 + 4.0 / 128 : numbers ? 4 : 2;
    out.moved = each * static_cast<double>(width) * static_cast<double>(rows + std::min(rows, from));
    return out;
}

/// k results out of m rows; each row is used once.
Instance combine(Maker& make, Point const& p, bool backward)
{
    auto& on = make.backend;
    std::int64_t const rows = p.op.m, width = p.op.n, results = p.op.k;
    int const each = static_cast<int>((rows + results - 1) / results);
    auto places = permutation(rows, 3);
    places.resize(static_cast<std::size_t>(results * each), -1); // the last results have fewer rows
    if (rows % results != 0)                                     // spread them
        for (std::int64_t i = rows; i < results * each; ++i)
            std::swap(places[static_cast<std::size_t>(i)], places[static_cast<std::size_t>(pick(4, i, i + 1))]);
    auto const x = make.bf16(rows, width), y = make.bf16(results, width);
    auto const position = make.integers(places);
    auto const weights = make.normal(Element::f32, results, each);
    auto const d_rows = backward ? make.empty(Element::bf16, rows, width) : Tensor{};
    auto const d_weights = backward ? make.empty(Element::f32, results, each) : Tensor{};
    Instance out;
    out.run = [=, &on] {
        if (backward)
            on.combine_rows_backward(y, x, position, weights, each, d_rows, d_weights);
        else
            on.combine_rows(x, position, weights, each, y);
    };
    out.check = [=, &on, run = out.run] {
        run();
        Difference d;
        for (int s = 0; s < samples; ++s) {
            auto const t = pick(5, s, results);
            auto const w = on.download(weights.row_range(t, 1)), whole = row_of(on, y, t);
            std::vector<double> sum(static_cast<std::size_t>(width), 0);
            for (int j = 0; j < each; ++j) {
                auto const at = places[static_cast<std::size_t>(t * each + j)];
                if (at < 0) continue;
                auto const row = row_of(on, x, at), got = backward ? row_of(on, d_rows, at) : row;
                for (std::size_t c = 0; c < sum.size(); ++c) {
                    sum[c] += w[static_cast<std::size_t>(j)] * row[c];
                    if (backward) d.add(got[c], w[static_cast<std::size_t>(j)] * whole[c]);
                }
            }
            if (!backward) d.add(whole, sum);
        }
        return d.error();
    };
    out.moved = 2 * static_cast<double>(width) * static_cast<double>((backward ? 2 : 1) * rows + results);
    return out;
}

Instance embedding_backward(Maker& make, Point const& p)
{
    auto& on = make.backend;
    auto const ids = random_ints(p.op.m, p.op.k, 3);
    auto const d_y = make.bf16(p.op.m, p.op.n), tokens = make.integers(ids),
               table = make.zeros(Element::f32, p.op.k, p.op.n);
    Instance out;
    out.run = [=, &on] { on.embedding_backward(d_y, tokens, table); };
    out.check = [=, &on, run = out.run] {
        run();
        Difference d;
        for (int s = 0; s < samples; ++s) {
            auto const id = ids[static_cast<std::size_t>(pick(5, s, std::ssize(ids)))];
            std::vector<double> sum(static_cast<std::size_t>(d_y.cols), 0);
            for (std::size_t t = 0; t < ids.size(); ++t) {
                if (ids[t] != id) continue;
                auto const row = row_of(on, d_y, static_cast<std::int64_t>(t));
                for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += row[c];
            }
            d.add(row_of(on, table, id), sum);
        }
        return d.error();
    };
    out.moved = 10 * static_cast<double>(p.op.m) * static_cast<double>(p.op.n);
    return out;
}

/// m keys below n, into the order of keys.
Instance sorting(Maker& make, Point const& p)
{
    auto& on = make.backend;
    auto const values = random_ints(p.op.m, p.op.n, 3);
    int const buckets = static_cast<int>(p.op.n);
    auto const keys = make.integers(values), position = make.empty(Element::i32, 1, p.op.m),
               source = make.empty(Element::i32, 1, p.op.m + p.op.n * 128),
               counts = make.empty(Element::i32, 1, p.op.n);
    Instance out;
    out.run = [=, &on] { on.sort_rows(keys, buckets, 128, position, source, counts); };
    out.check = [=, &on, run = out.run] {
        run();
        std::vector<double> expected(static_cast<std::size_t>(buckets), 0), number, back;
        for (auto const v : values) ++expected[static_cast<std::size_t>(v)];
        Difference d;
        d.add(on.download(counts), expected);
        auto const at = on.download_ints(position), from = on.download_ints(source);
        for (std::size_t i = 0; i < at.size(); ++i) {
            number.push_back(static_cast<double>(i));
            bool const inside = at[i] >= 0 && at[i] < static_cast<std::int32_t>(from.size());
            back.push_back(inside ? from[static_cast<std::size_t>(at[i])] : -1);
        }
        d.add(back, number);
        return d.error();
    };
    out.moved = 12 * static_cast<double>(p.op.m);
    return out;
}

} // namespace

Instance rows_by_rank(Maker& make, Point const& p)
{
    Instance out;
    if (p.method == "sort_rows")
        out = sorting(make, p);
    else if (p.method == "embedding_backward")
        out = embedding_backward(make, p);
    else if (p.method.starts_with("combine_rows"))
        out = combine(make, p, p.method == "combine_rows_backward");
    else
        out = gather(make, p);
    out.held = make.held();
    return out;
}

/// m tokens, n experts, k of them chosen. forward: also the order of rows, as in a step.
Instance gating(Maker& make, Point const& p)
{
    auto& on = make.backend;
    std::int64_t const tokens = p.op.m, experts = p.op.n, k = p.op.k, choices = tokens * k;
    Gate gate;
    gate.experts = static_cast<int>(experts), gate.top_k = static_cast<int>(k);
    gate.groups = std::max(1, p.op.groups), gate.top_groups = std::max(1, p.op.kv_heads);
    auto const logits = make.normal(Element::f32, tokens, experts), bias = make.normal(Element::f32, 1, experts, 0.01F);
    auto const chosen = make.empty(Element::i32, tokens, k), weights = make.empty(Element::f32, tokens, k),
               counts = make.empty(Element::i32, 1, experts), position = make.empty(Element::i32, 1, choices),
               source = make.empty(Element::i32, 1, choices + experts * 128);
    auto const d_weights = make.normal(Element::f32, tokens, k), d_logits = make.empty(Element::bf16, tokens, experts);
    bool const backward = p.op.pass == Pass::dgrad;
    if (backward) on.gate(gate, logits, bias, {}, chosen, weights, counts);
    Instance out;
    out.run = [=, &on] {
        if (backward) return on.gate_backward(gate, logits, chosen, d_weights, d_logits);
        on.gate(gate, logits, bias, {}, chosen, weights, counts);
        on.sort_rows(chosen.reshaped(1, choices), static_cast<int>(experts), 128, position, source, counts);
    };
    // the same few rows on the host, from the same numbers: weights by expert, whatever order they are in
    out.check = [=, &on, run = out.run] {
        run();
        auto const rows = std::min<std::int64_t>(tokens, 16);
        auto const host = make_host_backend(false);
        auto const copy = [&](Tensor const& t, std::int64_t n) {
            auto const values = on.download(t.row_range(0, n));
            auto const there = host->make(t.element, n, t.cols);
            if (t.element == Element::i32)
                host->upload(there, std::vector<std::int32_t>(values.begin(), values.end()));
            else
                host->upload(there, std::vector<float>(values.begin(), values.end()));
            return there;
        };
        Difference d;
        if (backward) {
            auto const expected = host->make(Element::bf16, rows, experts);
            host->gate_backward(gate, copy(logits, rows), copy(chosen, rows), copy(d_weights, rows), expected);
            d.add(on.download(d_logits.row_range(0, rows)), host->download(expected));
            return d.error();
        }
        auto const there = host->make(Element::i32, rows, k), its = host->make(Element::f32, rows, k);
        host->gate(gate, copy(logits, rows), copy(bias, 1), {}, there, its, host->make(Element::i32, 1, experts));
        auto const by_expert = [&](Backend& b, Tensor const& ids, Tensor const& w) {
            std::vector<double> table(static_cast<std::size_t>(rows * experts), 0);
            auto const e = b.download_ints(ids.row_range(0, rows));
            auto const x = b.download(w.row_range(0, rows));
            for (std::size_t i = 0; i < e.size(); ++i)
                if (e[i] >= 0 && e[i] < experts)
                    table[i / static_cast<std::size_t>(k) * static_cast<std::size_t>(experts) +
                          static_cast<std::size_t>(e[i])] = x[i];
            return table;
        };
        d.add(by_expert(on, chosen, weights), by_expert(*host, there, its));
        return d.error();
    };
    out.moved =
        backward ? static_cast<double>(tokens) * (6.0 * static_cast<double>(experts) + 8.0 * static_cast<double>(k))
                 : static_cast<double>(tokens) * (4.0 * static_cast<double>(experts) + 28.0 * static_cast<double>(k));
    out.held = make.held();
    return out;
}

} // namespace trainfare::measure
