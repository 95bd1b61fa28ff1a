// SPDX-License-Identifier: Apache-2.0
//
// GPUs and dollars are not ordered.
// expect: no match for .operator<.|(invalid operands to binary expression|no viable overloaded)
#include "model/units.hpp"

using namespace trainfare;

bool order() { return Gpus{1} < Dollars{2}; }
