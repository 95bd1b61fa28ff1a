// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/subjects.hpp"

#include <algorithm>

#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

using namespace kernels;

namespace {

bool moves_rows(std::string const& method)
{
    return method.starts_with("gather") || method.starts_with("combine") || method.starts_with("embedding");
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
    if (p.method == "attention") return "cudnn";
    return "trainfare";
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
    Subject s;
    s.tolerance = tolerance_of(p);
    s.impl = library(on, p);
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
