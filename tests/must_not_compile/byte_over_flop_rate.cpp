// SPDX-License-Identifier: Apache-2.0
//
// Bytes over FLOP/s are not seconds.
// expect: could not convert .*operator/|no viable conversion
#include "model/units.hpp"

using namespace trainfare;

Seconds quotient() { return Bytes{1} / FlopRate{1}; }
