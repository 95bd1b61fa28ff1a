// SPDX-License-Identifier: Apache-2.0
//
// The checks, and products in words for errors.
#include "kernels/product.hpp"

#include <utility>

#include <fmt/format.h>

#include "model/error.hpp"

namespace trainfare::kernels {

namespace {

constexpr std::int64_t block = 128;

std::int64_t blocks(std::int64_t n) { return (n + block - 1) / block; }

std::string in_words(Operand const& x)
{
    static constexpr char const* elements[] = {"f32", "bf16", "e4m3", "i32"};
    static constexpr char const* scalings[] = {"", " vector128", " block128"};
    return fmt::format("{} [{}, {}]{}", elements[static_cast<int>(x.values.element)], x.values.rows, x.values.cols,
                       scalings[static_cast<int>(x.scaling)]);
}

/// A plain number, or a quantised one with the scales that it needs.
bool complete(Operand const& x)
{
    Tensor const &v = x.values, &s = x.scales;
    if (x.scaling == Scaling::none) return v.element == Element::bf16 || v.element == Element::f32;
    bool const vector = x.scaling == Scaling::vector128;
    std::int64_t const rows = vector ? blocks(v.cols) : blocks(v.rows),
                       cols = vector ? v.rows : (blocks(v.cols) + 3) / 4 * 4;
    return v.element == Element::e4m3 && s.element == Element::f32 && v.contiguous() && s.contiguous() &&
           s.rows == rows && s.cols == cols;
}

bool alike(Tensor const& c, Operand const& a, Operand const& b)
{
    return (c.element == Element::bf16 || c.element == Element::f32) && complete(a) && complete(b) &&
           a.values.element == b.values.element;
}

bool in_order(Groups const& groups, bool quantised)
{
    if (groups.count() == 0 || groups.starts.size() != groups.count() + 1 || groups.starts.front() != 0) return false;
    for (std::size_t g = 0; g < groups.count(); ++g) {
        if (groups.rows[g] < 0 || groups.starts[g] + groups.rows[g] > groups.starts[g + 1]) return false;
        if (quantised && groups.starts[g + 1] % block != 0) return false;
    }
    return true;
}

} // namespace

std::string in_words(char const* operation, Tensor const& c, Operand const& a, Operand const& b, Form form)
{
    static constexpr char const* forms[] = {"nt", "nn", "tn"};
    return fmt::format("{} {}: {} = {} x {}", operation, forms[static_cast<int>(form)], in_words(c), in_words(a),
                       in_words(b));
}

ProductSize product_size(Tensor const& c, Operand const& a, Operand const& b, Form form)
{
    bool const a_down = form == Form::tn, b_across = form == Form::nt;
    ProductSize const size{c.rows, c.cols, a_down ? a.values.rows : a.values.cols};
    bool const fit = (a_down ? a.values.cols : a.values.rows) == size.m &&
                     (b_across ? b.values.rows : b.values.cols) == size.n &&
                     (b_across ? b.values.cols : b.values.rows) == size.depth &&
                     (a.scaling == Scaling::none || form == Form::nt) && alike(c, a, b);
    if (!fit) throw InternalError(in_words("gemm", c, a, b, form) + ": these do not fit together");
    return size;
}

ProductSize grouped_size(Tensor const& c, Operand const& a, Operand const& b, Form form, Groups const& groups)
{
    auto const count = static_cast<std::int64_t>(groups.count());
    std::int64_t const rows = groups.padded_rows();
    bool const quantised = a.scaling != Scaling::none;
    bool fit = alike(c, a, b) && in_order(groups, quantised);
    ProductSize size;
    if (form == Form::tn) {
        auto const width = [&](Operand const& x) { return quantised ? x.values.rows : x.values.cols; };
        auto const length = [&](Operand const& x) { return quantised ? x.values.cols : x.values.rows; };
        size = {width(a), width(b), rows};
        fit = fit && length(a) >= rows && length(b) >= rows && c.rows == count * size.m && c.cols == size.n &&
              (!quantised || (a.scaling == Scaling::vector128 && b.scaling == Scaling::vector128));
    } else {
        bool const nt = form == Form::nt;
        size = {rows, c.cols, a.values.cols};
        fit = fit && a.values.rows >= rows && c.rows >= rows && b.values.rows == count * (nt ? size.n : size.depth) &&
              b.values.cols == (nt ? size.depth : size.n) &&
              (!quantised || (nt && a.scaling == Scaling::vector128 && b.scaling == Scaling::block128));
    }
    if (!fit)
        throw InternalError(in_words("grouped_gemm", c, a, b, form) +
                            fmt::format(" with {} groups in {} rows: these do not fit together", count, rows));
    return size;
}

std::vector<GroupRows> padded_groups(Groups const& groups)
{
    std::vector<GroupRows> out;
    for (std::size_t g = 0; g < groups.count(); ++g)
        out.push_back({static_cast<std::int64_t>(g), groups.starts[g], groups.starts[g + 1] - groups.starts[g]});
    return out;
}

} // namespace trainfare::kernels
