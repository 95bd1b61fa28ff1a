// SPDX-License-Identifier: Apache-2.0
//
// A transfer time is bytes over bandwidth, not bytes times bandwidth.
// expect: could not convert .*operator\*|no viable conversion
#include "model/units.hpp"

using namespace trainfare;

Seconds product() { return Bytes{1} * Bandwidth{1}; }
