// SPDX-License-Identifier: Apache-2.0
//
// Rows on their way between the ranks that share the experts. bf16 rows travel as they are. Quantised rows travel with
// their scales; these lie [columns / 128, rows] in memory, which cannot be sent row by row, so they are transposed on
// both ends.
#pragma once

#include "kernels/step/routing.hpp"

namespace trainfare::kernels {

/// What is sent and what arrives. ids, one per row, and scales are empty where there are none.
struct Parcel {
    Tensor rows_out, rows_in;
    Tensor scales_out, scales_in; // f32 [rows, columns / 128]
    Tensor ids_out, ids_in;       // i32 [rows, 1]
};

class RowExchange {
public:
    explicit RowExchange(Context const& context) : context_{context} {}

    /// On the compute stream: all memory that ship() needs. @p ids may be empty.
    [[nodiscard]] Parcel pack(Operand const& rows, Tensor const& ids, std::int64_t arriving) const;
    /// On the exchange stream.
    void ship(Parcel const&, std::vector<std::int64_t> const& send, std::vector<std::int64_t> const& receive) const;
    /// On the compute stream again: rows_in as an operand.
    [[nodiscard]] Operand unpack(Parcel const&) const;

private:
    Context const& context_;
};

} // namespace trainfare::kernels
