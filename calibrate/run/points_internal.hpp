// SPDX-License-Identifier: Apache-2.0
//
// Private to points*.cpp: the parts that a plan is put together from.
#pragma once

#include <optional>
#include <vector>

#include "calibrate/run/points.hpp"

namespace trainfare::measure {

/// The block that a list of operations came from.
struct BlockContext {
    Architecture const* model = nullptr;
    Plan const* plan = nullptr;
    Layer const* layer = nullptr; // null: embedding or head
};

/// How operation @p i of @p ops, a list of block_ops(), is measured; absent for communication and for what another
/// operation's kernel does along the way.
std::optional<Point> point_of(std::vector<Op> const& ops, std::size_t i, BlockContext const&);

/// All operations of the model's blocks under @p plan, those of equal layers once.
std::vector<Point> model_points(Architecture const&, Plan const&);

/// A product of @p rows rows (per group) in place of those it has.
Op with_rows(Op, std::int64_t rows);

std::vector<Point> expert_points(Request const&);
std::vector<Point> attention_points(Request const&);
std::vector<Point> optimizer_points(Request const&);
/// Weights to fp8 blocks, once a step: each shape of the model.
std::vector<Point> weight_points(Request const&);
/// Points measured again by another library, or with sums in any order.
std::vector<Point> variant_points(std::vector<Point> const&);
std::vector<Point> ceiling_points(Request const&);
/// A few operations of every kind, at sizes.subset_tokens and the last precision: for sms, contention and sustained.
std::vector<Point> subset(Request const&);
std::vector<Point> condition_points(Request const&);

} // namespace trainfare::measure
