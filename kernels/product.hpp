// SPDX-License-Identifier: Apache-2.0
//
// What a matrix product's tensors must look like, checked in one place for every back-end, so that a wrong call fails
// alike on a CPU and on a GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

namespace trainfare::kernels {

/// c[m, n] = sum over `depth` of products.
struct ProductSize {
    std::int64_t m = 0, n = 0, depth = 0;
};

/// "gemm nt: bf16 [4, 8] = e4m3 [4, 128] vector128 x e4m3 [8, 128] block128".
std::string in_words(char const* operation, Tensor const& c, Operand const& a, Operand const& b, Form);

/// @throws InternalError if the tensors do not fit.
ProductSize product_size(Tensor const& c, Operand const& a, Operand const& b, Form);

/// Size of a grouped product: all groups' rows, padding included, are m of nt and nn and the depth of tn. Quantised tn
/// is the product of two tensors that are transposed already. @throws InternalError if the tensors do not fit.
ProductSize grouped_size(Tensor const& c, Operand const& a, Operand const& b, Form, Groups const&);

/// One group of a grouped product: part `index` of what lies group by group, rows [first, first + count) of what has a
/// row per token.
struct GroupRows {
    std::int64_t index = 0, first = 0, count = 0;
};

/// Groups with their padding, which is zero in a (tn: in a and b) and therefore does not change a result.
std::vector<GroupRows> padded_groups(Groups const&);

} // namespace trainfare::kernels
