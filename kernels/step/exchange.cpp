// SPDX-License-Identifier: Apache-2.0
//
// Packing, shipping and unpacking of rows.
#include "kernels/step/exchange.hpp"

namespace trainfare::kernels {

RowExchange::RowExchange(Context const& context) : context_{context}
{
    if (!context.fp8() || !context.exchanges()) return;
    auto const n = context.hidden() / 128;
    std::vector<float> values(static_cast<std::size_t>(n * n), 0.0F);
    for (std::int64_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i * (n + 1))] = 1;
    identity_ = context.f32(n, n);
    context.backend.upload(identity_, std::span<float const>{values});
}

Parcel RowExchange::pack(Operand const& rows, Tensor const& ids, std::int64_t arriving) const
{
    auto const width = rows.values.cols, leaving = rows.values.rows;
    Parcel p;
    p.rows_out = rows.values;
    p.rows_in = context_.backend.make(rows.values.element, arriving, width);
    if (rows.scaling != Scaling::none) {
        p.scales_out = context_.f32(leaving, identity_.rows);
        p.scales_in = context_.f32(arriving, identity_.rows);
        if (leaving > 0) context_.backend.gemm(p.scales_out, rows.scales, identity_, Form::tn, false);
    }
    if (!ids.empty()) {
        p.ids_out = ids;
        p.ids_in = context_.i32(arriving, 1);
    }
    return p;
}

void RowExchange::ship(Parcel const& p, std::vector<std::int64_t> const& send,
                       std::vector<std::int64_t> const& receive) const
{
    context_.experts.all_to_all_v(p.rows_out, send, p.rows_in, receive);
    if (p.scales_out.cols > 0) context_.experts.all_to_all_v(p.scales_out, send, p.scales_in, receive);
    if (p.ids_out.cols > 0) context_.experts.all_to_all_v(p.ids_out, send, p.ids_in, receive);
}

Operand RowExchange::unpack(Parcel const& p) const
{
    if (p.scales_in.cols == 0) return p.rows_in;
    auto const rows = p.rows_in.rows;
    Operand q{p.rows_in, context_.f32(identity_.rows, rows), Scaling::vector128};
    if (rows > 0) context_.backend.gemm(q.scales, identity_, p.scales_in, Form::nt, false);
    return q;
}

} // namespace trainfare::kernels
