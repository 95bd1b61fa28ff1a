// SPDX-License-Identifier: Apache-2.0
//
// A price per GPU and second times seconds is dollars per GPU, not dollars.
// expect: could not convert .*operator\*|no viable conversion
#include "model/units.hpp"

using namespace trainfare;

Dollars cost() { return Seconds{1} * GpuPrice{1}; }
