// SPDX-License-Identifier: Apache-2.0
//
// Activations of a block under any recomputation, not only the plan's: the backward pass of a recomputed block needs,
// for a moment, what was not kept.
#pragma once

#include "model/memory.hpp"

namespace trainfare {

/// As activation_bytes(), with @p recompute in the place of plan.recompute.
Bytes activation_bytes(Architecture const&, Plan const&, Recompute const& recompute, Block);

} // namespace trainfare
