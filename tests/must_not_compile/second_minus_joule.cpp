// SPDX-License-Identifier: Apache-2.0
//
// Time and energy do not subtract.
// expect: no match for .operator-.|(invalid operands to binary expression|no viable overloaded)
#include "model/units.hpp"

using namespace trainfare;

auto difference() { return Seconds{3} - Joules{1}; }
