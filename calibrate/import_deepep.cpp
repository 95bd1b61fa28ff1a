// SPDX-License-Identifier: Apache-2.0
//
// What the tests of DeepEP print. V1: the best of its tuning, inside a node ("NVL") or across nodes ("RDMA" and "NVL");
// V2: a line per rank, of which the slowest counts, since an exchange ends when its last rank does. Bandwidths are
// logical (README of the tables).
#include <fmt/format.h>

#include <map>

#include "calibrate/import_text.hpp"

namespace trainfare {

namespace {

constexpr double max_gbps = 100'000, max_us = 1e9;

std::optional<double> within(std::optional<double> value, double most)
{
    return value && *value > 0 && *value <= most ? value : std::nullopt;
}

class Importer {
public:
    Importer(std::string accelerator, int ranks, int nodes)
        : accelerator_{std::move(accelerator)}, ranks_{ranks}, nodes_{nodes}
    {
    }

    void line(LogLine const& line)
    {
        configuration(line.text);
        if (line.text.find("[tuning] Best ") != std::string_view::npos)
            best(line);
        else if (line.text.find("EP:") != std::string_view::npos && line.text.find('|') != std::string_view::npos)
            rank(line);
        else if (line.text.find("Testing with") != std::string_view::npos)
            section(line.text);
    }

    Imported take(std::string const& path) &&
    {
        flush();
        auto notes = std::move(notes_).take();
        if (rows_.empty())
            throw InputError(
                {path}, fmt::format("holds no usable line of DeepEP's tests{}",
                                    notes.empty()
                                        ? " (\"[tuning] Best dispatch\", \"EP: r/n | dispatch:\"); name the log of one"
                                        : ": " + notes.front()));
        return {std::move(rows_), std::move(notes)};
    }

private:
    void configuration(std::string_view text)
    {
        auto const read = [&](std::optional<long>& value, std::string_view key, long most) {
            if (auto const found = count_from(number_after(text, key), most)) value = found;
        };
        read(tokens_, "num_tokens=", 10'000'000);
        read(hidden_, "hidden=", 10'000'000);
        read(top_k_, "num_topk=", 10'000);
        read(sms_, "num_sms=", 10'000);
    }

    CollRow row(std::string_view operation, std::string dtype) const
    {
        CollRow out;
        out.accelerator = accelerator_;
        out.operation = operation;
        out.bw_kind = "logical";
        out.dtype = std::move(dtype);
        out.ranks = ranks_, out.nodes = nodes_;
        out.tokens = tokens_, out.hidden = hidden_, out.top_k = top_k_;
        return out;
    }

    /// "[tuning] Best dispatch (FP8): SMs 24, NVL chunk 20, RDMA chunk 16: 55 + 1234 us, 43.24 GB/s (RDMA), 141.14 GB/s
    /// (NVL)"
    void best(LogLine const& line)
    {
        auto const text = line.text;
        bool const dispatch = text.find("Best dispatch") != std::string_view::npos;
        if (!dispatch && text.find("Best combine") == std::string_view::npos) return;
        auto const rdma = within(number_before(text, " GB/s (RDMA)"), max_gbps);
        auto const nvlink = within(
            number_before(text, text.find("GB/s (NVL") != std::string_view::npos ? " GB/s (NVL" : " GB/s"), max_gbps);
        bool const across = nodes_ > 1;
        auto const bandwidth = across ? rdma : nvlink;
        if (!bandwidth)
            return notes_.add(line.number, fmt::format("left out: no {} bandwidth, which a run on {} nodes has",
                                                       across ? "RDMA" : "NVLink", nodes_));
        auto out = row(dispatch ? "ep_dispatch" : "ep_combine",
                       dispatch && text.find("FP8") != std::string_view::npos ? "fp8" : "bf16");
        out.network = across ? "RDMA" : "NVLink";
        out.bandwidth = Bandwidth{*bandwidth * 1e9};
        if (auto const us = within(number_before(text, " us"), max_us)) out.time = Seconds{*us * 1e-6};
        if (auto const sms = count_from(number_after(text, "SMs "), 10'000)) out.sms = static_cast<int>(*sms);
        rows_.push_back(std::move(out));
    }

    void section(std::string_view text)
    {
        flush();
        fp8_ = text.find("use_fp8_dispatch=1") != std::string_view::npos ||
               text.find("use_fp8_dispatch=True") != std::string_view::npos;
    }

    /// "   * EP:   0/16 | dispatch: 35 GB/s (SO), 203 GB/s (SU), 864.688 us, 2 bytes | copy: 1648 GB/s, 26.7 us"
    void rank(LogLine const& line)
    {
        auto const text = line.text;
        std::string_view operation; // expanded, cached and reduced variants are not what training runs
        if (text.find("| dispatch:") != std::string_view::npos)
            operation = "ep_dispatch";
        else if (text.find("| combine:") != std::string_view::npos)
            operation = "ep_combine";
        else
            return;
        auto const slash = text.find('/');
        auto const ranks = slash == std::string_view::npos
                               ? std::nullopt
                               : count_from(number_after(text.substr(slash), "/"), 10'000'000);
        if (!ranks || *ranks != ranks_)
            return notes_.add(line.number, fmt::format("left out: not a line of {} ranks", ranks_));
        auto const gbps = within(number_before(text, nodes_ > 1 ? " GB/s (SO)" : " GB/s (SU)"), max_gbps);
        auto const us = within(number_before(text, " us"), max_us);
        if (!gbps || !us) return notes_.add(line.number, "left out: a number is missing or makes no sense");
        auto out = row(operation, operation == "ep_dispatch" && fp8_ ? "fp8" : "bf16");
        out.network = nodes_ > 1 ? "RDMA" : "NVLink";
        out.bandwidth = Bandwidth{*gbps * 1e9};
        out.time = Seconds{*us * 1e-6};
        if (sms_) out.sms = static_cast<int>(*sms_);
        auto const [slowest, first] = slowest_.try_emplace(std::string{operation}, out);
        if (!first && out.time > slowest->second.time) slowest->second = out;
    }

    /// Ranks of one test are complete.
    void flush()
    {
        for (auto& [operation, out] : slowest_) rows_.push_back(std::move(out));
        slowest_.clear();
    }

    std::string accelerator_;
    int ranks_, nodes_;
    bool fp8_ = false;
    std::optional<long> tokens_, hidden_, top_k_, sms_;
    std::map<std::string, CollRow> slowest_; // by operation
    std::vector<CollRow> rows_;
    Notes notes_;
};

} // namespace

Imported import_deepep(std::string const& path, std::string const& accelerator, int ranks, int nodes)
{
    check_run(accelerator, ranks, nodes);
    auto const log = read_log(path);
    Importer importer{accelerator, ranks, nodes};
    for (auto const& line : lines_of(log)) importer.line(line);
    return std::move(importer).take(path);
}

} // namespace trainfare
