// SPDX-License-Identifier: Apache-2.0
//
// How the program ends. Scripts rely on these.
#pragma once

namespace trainfare {

constexpr int exit_answered = 0;
constexpr int exit_no = 1; // answered "no": it does not fit
constexpr int exit_usage = 2;
constexpr int exit_bad_input = 3;
constexpr int exit_uncalibrated = 4; // under --strict
constexpr int exit_internal = 5;
constexpr int exit_interrupted = 130;

} // namespace trainfare
