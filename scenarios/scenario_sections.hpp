// SPDX-License-Identifier: Apache-2.0
//
// The sections of a scenario, each from its TOML table. Order of the keys here is their order in the resolved scenario.
#pragma once

#include "calibrate/tables.hpp"
#include "scenarios/table_reader.hpp"

namespace trainfare {

Cluster read_cluster(TableReader&, Tables const&, TableReader::Log&);
/// @p gpus of the cluster: gives plan.dp where it is not written.
Plan read_plan(TableReader&, Architecture const&, int gpus);
/// @p tables know the accelerators that published GPU-hours may name.
RunSpec read_run(TableReader&, Tables const&, TableReader::Log&);
PriceRange read_prices(TableReader&);
Assumptions read_assumptions(TableReader&);

// Shared by the sections.
Accelerator read_accelerator(TableReader&, std::string const& key, Tables const&, std::string const& hint);
/// The tables of an array of tables, [[cluster.fault]] or [[run.phase]].
std::vector<Setting> tables_of(TableReader&, std::string const& key);

} // namespace trainfare
