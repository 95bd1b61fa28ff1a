// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/subjects.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

bool moves_rows(std::string const& method)
{
    return method.starts_with("gather") || method.starts_with("combine") || method.starts_with("embedding") ||
           method == "sort_rows";
}

/// The first rows again on the host back-end, from the same numbers.
double against_host(Backend& on, RowWise const& here, Point const& p, std::int64_t rows, std::uint64_t seed)
{
    here.run();
    auto const host = make_host_backend(false);
    Maker make{*host, seed};
    auto const there = row_wise(make, p, rows);
    there.run();
    Difference d;
    for (std::size_t i = 0; i < here.outputs.size(); ++i) {
        auto const& expected = there.outputs[i];
        auto const r = expected.tensor.values.rows, c = expected.tensor.values.cols;
        d.add(corner(on, here.outputs[i].tensor, r, c), corner(*host, expected.tensor, r, c));
    }
    return d.error();
}

Instance make_instance(Backend& on, Point const& p, std::uint64_t seed)
{
    Maker make{on, seed};
    if (p.group == Group::ceilings && p.method != "gemm") return ceiling(make, p);
    if (p.method == "gemm") return product(make, p);
    if (p.method == "grouped_gemm") return grouped_product(make, p);
    if (p.method == "attention") return attention(make, p);
    if (p.method.starts_with("gate")) return gating(make, p);
    if (moves_rows(p.method)) return rows_by_rank(make, p);
    auto const whole = row_wise(make, p, p.op.m);
    if (!whole.run) throw Unsupported("no kernel for " + p.method);
    Instance out;
    out.run = whole.run;
    std::int64_t const rows = std::min<std::int64_t>(p.op.m, p.op.n > 30000 ? 16 : 128); // 128: a block of scales
    out.check = [&on, whole, p, rows, seed] { return against_host(on, whole, p, rows, seed); };
    out.moved = whole.moved, out.held = make.held();
    return out;
}

std::string library(Backend const& on, Point const& p)
{
    if (on.name() != "cuda") return "host";
    if (p.method == "gemm") return "cublaslt";
    if (p.method == "attention") return p.variant.empty() ? "cudnn" : "cudnn-" + p.variant;
    if (p.method != "grouped_gemm") return "own";
    if (!p.variant.empty()) return p.variant;
    bool const several = p.op.precision == Precision::fp8_block && p.op.pass != Pass::wgrad; // else a loop
    return several ? std::string{on.grouped_libraries().front()} : "cublaslt";
}

void check_variant(Backend const& on, Point const& p)
{
    if (p.variant.empty() || (p.method == "attention" && on.name() != "cpu")) return;
    auto const known = on.grouped_libraries();
    if (std::find(known.begin(), known.end(), p.variant) == known.end())
        throw Unsupported(p.variant + " is not built into this program");
}

/// Sums over fp8, and groups of rows, go in whole blocks.
std::string padding(Point const& p)
{
    auto const up = [](std::int64_t x, std::int64_t block) { return (x + block - 1) / block * block; };
    bool const fp8 = p.op.precision == Precision::fp8_block;
    if (p.method == "gemm" && fp8 && p.op.k % 128 != 0)
        return fmt::format("k {} padded to {}", p.op.k, up(p.op.k, 128));
    if (p.method != "grouped_gemm") return {};
    auto const rows = p.op.pass == Pass::wgrad ? p.op.k : p.op.m;
    std::int64_t const block = fp8 ? 128 : 16;
    if (p.load_cv > 0) return fmt::format("uneven rows, each expert's padded to a multiple of {}", block);
    return rows % block != 0 ? fmt::format("rows of an expert {} padded to {}", rows, up(rows, block)) : "";
}

/// Of the error relative to the size: bf16 results are rounded to 0.4 %, a sum of products errs less; attention's
/// probabilities are bf16 in between; e4m3 steps are 6 %, and a number that lies on a step may fall either way.
double tolerance_of(Point const& p)
{
    if (p.method == "attention") return 2e-2;
    if (p.method.find("quantise") != std::string::npos) return 2e-2;
    return 1e-2;
}

} // namespace

Subject make_subject(Backend& on, Point const& p, SubjectOptions const& options)
{
    constexpr int most = 64;
    check_variant(on, p);
    Subject s;
    s.tolerance = tolerance_of(p);
    s.impl = library(on, p), s.note = padding(p);
    double held = 0;
    do {
        s.instances.push_back(make_instance(on, p, options.seed + s.instances.size()));
        double const one = s.instances.back().held;
        held += one;
        if (held + one > options.memory_bytes || one == 0) break;
    } while (held < 4 * options.l2_bytes && std::ssize(s.instances) < most);
    return s;
}

} // namespace trainfare::measure
