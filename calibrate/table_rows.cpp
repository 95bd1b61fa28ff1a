// SPDX-License-Identifier: Apache-2.0
#include "calibrate/table_rows.hpp"

namespace trainfare {

Source source_from(Row const& row)
{
    return {row.need_text("source_id"),
            row.known("provenance", enum_from(row.text("provenance"), Provenance::assumed)),
            row.need_text("title"),
            row.text("url_or_file"),
            row.text("date"),
            row.text("measured_device"),
            row.text("note")};
}

std::optional<Accelerator> accelerator_from(Row const& row)
{
    Accelerator gpu;
    gpu.key = row.need_text("accelerator");
    gpu.bf16 = quantity(row.positive("dense_bf16_tflops"), units::TFLOPps);
    gpu.fp8 = quantity(row.positive("dense_fp8_tflops"), units::TFLOPps);
    gpu.fp4 = quantity(row.positive("dense_fp4_tflops"), units::TFLOPps);
    auto const memory = row.positive("hbm_gb");
    auto const bandwidth = row.positive("hbm_tb_per_s");
    if (!memory || !bandwidth) return {};
    gpu.memory = *memory * units::GB;
    gpu.memory_bandwidth = *bandwidth * units::TBps;
    // PCIe-only cards print a scale-up bandwidth of 0: they have none
    if (row.text("scale_up_gb_per_s_per_direction") != "0")
        gpu.scale_up = quantity(row.positive("scale_up_gb_per_s_per_direction"), units::GBps);
    gpu.scale_up_measured = quantity(row.positive("scale_up_measured_gb_per_s"), units::GBps);
    gpu.scale_up_gpus = row.small("scale_up_gpus").value_or(gpu.scale_up ? 8 : 1);
    gpu.nic = quantity(row.positive("nic_gbit_per_gpu"), units::Gbitps);
    gpu.tdp = quantity(row.positive("tdp_w"), units::W);
    gpu.sms = row.small("sm_count");
    if (auto const parent = row.text("restricted_variant_of"); !parent.empty()) gpu.variant_of = parent;
    gpu.source = row.text("source");
    return gpu;
}

OpRow op_from(Row const& row, Names const& names)
{
    OpRow op;
    op.source = names.source(row);
    op.accelerator = row.need_text("accelerator");
    names.check_accelerator(row, op.accelerator);
    op.kind = row.known("op", enum_from(row.text("op"), OpKind::dp_all_gather));
    if (auto const pass = row.text("pass"); !pass.empty()) op.pass = row.known("pass", enum_from(pass, Pass::update));
    op.precision = row.known("dtype", precision_from(row.text("dtype")));
    op.m = row.count("m").value_or(0), op.n = row.count("n").value_or(0), op.k = row.count("k").value_or(0);
    op.groups = row.small("groups").value_or(1);
    op.batch = row.count("batch").value_or(0), op.seq = row.count("seq").value_or(0);
    op.heads = row.small("heads").value_or(0), op.kv_heads = row.small("kv_heads").value_or(op.heads);
    op.qk_dim = row.small("d_qk").value_or(0), op.v_dim = row.small("d_v").value_or(0);
    op.causal = row.boolean("causal").value_or(true);
    op.comm_sms = row.small("comm_sms").value_or(0);
    op.sm_budget = row.small("sm_budget");
    op.load_cv = row.text("load_cv") == "0" ? 0 : row.positive("load_cv").value_or(0);
    op.bytes = quantity(row.positive("bytes"), Bytes{1});
    op.measured = names.measured(op.source);
    op.rate = row.positive("tflops").value_or(0) * units::TFLOPps;
    op.bandwidth = quantity(row.positive("gbps"), units::GBps);
    op.time = quantity(row.positive("t_med_us"), units::us);
    if (is_matrix(op.kind) && !row.positive("tflops"))
        throw InputError(
            row.place(),
            "column tflops is empty (a matrix product is priced by it); fill it in or set a status other than ok");
    if (!is_matrix(op.kind) && !op.bandwidth)
        throw InputError(
            row.place(),
            "column gbps is empty (a memory-bound operation is priced by it); fill it in or set another status");
    op.place = row.place();
    return op;
}

CollRow coll_from(Row const& row, Names const& names)
{
    CollRow coll;
    coll.source = names.source(row);
    coll.accelerator = row.text("accelerator");
    if (!coll.accelerator.empty()) names.check_accelerator(row, coll.accelerator);
    coll.operation = row.one_of("op", {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast",
                                       "reduce", "p2p", "ep_dispatch", "ep_combine", "host_to_device"});
    coll.bw_kind = row.one_of("bw_kind", {"", "alg", "bus", "logical"});
    coll.network = row.text("network");
    coll.dtype = row.text("dtype");
    coll.ranks = row.small("ranks"), coll.nodes = row.small("nodes"), coll.sms = row.small("sms");
    coll.message = quantity(row.positive("bytes"), Bytes{1});
    coll.tokens = row.count("tokens"), coll.hidden = row.count("hidden"), coll.top_k = row.count("top_k");
    coll.bandwidth = quantity(row.positive("bw_gbps"), units::GBps);
    coll.time = quantity(row.positive("time_us"), units::us);
    if (!coll.bandwidth && !coll.time) throw InputError(row.place(), "has neither bw_gbps nor time_us; fill one in");
    if (coll.bandwidth && coll.bw_kind.empty())
        throw InputError(row.place(), "has bw_gbps but no bw_kind (kinds differ by 2x); write alg, bus or logical");
    coll.place = row.place();
    return coll;
}

RateRow rate_from(Row const& row, Names const& names)
{
    RateRow rate;
    rate.source = names.source(row);
    rate.accelerator = row.need_text("accelerator");
    if (rate.accelerator != "*") names.check_accelerator(row, rate.accelerator);
    rate.precision = row.need_text("precision");
    if (rate.precision != "*") static_cast<void>(row.known("precision", precision_from(rate.precision)));
    rate.quantity = row.need_text("quantity");
    auto const value = row.positive("value");
    if (!value) throw InputError(row.place(), "column value is empty; write a number");
    rate.value = *value;
    rate.unit = row.one_of("unit", {"peak", "hbm", "factor", "s"});
    if ((rate.unit == "peak" || rate.unit == "hbm") && rate.value > 1)
        throw InputError(row.place(), fmt::format("value {} is a share of {} and cannot exceed 1; correct it",
                                                  shortest(rate.value), rate.unit));
    rate.spread = row.text("spread") == "0" ? 0 : row.positive("spread").value_or(0);
    if (rate.spread >= 1)
        throw InputError(row.place(), "spread is a relative half-width and must stay below 1; correct it");
    rate.place = row.place();
    return rate;
}

FitRow fit_from(Row const& row, Names const& names)
{
    FitRow fit;
    fit.accelerator = row.need_text("accelerator");
    names.check_accelerator(row, fit.accelerator);
    fit.kind = row.known("op", enum_from(row.text("op"), OpKind::dp_all_gather));
    if (auto const pass = row.text("pass"); !pass.empty()) fit.pass = row.known("pass", enum_from(pass, Pass::update));
    fit.precision = row.known("dtype", precision_from(row.text("dtype")));
    fit.size_p90 = row.positive("size_p90");
    fit.shape_p90 = row.positive("shape_p90");
    return fit;
}

} // namespace trainfare
