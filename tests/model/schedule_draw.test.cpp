// SPDX-License-Identifier: Apache-2.0
//
// Schedules as drawings that a reader can hold beside the papers' figures. Unless said otherwise F = W = 1, B = 2 and a
// pair takes 3; our micro-batches count from 0.
#include "model/error.hpp"
#include "model/schedule.hpp"
#include "tests/catch.hpp"

using namespace trainfare;

namespace {

/// Behind a line break, so that a drawing in a test starts at the left margin.
std::string drawing(ScheduleKind kind, int pp, int vpp, int micro_batches, bool paired = false)
{
    return "\n" + draw(make_schedule(kind, pp, vpp, micro_batches, paired), {});
}

} // namespace

TEST_CASE("GPipe runs every forward, then every backward")
{
    REQUIRE(drawing(ScheduleKind::gpipe, 3, 1, 4) == R"(
F0 F1 F2 F3 .  .  .  .  .  .  B0--- B1--- B2--- B3---
.  F0 F1 F2 F3 .  .  .  B0--- B1--- B2--- B3--- .  .
.  .  F0 F1 F2 F3 B0--- B1--- B2--- B3--- .  .  .  .
)");
}

// PipeDream-flush, arXiv:2104.04473 Figure 4 (top), with 4 devices and 8 micro-batches.
TEST_CASE("1F1B on 4 ranks with 8 micro-batches is the drawing of the Megatron paper")
{
    REQUIRE(drawing(ScheduleKind::one_f_one_b, 4, 1, 8) == R"(
F0 F1 F2 F3 .  .  .  .  .  .  B0--- F4 B1--- F5 B2--- F6 B3--- F7 B4--- .  B5--- .  B6--- .  B7---
.  F0 F1 F2 .  .  .  .  B0--- F3 B1--- F4 B2--- F5 B3--- F6 B4--- F7 B5--- .  B6--- .  B7--- .  .
.  .  F0 F1 .  .  B0--- F2 B1--- F3 B2--- F4 B3--- F5 B4--- F6 B5--- F7 B6--- .  B7--- .  .  .  .
.  .  .  F0 B0--- F1 B1--- F2 B2--- F3 B3--- F4 B4--- F5 B5--- F6 B6--- F7 B7--- .  .  .  .  .  .
)");
}

// arXiv:2104.04473 Figure 4 (bottom), on 2 ranks: rank 0 holds stages 0 and 2 ('), rank 1 stages 1 and 3 (').
TEST_CASE("interleaved 1F1B takes micro-batches through its chunks in groups of pp")
{
    REQUIRE(drawing(ScheduleKind::interleaved, 2, 2, 4) == R"(
F0- F1- F0' F1' F2- .   B0'---- F3- B1'---- F2' B0----- F3' B1----- .   B2'---- .   B3'---- B2----- B3-----
.   F0- F1- F0' B0'---- F1' B1'---- F2- B0----- F3- B1----- F2' B2'---- F3' B3'---- B2----- B3----- .   .
)");
}

// arXiv:2401.10241 Figure 3 (top). Bubble (p-1)(F+B-2W) = 3: 27 columns, 9 fewer idle ones than 1F1B has.
TEST_CASE("ZB-H1 on 4 ranks with 8 micro-batches lets rank r hold back r weight gradients")
{
    REQUIRE(drawing(ScheduleKind::zb_h1, 4, 1, 8) == R"(
F0 F1 F2 F3 .  .  .  I0 W0 F4 I1 W1 F5 I2 W2 F6 I3 W3 F7 I4 W4 I5 W5 I6 W6 I7 W7
.  F0 F1 F2 .  .  I0 F3 I1 W0 F4 I2 W1 F5 I3 W2 F6 I4 W3 F7 I5 W4 I6 W5 I7 W6 W7
.  .  F0 F1 .  I0 F2 I1 F3 I2 W0 F4 I3 W1 F5 I4 W2 F6 I5 W3 F7 I6 W4 I7 W5 W6 W7
.  .  .  F0 I0 F1 I1 F2 I2 F3 I3 W0 F4 I4 W1 F5 I5 W2 F6 I6 W3 F7 I7 W4 W5 W6 W7
)");
}

// A parallelogram: rank r starts r columns late and ends r columns late, and never idles between.
TEST_CASE("ZB-V leaves no gap between a rank's first and last slot")
{
    REQUIRE(drawing(ScheduleKind::zb_v, 2, 1, 4) == R"(
F0- F1- F2- F0' I0' W0' F1' I1' W1' F3- I0- W0- F2' I2' W2' I1- W1- F3' I3' W3' I2- W2- I3- W3- .
.   F0- F0' F1- F1' I0' W0' F2- I0- W0- F2' I1' W1' F3- I1- W1- F3' I2' W2' I2- I3' I3- W2- W3' W3-
)");
}

// The eight steps by hand, rank 0: F0 F1 | F2 F4' | I4' W4' F5' | F3&B5' F6'&B0 | B6' F7'&B1 | B7' I2 | W2 I3 | W3;
// rank 1, a middle rank: none | F0 F4' F1 F5' | none | F2 B4' F6'&B0, F3&B5' F7'&B1 | none | B6' B2 I7' I3 | none |
// W7' W3. Ranks 3 and 2 are their mirror images. Micro-batches 4 to 7 enter at rank 3, on chunk 1 (').
TEST_CASE("DualPipe on 4 ranks with 8 micro-batches is its eight steps, mirrored")
{
    REQUIRE(drawing(ScheduleKind::dualpipe, 4, 1, 8) == R"(
F0- F1- F2- F4' I4' W4' F5' F3&B5'----- .   F6'&B0----- B6'---- .   F7'&B1----- B7'---- I2- W2- I3- W3-
.   F0- F4' F1- F5' F2- B4'---- F6'&B0----- F3&B5'----- F7'&B1----- B6'---- B2----- .   I7' I3- W7' W3-
.   F4' F0- F5' F1- F6' B0----- F2&B4'----- F7'&B1----- F3&B5'----- B2----- B6'---- .   I3- I7' W3- W7'
F4' F5' F6' F0- I0- W0- F1- F7'&B1----- .   F2&B4'----- B2----- .   F3&B5'----- B3----- I6' W6' I7' W7'
)");
}

TEST_CASE("DualPipeV is the first half of DualPipe's ranks, each micro-batch coming back on chunk 1")
{
    REQUIRE(drawing(ScheduleKind::dualpipe_v, 2, 1, 4) == R"(
F0- F1- F2- F0' I0' W0' F1' F3&B1'----- .   F2'&B0----- B2'---- .   F3'&B1----- B3'---- I2- W2- I3- W3-
.   F0- F0' F1- F1' F2- B0'---- F2'&B0----- F3&B1'----- F3'&B1----- B2'---- B2----- .   I3' I3- W3' W3-
)");
}

TEST_CASE("paired 1F1B runs each steady-state forward beside an older micro-batch's backward")
{
    REQUIRE(drawing(ScheduleKind::one_f_one_b, 2, 1, 5, true) == R"(
F0 F1 F2 .  .  F3&B0--- F4&B1--- B2--- .  B3--- B4---
.  F0 F1&B0--- F2&B1--- F3&B2--- F4&B3--- B4--- .  .
)");
}

TEST_CASE("slots too short to see are left out and schedules too long to read are refused")
{
    auto const schedule = make_schedule(ScheduleKind::zb_h1, 1, 1, 2);
    REQUIRE(draw(schedule, {1, 1.125, 0.125, 3}) == "F0 I0 F1 I1\n");
    REQUIRE_THROWS_AS(draw(schedule, {300, 600, 300, 900}), InputError);
    REQUIRE_THROWS_AS(draw(schedule, {1e300, 2e300, 1e300, 3e300}), InputError);
}
