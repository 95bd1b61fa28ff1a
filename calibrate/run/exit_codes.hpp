// SPDX-License-Identifier: Apache-2.0
//
// How the program ends; the same numbers as `trainfare`. Scripts rely on these.
#pragma once

namespace trainfare::measure {

constexpr int exit_answered = 0;
constexpr int exit_no = 1; // answered "no": the closure does not close, a collective's check failed
constexpr int exit_usage = 2;
constexpr int exit_bad_input = 3; // also: there is no GPU
constexpr int exit_internal = 5;
constexpr int exit_interrupted = 130;

} // namespace trainfare::measure
