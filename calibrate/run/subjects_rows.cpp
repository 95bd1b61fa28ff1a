// SPDX-License-Identifier: Apache-2.0
//
// Operations bound by memory that treat each row (or each 128 rows) alone. In the order of kernels/backend.hpp.
#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

RowWise norm(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    std::int64_t const width = p.op.n;
    double const x_bytes = 2.0 * static_cast<double>(rows) * static_cast<double>(width);
    float const eps = 1e-6F;
    bool const add = p.method == "add_rms_norm", backward = p.method.starts_with("rms_norm_backward");
    bool const accumulate = p.method == "rms_norm_backward_add";
    auto const x = make.bf16(rows, width), weight = make.bf16(1, width), y = make.empty(Element::bf16, rows, width);
    auto const rstd = make.empty(Element::f32, 1, rows);
    RowWise out;
    if (!backward) {
        auto const delta = add ? make.bf16(rows, width) : Tensor{};
        out.run = [=, &on] {
            if (add)
                on.add_rms_norm(x, delta, weight, eps, y, rstd);
            else
                on.rms_norm(x, weight, eps, y, rstd);
        };
        out.outputs = {{y}};
        if (add) out.outputs.push_back({x});
        out.moved = x_bytes * (add ? 4 : 2);
        return out;
    }
    on.rms_norm(x, weight, eps, y, rstd);
    auto const d_y = make.bf16(rows, width), d_x = make.bf16(rows, width),
               d_weight = make.zeros(Element::f32, 1, width);
    out.run = [=, &on] { on.rms_norm_backward(d_y, x, weight, rstd, d_x, accumulate, d_weight); };
    out.outputs = {{d_x}};
    out.moved = x_bytes * (accumulate ? 4 : 3);
    return out;
}

/// Two norms on neighbouring column ranges, or one where q is not factored.
RowWise latent_norm(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    std::int64_t const width = p.op.n, q = p.op.k;
    bool const backward = p.op.pass == Pass::dgrad;
    struct Part {
        Tensor x, y, rstd, weight, d_x, d_weight;
    };
    auto const x = make.bf16(rows, width), d_x = backward ? make.bf16(rows, width) : Tensor{};
    std::vector<Part> parts;
    RowWise out;
    for (auto const& [first, cols] : {std::pair{std::int64_t{0}, q}, {q, width - q}}) {
        if (cols == 0) continue;
        Part part{x.column_range(first, cols),
                  make.bf16(rows, cols),
                  make.empty(Element::f32, 1, rows),
                  make.bf16(1, cols),
                  {},
                  {}};
        if (backward) {
            on.rms_norm(part.x, part.weight, 1e-6F, make.empty(Element::bf16, rows, cols),
                        part.rstd); // y: its gradient
            part.d_x = d_x.column_range(first, cols), part.d_weight = make.zeros(Element::f32, 1, cols);
        } else {
            out.outputs.push_back({part.y});
        }
        parts.push_back(part);
    }
    if (backward) out.outputs = {{d_x}};
    out.run = [=, &on] {
        for (auto const& t : parts)
            if (backward)
                on.rms_norm_backward(t.y, t.x, t.weight, t.rstd, t.d_x, false, t.d_weight);
            else
                on.rms_norm(t.x, t.weight, 1e-6F, t.y, t.rstd);
    };
    out.moved = (backward ? 6.0 : 4.0) * static_cast<double>(rows) * static_cast<double>(width);
    return out;
}

RowWise rotary(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    bool const backward = p.op.pass == Pass::dgrad;
    auto const r = static_cast<double>(rows);
    RowWise out;
    if (p.method.starts_with("rope")) { // q and k side by side
        Rope rope;
        rope.seq = static_cast<int>(p.op.seq), rope.heads = p.op.heads + p.op.kv_heads;
        rope.width = rope.dim = static_cast<int>(p.op.k);
        auto const x = make.bf16(rows, std::int64_t{rope.heads} * rope.width);
        out.run = [=, &on] { on.rope(rope, x, backward); };
        out.outputs = {{x}};
        out.moved = 4 * r * static_cast<double>(x.cols);
        return out;
    }
    LatentHeads h;
    h.seq = static_cast<int>(p.op.seq), h.heads = p.op.heads;
    h.nope = static_cast<int>(p.op.n), h.rope = static_cast<int>(p.op.k), h.v = p.op.v_dim;
    std::int64_t const wide = std::int64_t{h.heads} * (h.nope + h.rope), both = std::int64_t{h.heads} * (h.nope + h.v),
                       values = std::int64_t{h.heads} * h.v;
    auto const q = make.bf16(rows, wide), kv = make.bf16(rows, both), k_rope = make.bf16(rows, h.rope),
               k = make.bf16(rows, wide), v = make.bf16(rows, values);
    out.run = [=, &on] {
        if (backward)
            on.latent_heads_backward(h, q, k, v, kv, k_rope);
        else
            on.latent_heads(h, q, kv, k_rope, k, v);
    };
    if (backward)
        out.outputs = {{q}, {kv}, {k_rope}};
    else
        out.outputs = {{q}, {k}, {v}};
    out.moved = 2 * r * (2.0 * h.heads * h.rope + static_cast<double>(both + wide + values + h.rope));
    return out;
}

RowWise activation(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    std::int64_t const width = p.op.n;
    double const y_elements = static_cast<double>(rows) * static_cast<double>(width);
    auto const gate_up = make.bf16(rows, 2 * width);
    RowWise out;
    if (p.method == "swiglu_quantise") {
        auto const y = make.empty_quantised(Scaling::vector128, rows, width);
        out.run = [=, &on] { on.swiglu_quantise(gate_up, y); };
        out.outputs = {{y}};
        out.moved = y_elements * (4 + 1 + 4.0 / 128);
    } else if (p.method == "swiglu") {
        auto const y = make.empty(Element::bf16, rows, width);
        out.run = [=, &on] { on.swiglu(gate_up, y); };
        out.outputs = {{y}};
        out.moved = y_elements * 6;
    } else {
        auto const d_y = make.bf16(rows, width), d = make.empty(Element::bf16, rows, 2 * width);
        out.run = [=, &on] { on.swiglu_backward(d_y, gate_up, d); };
        out.outputs = {{d}};
        out.moved = y_elements * 10;
    }
    return out;
}

RowWise quantisation(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    std::int64_t const width = p.op.n;
    double const elements = static_cast<double>(rows) * static_cast<double>(width), each = 1 + 4.0 / 128;
    RowWise out;
    if (p.method == "transpose_quantised") {
        auto const from = make.activations(rows, width), to = make.empty_quantised(Scaling::vector128, width, rows);
        out.run = [=, &on] { on.transpose_quantised(from, to); };
        out.outputs = {{to, true}};
        out.moved = 2 * each * elements;
        return out;
    }
    auto const x = make.bf16(rows, width);
    if (p.method == "quantise_blocks") {
        auto const blocks = make.empty_quantised(Scaling::block128, rows, width),
                   turned = make.empty_quantised(Scaling::block128, width, rows);
        out.run = [=, &on] { on.quantise_blocks(x, blocks, turned); };
        out.outputs = {{blocks}, {turned, true}};
        out.moved = 4 * elements;
        return out;
    }
    bool const both = p.method == "quantise_both";
    auto const row = make.empty_quantised(Scaling::vector128, rows, width);
    auto const turned = both ? make.empty_quantised(Scaling::vector128, width, rows) : Operand{};
    out.run = [=, &on] { on.quantise(x, row, turned); };
    out.outputs = {{row}};
    if (both) out.outputs.push_back({turned, true});
    out.moved = (2 + (both ? 2 : 1) * each) * elements;
    return out;
}

RowWise cross_entropy(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    auto const logits = make.bf16(rows, p.op.n);
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<std::int32_t>(pick(7, i, p.op.n)));
    auto const targets = make.integers(ids), loss = make.empty(Element::f32, 1, rows);
    RowWise out;
    out.run = [=, &on] { on.cross_entropy(logits, targets, 1, loss); };
    out.outputs = {{logits}, {loss, true}};
    out.moved = 4 * static_cast<double>(rows) * static_cast<double>(p.op.n);
    return out;
}

RowWise adamw(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    auto const moments = p.method == "adamw" ? Element::f32 : Element::bf16;
    auto const master = make.normal(Element::f32, rows, p.op.n, 0.02F),
               first = make.normal(moments, rows, p.op.n, 1e-3F), second = make.empty(moments, rows, p.op.n),
               grad = make.normal(Element::f32, rows, p.op.n, 1e-3F), weights = make.empty(Element::bf16, rows, p.op.n),
               scale = make.empty(Element::f32, 1, 1);
    on.fill(second, 1e-6F); // a mean of squares is not negative
    on.fill(scale, 1);
    auto const step = make.integers({10});
    RowWise out;
    out.run = [=, &on] { on.adamw(AdamW{}, step, scale, master, first, second, grad, weights); };
    out.outputs = {{master}, {first}, {weights}};
    out.moved = (moments == Element::f32 ? 30 : 22) * static_cast<double>(rows) * static_cast<double>(p.op.n);
    return out;
}

/// Scales of fp8 rows before they travel.
RowWise transposition(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    auto const from = make.normal(Element::f32, rows, p.op.n), to = make.empty(Element::f32, p.op.n, rows);
    RowWise out;
    out.run = [=, &on] { on.transpose(from, to); };
    out.outputs = {{to, true}};
    out.moved = 8 * static_cast<double>(rows) * static_cast<double>(p.op.n);
    return out;
}

RowWise addition(Maker& make, Point const& p, std::int64_t rows)
{
    auto& on = make.backend;
    auto const to = make.bf16(rows, p.op.n), x = make.bf16(rows, p.op.n);
    RowWise out;
    bool const copies = p.method == "copy_rows";
    out.run = [=, &on] {
        if (copies)
            on.copy(to, x);
        else
            on.add(to, x);
    };
    out.outputs = {{to}};
    out.moved = (copies ? 4 : 6) * static_cast<double>(rows) * static_cast<double>(p.op.n);
    return out;
}

} // namespace

RowWise row_wise(Maker& make, Point const& p, std::int64_t rows)
{
    auto const& method = p.method;
    if (method == "add" || method == "copy_rows") return addition(make, p, rows);
    if (method == "transpose") return transposition(make, p, rows);
    if (method == "rms_norm" || method == "add_rms_norm" || method.starts_with("rms_norm_backward"))
        return norm(make, p, rows);
    if (method.starts_with("latent_norm")) return latent_norm(make, p, rows);
    if (method.starts_with("rope") || method.starts_with("latent_heads")) return rotary(make, p, rows);
    if (method.starts_with("swiglu")) return activation(make, p, rows);
    if (method.starts_with("quantise") || method == "transpose_quantised") return quantisation(make, p, rows);
    if (method == "cross_entropy") return cross_entropy(make, p, rows);
    if (method.starts_with("adamw")) return adamw(make, p, rows);
    return {};
}

} // namespace trainfare::measure
