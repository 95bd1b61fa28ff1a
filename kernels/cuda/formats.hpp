// SPDX-License-Identifier: Apache-2.0
//
// Numbers as a GPU stores them, for the host's side of a transfer. Shared by back-end `cuda` and its emulator.
#pragma once

#include <cuda_fp8.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/host/rounding.hpp"
#include "kernels/tensor.hpp"
#include "model/error.hpp"

namespace trainfare::kernels::cuda {

/// Bytes of one element.
inline std::size_t size_of(Element element)
{
    switch (element) {
    case Element::f32:
    case Element::i32: return 4;
    case Element::bf16: return 2;
    case Element::e4m3: return 1;
    }
    throw InternalError("an element of unknown kind");
}

/// 1.0 -> 0x3f80.
inline std::uint16_t bf16_bits(float x)
{
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(round_to_bf16(x)) >> 16U);
}

/// One stored element as a number.
inline double number(Element element, std::byte const* at)
{
    switch (element) {
    case Element::f32: {
        float x = 0;
        std::memcpy(&x, at, sizeof x);
        return static_cast<double>(x);
    }
    case Element::i32: {
        std::int32_t x = 0;
        std::memcpy(&x, at, sizeof x);
        return x;
    }
    case Element::bf16: {
        std::uint16_t bits = 0;
        std::memcpy(&bits, at, sizeof bits);
        return static_cast<double>(std::bit_cast<float>(std::uint32_t{bits} << 16U));
    }
    case Element::e4m3: {
        __nv_fp8_e4m3 x;
        x.__x = std::to_integer<__nv_fp8_storage_t>(*at);
        return static_cast<double>(static_cast<float>(x));
    }
    }
    throw InternalError("an element of unknown kind");
}

/// Numbers as bytes of f32 or bf16. @throws InternalError for other elements.
inline std::vector<std::byte> encoded(Element element, std::span<float const> numbers)
{
    if (element != Element::f32 && element != Element::bf16) throw InternalError("upload: numbers go to f32 or bf16");
    std::size_t const each = size_of(element);
    std::vector<std::byte> out(numbers.size() * each);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        auto const narrow = bf16_bits(numbers[i]);
        if (element == Element::bf16) std::memcpy(out.data() + i * each, &narrow, each);
        else std::memcpy(out.data() + i * each, &numbers[i], each);
    }
    return out;
}

inline std::vector<double> decoded(Element element, std::span<std::byte const> bytes)
{
    std::size_t const each = size_of(element);
    std::vector<double> out(bytes.size() / each);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = number(element, bytes.data() + i * each);
    return out;
}

} // namespace trainfare::kernels::cuda
