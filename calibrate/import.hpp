// SPDX-License-Identifier: Apache-2.0
//
// Network measurements made by others' programs. Host names, process ids, PCI addresses and the environment never get in.
#pragma once

#include <string>
#include <vector>

#include "calibrate/tables.hpp"

namespace trainfare {

struct Imported {
    std::vector<CollRow> rows;
    std::vector<std::string> notes; // rows left out and why (#wrong > 0, unparsable), what was dropped
};

/// nccl-tests output: the text table, or the file of -J. @p accelerator as in hardware.csv; ranks and nodes where the file does not say.
Imported import_nccl_tests(std::string const& path, std::string const& accelerator, int ranks, int nodes);
/// What DeepEP's tests print (V1 "[tuning] Best dispatch ..." and V2 "EP: r/n | dispatch: ...").
Imported import_deepep(std::string const& path, std::string const& accelerator, int ranks, int nodes);

/// coll.csv text of the rows, with the given source id.
std::string to_csv(Imported const&, std::string const& source_id);

} // namespace trainfare
