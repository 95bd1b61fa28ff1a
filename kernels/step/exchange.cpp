// SPDX-License-Identifier: Apache-2.0
//
// Packing, shipping and unpacking of rows.
#include "kernels/step/exchange.hpp"

namespace trainfare::kernels {

Parcel RowExchange::pack(Operand const& rows, Tensor const& ids, std::int64_t arriving) const
{
    auto const width = rows.values.cols, leaving = rows.values.rows;
    Parcel p;
    p.rows_out = rows.values;
    p.rows_in = context_.backend.make(rows.values.element, arriving, width);
    if (rows.scaling != Scaling::none) {
        p.scales_out = context_.f32(leaving, rows.scales.rows);
        p.scales_in = context_.f32(arriving, rows.scales.rows);
        context_.backend.transpose(rows.scales, p.scales_out);
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
    Operand q{p.rows_in, context_.f32(p.scales_in.cols, p.scales_in.rows), Scaling::vector128};
    context_.backend.transpose(p.scales_in, q.scales);
    return q;
}

} // namespace trainfare::kernels
