// SPDX-License-Identifier: Apache-2.0
//
// A plain number is not seconds either, not even one that is added.
// expect: no match for .operator\+=.|(invalid operands to binary expression|no viable overloaded)
#include "model/units.hpp"

using namespace trainfare;

void accumulate(Seconds& total) { total += 1.0; }
