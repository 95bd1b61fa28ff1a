// SPDX-License-Identifier: Apache-2.0
//
// Calibration tables as they are on disk (calibrate/tables/*.csv), each row with its source. Schema: calibrate/tables/README.md.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/cluster.hpp"
#include "model/error.hpp"
#include "model/op.hpp"

namespace trainfare {

enum class Provenance { measured, imported, published, derived, assumed };
std::string_view name(Provenance);

/// A row of sources.csv: every number shown resolves to one of these.
struct Source {
    std::string id;
    Provenance provenance = Provenance::assumed;
    std::string title, url, date, device, note;
};

/// A row of ops.csv: one kernel, timed. Exactly one of rate (matrix products) and bandwidth (memory-bound) is needed.
struct OpRow {
    int source = -1;               // index into Tables::sources
    std::string accelerator;
    OpKind kind = OpKind::gemm;
    std::optional<Pass> pass;      // absent: any
    Precision precision = Precision::bf16;
    long m = 0, n = 0, k = 0;
    int groups = 1;
    long batch = 0, seq = 0;
    int heads = 0, kv_heads = 0, qk_dim = 0, v_dim = 0;
    bool causal = true;
    int comm_sms = 0;              // SMs that something else held meanwhile
    std::optional<int> sm_budget;  // SMs the kernel was confined to, the others idle; such rows price nothing
    double load_cv = 0;            // how uneven the groups were; only even ones (0) price
    FlopRate rate;                 // achieved by a matrix product
    std::optional<Bandwidth> bandwidth; // achieved by a memory-bound operation
    std::optional<Bytes> bytes;    // that a memory-bound operation moved, counted as model/ops does
    std::optional<Seconds> time;
    bool measured = false;         // its source is measured or imported: it goes before published rows
    SourcePlace place;
};

/// A row of coll.csv: one collective, timed.
struct CollRow {
    int source = -1;
    std::string accelerator, operation, bw_kind, network, dtype; // operation: all_reduce, all_to_all, ep_dispatch ...
    std::optional<int> ranks, nodes, sms;
    std::optional<Bytes> message;
    std::optional<long> tokens, hidden, top_k;
    std::optional<Bandwidth> bandwidth;
    std::optional<Seconds> time;
    SourcePlace place;
};

/// A row of rates.csv: what a class of operations reaches, where no row of ops.csv fits.
struct RateRow {
    int source = -1;
    std::string accelerator;       // or "*"
    std::string precision;         // or "*"
    std::string quantity;          // OpKind name with pass ("gemm", "gemm.wgrad", "cast") or a named factor ("contention.matrix")
    double value = 0;              // share of peak FLOP/s or of HBM bandwidth; unit column says which
    std::string unit;              // "peak", "hbm", "factor", "s"
    double spread = 0;             // relative half-width of a 90 % interval
    SourcePlace place;
};

/// A row of fit.csv (calibrate/fit.hpp): 90th percentile of the relative error when a kernel is predicted from others.
struct FitRow {
    std::string accelerator;
    OpKind kind = OpKind::gemm;
    std::optional<Pass> pass;
    Precision precision = Precision::bf16;
    std::optional<double> size_p90;  // from other sizes of the same shape
    std::optional<double> shape_p90; // from other shapes
};

struct Tables {
    std::string folder;
    std::vector<Source> sources;
    std::vector<OpRow> ops;
    std::vector<CollRow> collectives;
    std::vector<RateRow> rates;
    std::vector<FitRow> fits;
    std::map<std::string, Accelerator> accelerators;

    [[nodiscard]] Accelerator const& accelerator(std::string const& key) const; // @throws InputError listing near ones
    /// Most specific row: (accelerator, precision), (accelerator, *), (*, precision), (*, *).
    [[nodiscard]] RateRow const* rate(std::string const& accelerator, Precision, std::string_view quantity) const;
};

/// Reads every table of a folder, and the measurements in its subfolders measured/NAME and in the @p measured folders: ops.csv,
/// coll.csv and sources.csv as trainfare-calibrate writes them, any of which may be missing there.
/// @throws InputError with file and line.
Tables load_tables(std::string const& folder, std::vector<std::string> const& measured = {});

/// Folder of the shipped tables: $TRAINFARE_TABLES, else beside the installed program, else the source tree.
std::string default_tables_folder();

} // namespace trainfare
