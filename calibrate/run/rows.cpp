// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/rows.hpp"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include <fmt/format.h>

namespace trainfare::measure {

namespace {

std::optional<double> positive(double x) { return x > 0 ? std::optional{x} : std::nullopt; }

std::string count(std::int64_t n) { return n > 0 ? std::to_string(n) : std::string{}; }

std::string one_line(std::string text)
{
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    return text;
}

/// Two hundredths of a per cent are finer than any clock; the files stay readable.
std::optional<double> rounded(std::optional<double> x)
{
    return x ? std::optional{std::stod(fmt::format("{:.6g}", *x))} : std::nullopt;
}

template <class Enum>
Enum from_name(std::string const& text, Enum last, Enum otherwise)
{
    for (int i = 0; i <= static_cast<int>(last); ++i)
        if (name(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
    return otherwise;
}

Row read_row(CsvTable const& t, std::size_t i)
{
    Row row;
    auto const text = [&](char const* column) { return t.text(i, column).value_or(""); };
    auto const number = [&](char const* column) { return t.number(i, column); };
    auto const integer = [&](char const* column) { return t.integer(i, column).value_or(0); };
    auto& p = row.point;
    auto& op = p.op;
    row.source_id = text("source_id"), row.run_id = text("run_id"), row.accelerator = text("accelerator");
    row.impl = text("impl"), row.status = text("status"), row.note = text("notes");
    auto const group = group_from(text("group"));
    if (!group)
        throw InputError(t.place(i),
                         fmt::format("group {} is unknown (the row was not written by this program); remove the row",
                                     printable(text("group"))));
    p.group = *group, p.method = text("method");
    op.kind = from_name(text("op"), OpKind::dp_all_gather, OpKind::gemm);
    op.pass = from_name(text("pass"), Pass::update, Pass::forward);
    op.precision = precision_from(text("dtype")).value_or(Precision::bf16);
    op.m = integer("m"), op.n = integer("n"), op.k = integer("k"),
    op.groups = static_cast<int>(std::max(1L, integer("groups")));
    op.batch = integer("batch"), op.seq = integer("seq");
    op.heads = static_cast<int>(integer("heads")), op.kv_heads = static_cast<int>(integer("kv_heads"));
    op.qk_dim = static_cast<int>(integer("d_qk")), op.v_dim = static_cast<int>(integer("d_v"));
    op.flops = Flops{number("flops").value_or(0)}, op.bytes = Bytes{number("bytes").value_or(0)};
    p.share = number("share").value_or(1), p.load_cv = number("load_cv").value_or(0);
    p.sm_budget = static_cast<int>(integer("sm_budget")), p.comm_sms = static_cast<int>(integer("comm_sms"));
    p.repeat = p.group == Group::drift ? 1 : 0;
    p.variant = text("variant");
    double const share = p.share > 0 ? p.share : 1;
    row.timing.median = number("t_med_us").value_or(0) / 1e6 / share;
    row.timing.p10 = number("t_p10_us").value_or(0) / 1e6 / share,
    row.timing.p90 = number("t_p90_us").value_or(0) / 1e6 / share;
    row.timing.low = number("t_min_us").value_or(0) / 1e6 / share;
    row.timing.repeats = static_cast<int>(integer("repeats")), row.timing.how = text("how");
    row.moved = number("moved_gbps").value_or(0) * 1e9 * row.timing.median;
    row.bg_gbps = number("bg_gbps"), row.rel_err = number("rel_err");
    row.sample = {number("clk_sm_mhz"), number("power_w"), number("temp_c"), {}};
    return row;
}

} // namespace

std::vector<std::string> const& row_columns()
{
    static std::vector<std::string> const columns{
        "source_id", "accelerator", "op", "pass", "impl", "dtype", "m", "n", "k", "groups", "batch", "seq", "heads",
        "kv_heads", "d_qk", "d_v", "causal", "comm_sms", "tflops", "gbps", "t_med_us", "status", "notes",
        // beyond calibrate/tables/README.md
        "run_id", "group", "method", "name", "point", "bytes", "flops", "share", "moved_gbps", "load_cv", "sm_budget",
        "bg_gbps", "repeats", "t_p10_us", "t_p90_us", "t_min_us", "clk_sm_mhz", "power_w", "temp_c", "throttle_mask",
        "variant", "rel_err", "how"};
    return columns;
}

char const* file_of(Point const& p)
{
    bool const special = p.group == Group::ceilings || p.group > Group::contention || !p.variant.empty();
    return special ? "conditions.csv" : "ops.csv";
}

std::string to_csv_line(Row const& row)
{
    auto const& p = row.point;
    auto const& op = p.op;
    bool const timed = row.timing.median > 0;
    bool const model_op = p.group != Group::ceilings || p.method == "gemm";
    bool const is_op = model_op && p.group != Group::sustained && !p.method.starts_with("step");
    bool const attention = is_op && op.kind == OpKind::attention;
    bool const matrix = op.flops.value() > 0, moves = op.bytes.value() > 0;
    auto const scaled = [&](double seconds) { return timed ? rounded(seconds * p.share * 1e6) : std::nullopt; };
    std::ostringstream out;
    CsvWriter csv{out, row_columns()};
    csv.field(row.source_id).field(row.accelerator);
    csv.field(is_op ? std::string{name(op.kind)} : p.method).field(is_op ? std::string{name(op.pass)} : std::string{});
    csv.field(row.impl).field(std::string{name(op.precision)});
    csv.field(count(op.m)).field(count(op.n)).field(count(op.k)).field(op.groups > 1 ? count(op.groups) : "");
    csv.field(count(op.batch)).field(count(op.seq)).field(count(op.heads)).field(count(op.kv_heads));
    csv.field(count(op.qk_dim)).field(count(op.v_dim)).field(attention ? "true" : "").field(count(p.comm_sms));
    csv.field(timed && matrix ? rounded(row.tflops()) : std::nullopt)
        .field(timed && moves ? rounded(row.gbps()) : std::nullopt);
    csv.field(scaled(row.timing.median)).field(row.status).field(one_line(row.note));
    csv.field(row.run_id).field(std::string{name(p.group)}).field(p.method).field(std::string{op.name}).field(p.key());
    csv.field(positive(op.bytes.value())).field(positive(op.flops.value()));
    csv.field(p.share != 1 ? std::optional{p.share} : std::nullopt);
    csv.field(timed && row.moved > 0 ? rounded(row.moved_gbps()) : std::nullopt)
        .field(positive(p.load_cv))
        .field(count(p.sm_budget));
    csv.field(rounded(row.bg_gbps)).field(count(row.timing.repeats));
    csv.field(scaled(row.timing.p10)).field(scaled(row.timing.p90)).field(scaled(row.timing.low));
    csv.field(row.sample.clk_sm_mhz).field(rounded(row.sample.power_w)).field(row.sample.temp_c);
    csv.field(row.sample.throttle_mask ? fmt::format("{:#x}", *row.sample.throttle_mask) : std::string{});
    csv.field(p.variant).field(rounded(row.rel_err)).field(row.timing.how);
    csv.end_row();
    auto const text = out.str();
    return text.substr(text.find('\n') + 1); // without the header
}

std::vector<Row> read_rows(std::string const& folder)
{
    std::vector<Row> rows;
    for (char const* file : {"ops.csv", "conditions.csv"}) {
        if (!std::filesystem::exists(folder + "/" + file)) continue;
        auto const table = read_csv(folder + "/" + file, row_columns());
        for (std::size_t i = 0; i < table.rows(); ++i) rows.push_back(read_row(table, i));
    }
    return rows;
}

void add_measured(Tables& tables, std::string const& folder)
{
    std::map<std::string, int> sources;
    auto const described = read_csv(folder + "/sources.csv", {"source_id", "title"});
    for (std::size_t i = 0; i < described.rows(); ++i) {
        sources[described.need_text(i, "source_id")] = static_cast<int>(tables.sources.size());
        Source s;
        s.id = described.need_text(i, "source_id"), s.title = described.need_text(i, "title");
        s.provenance = Provenance::measured, s.date = described.text(i, "date").value_or("");
        tables.sources.push_back(s);
    }
    int line = 1;
    for (auto const& row : read_rows(folder)) {
        ++line;
        if (row.status != "ok" || !row.point.plain() || row.timing.median <= 0) continue;
        auto const& op = row.point.op;
        OpRow out;
        out.source = sources.contains(row.source_id) ? sources.at(row.source_id) : -1;
        out.accelerator = row.accelerator, out.kind = op.kind, out.pass = op.pass, out.precision = op.precision;
        out.m = op.m, out.n = op.n, out.k = op.k, out.groups = op.groups, out.batch = op.batch, out.seq = op.seq;
        out.heads = op.heads, out.kv_heads = op.kv_heads, out.qk_dim = op.qk_dim, out.v_dim = op.v_dim;
        if (op.flops.value() > 0) out.rate = FlopRate{row.tflops() * 1e12};
        if (op.bytes.value() > 0) out.bandwidth = Bandwidth{row.gbps() * 1e9}, out.bytes = op.bytes;
        out.measured = true;
        out.time = Seconds{row.seconds()};
        out.place = {folder + "/ops.csv", line, 0};
        tables.ops.push_back(out);
    }
}

} // namespace trainfare::measure
