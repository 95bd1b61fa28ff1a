// SPDX-License-Identifier: Apache-2.0
//
// Catch2 v3 where there is one, v2 (Debian 12) otherwise: one spelling for the tests.
#pragma once

#if defined(TRAINFARE_CATCH_V3)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
