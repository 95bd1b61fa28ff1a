// SPDX-License-Identifier: Apache-2.0
//
// Number formats by name: the spelling of the enumerators, which is that of the published tables.
#include "model/dtype.hpp"

#include <array>
#include <utility>

namespace trainfare {

namespace {

constexpr std::array<std::pair<Precision, std::string_view>, 7> precisions{{
    {Precision::fp32, "fp32"},
    {Precision::fp16, "fp16"},
    {Precision::bf16, "bf16"},
    {Precision::fp8_tensor, "fp8_tensor"},
    {Precision::fp8_block, "fp8_block"},
    {Precision::mxfp8, "mxfp8"},
    {Precision::nvfp4, "nvfp4"},
}};

constexpr std::array<std::pair<DType, std::string_view>, 5> dtypes{{
    {DType::fp32, "fp32"},
    {DType::fp16, "fp16"},
    {DType::bf16, "bf16"},
    {DType::fp8, "fp8"},
    {DType::fp4, "fp4"},
}};

template <class Table, class Value>
std::string_view name_in(Table const& table, Value value)
{
    for (auto const& [known, text] : table)
        if (known == value) return text;
    return "unknown";
}

template <class Value, class Table>
std::optional<Value> value_in(Table const& table, std::string_view text)
{
    for (auto const& [value, known] : table)
        if (known == text) return value;
    return std::nullopt;
}

} // namespace

std::string_view name(Precision p) { return name_in(precisions, p); }
std::string_view name(DType t) { return name_in(dtypes, t); }
std::optional<Precision> precision_from(std::string_view text) { return value_in<Precision>(precisions, text); }
std::optional<DType> dtype_from(std::string_view text) { return value_in<DType>(dtypes, text); }

} // namespace trainfare
