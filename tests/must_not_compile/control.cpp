// SPDX-License-Identifier: Apache-2.0
//
// The same expressions as in the other files, put right: it must compile, or the failures beside it prove nothing.
#include "model/units.hpp"

using namespace trainfare;

Flops sum() { return Flops{1} + Flops{2}; }
Seconds difference() { return Seconds{3} - 1 * units::ms; }
Seconds quotient() { return Flops{1} / FlopRate{1}; }
Bytes product() { return Bandwidth{1} * Seconds{1}; }
bool order() { return Gpus{1} < Gpus{2}; }
Dollars cost() { return GpuTime{1} * GpuPrice{1}; }
Bytes explicit_only() { return Bytes{16.0}; }
void accumulate(Seconds& total) { total += Seconds{1}; }
