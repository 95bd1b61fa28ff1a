// SPDX-License-Identifier: Apache-2.0
//
// Names of number formats are an interface: scenarios, CSV and JSON all use them.
#include "model/dtype.hpp"

#include "tests/catch.hpp"

using namespace trainfare;

TEST_CASE("every precision is spelt like its enumerator and reads back", "[dtype]")
{
    CHECK(name(Precision::fp8_block) == "fp8_block");
    CHECK(name(Precision::nvfp4) == "nvfp4");
    for (auto const p : {Precision::fp32, Precision::fp16, Precision::bf16, Precision::fp8_tensor, Precision::fp8_block,
                         Precision::mxfp8, Precision::nvfp4})
        CHECK(precision_from(name(p)) == p);
}

TEST_CASE("every element type is spelt like its enumerator and reads back", "[dtype]")
{
    CHECK(name(DType::bf16) == "bf16");
    for (auto const t : {DType::fp32, DType::fp16, DType::bf16, DType::fp8, DType::fp4})
        CHECK(dtype_from(name(t)) == t);
}

TEST_CASE("a name that is no format is refused, not guessed", "[dtype]")
{
    CHECK_FALSE(precision_from("fp8").has_value()); // which scales?
    CHECK_FALSE(precision_from("BF16").has_value());
    CHECK_FALSE(precision_from("").has_value());
    CHECK_FALSE(dtype_from("fp8_block").has_value());
    CHECK_FALSE(dtype_from("bf16 ").has_value());
}

TEST_CASE("sizes and scale factors follow the format", "[dtype]")
{
    CHECK(size_of(DType::fp4) == Bytes{0.5});
    CHECK(size_of(gemm_dtype(Precision::fp8_block)) == Bytes{1});
    CHECK(scale_bytes_per_element(Precision::fp8_block) == 0.03125);
    CHECK_FALSE(is_quantised(Precision::bf16));
    CHECK(is_quantised(Precision::mxfp8));
}
