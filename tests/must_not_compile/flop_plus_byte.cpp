// SPDX-License-Identifier: Apache-2.0
//
// Work and data do not add up.
// expect: no match for .operator\+.|(invalid operands to binary expression|no viable overloaded)
#include "model/units.hpp"

using namespace trainfare;

auto sum() { return Flops{1} + Bytes{2}; }
