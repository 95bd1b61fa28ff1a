// SPDX-License-Identifier: Apache-2.0
//
// A plain number says nothing about its unit.
// expect: could not convert .*Bytes|no viable conversion
#include "model/units.hpp"

using namespace trainfare;

Bytes implicit() { return 16.0; }
