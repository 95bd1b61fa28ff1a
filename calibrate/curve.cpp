// SPDX-License-Identifier: Apache-2.0
#include "calibrate/curve.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace trainfare {

Curve make_curve(std::vector<OpRow const*> rows, std::function<double(OpRow const&)> const& x,
                 std::function<double(OpRow const&)> const& rate)
{
    std::sort(rows.begin(), rows.end(), [&](OpRow const* a, OpRow const* b) {
        return x(*a) != x(*b) ? x(*a) < x(*b) : a->place.line < b->place.line;
    });
    Curve points;
    for (std::size_t i = 0; i < rows.size();) {
        std::size_t j = i;
        double sum = 0, low = std::numeric_limits<double>::infinity(), high = 0;
        for (; j < rows.size() && x(*rows[j]) == x(*rows[i]); ++j) {
            double const value = rate(*rows[j]);
            sum += std::log(value), low = std::min(low, value), high = std::max(high, value);
        }
        auto const n = static_cast<double>(j - i);
        points.push_back(
            {std::log(x(*rows[i])), sum / n, std::max(0.05, (high - low) / (high + low)), rows[j - 1]});
        i = j;
    }
    return points;
}

Curve product_curve(std::vector<OpRow const*> rows)
{
    return make_curve(
        std::move(rows), [](OpRow const& row) { return static_cast<double>(row.m); },
        [](OpRow const& row) { return row.rate.value(); });
}

Curve memory_curve(std::vector<OpRow const*> rows)
{
    return make_curve(
        std::move(rows), [](OpRow const& row) { return row.bytes->value(); },
        [](OpRow const& row) { return row.bandwidth->value(); });
}

CurveValue read(Curve const& points, double size)
{
    double const x = std::log(size);
    auto const at = [](CurvePoint const& p, Quality q) {
        return CurveValue{std::exp(p.log_rate), p.spread, q, p.row};
    };
    for (auto const& p : points)
        if (std::abs(p.log_x - x) < std::log(1.02)) return at(p, Quality::exact);
    if (x < points.front().log_x) return at(points.front(), Quality::extrapolated);
    if (x > points.back().log_x)
        return at(points.back(),
                  x < points.back().log_x + std::log(2.0) ? Quality::interpolated : Quality::extrapolated);
    std::size_t i = 1;
    while (points[i].log_x < x) ++i;
    auto const& a = points[i - 1];
    auto const& b = points[i];
    double const t = (x - a.log_x) / (b.log_x - a.log_x);
    return {std::exp(a.log_rate + t * (b.log_rate - a.log_rate)), std::max(a.spread, b.spread), Quality::interpolated,
            t < 0.5 ? a.row : b.row};
}

std::vector<OpRow const*> prefer_measured(std::vector<OpRow const*> rows)
{
    if (std::any_of(rows.begin(), rows.end(), [](OpRow const* row) { return row->measured; }))
        std::erase_if(rows, [](OpRow const* row) { return !row->measured; });
    return rows;
}

} // namespace trainfare
