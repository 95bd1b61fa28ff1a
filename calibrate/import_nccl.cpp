// SPDX-License-Identifier: Apache-2.0
//
// nccl-tests: the text table and the file of -J. A row becomes its out-of-place time (in-place where that is missing);
// the bus bandwidth is computed from size and time, because the printed one is rounded, and compared with the printed
// one, because a wrong number of ranks shows there.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <set>

#include "calibrate/collectives.hpp"
#include "calibrate/import_text.hpp"
#include "model/json_tree.hpp"

namespace trainfare {

namespace {

struct Program {
    std::string_view binary, operation;
    std::optional<CollectiveOp> factor; // absent: 1
};
constexpr std::array programs{Program{"all_reduce_perf", "all_reduce", CollectiveOp::all_reduce},
                              Program{"all_gather_perf", "all_gather", CollectiveOp::all_gather},
                              Program{"reduce_scatter_perf", "reduce_scatter", CollectiveOp::reduce_scatter},
                              Program{"alltoall_perf", "all_to_all", CollectiveOp::all_to_all},
                              Program{"sendrecv_perf", "p2p", CollectiveOp::send},
                              Program{"broadcast_perf", "broadcast", std::nullopt},
                              Program{"reduce_perf", "reduce", std::nullopt}};

/// The program whose name ends @p word, paths and prefixes aside ("./build/all_reduce_perf").
Program const* program_in(std::string_view word)
{
    for (auto const& program : programs) {
        if (!word.ends_with(program.binary)) continue;
        auto const before = word.size() - program.binary.size();
        if (before == 0 || word[before - 1] == '/') return &program;
    }
    return nullptr;
}

InputError no_program(std::string const& path)
{
    return InputError(
        {path}, "does not name its collective (bus bandwidth depends on it); keep the line \"# Collective test "
                "starting\" or the "
                "command, of all_reduce, all_gather, reduce_scatter, alltoall, sendrecv, broadcast or reduce _perf");
}

/// Names of nccl-tests that are safe to pass on.
std::string dtype_from_nccl(std::string_view text)
{
    constexpr std::array<std::array<std::string_view, 2>, 13> names{{{"float", "fp32"},
                                                                     {"half", "fp16"},
                                                                     {"bfloat16", "bf16"},
                                                                     {"double", "fp64"},
                                                                     {"f8e4m3", "fp8"},
                                                                     {"f8e5m2", "fp8"},
                                                                     {"fp8_e4m3", "fp8"},
                                                                     {"fp8_e5m2", "fp8"},
                                                                     {"int8", "int8"},
                                                                     {"uint8", "uint8"},
                                                                     {"int32", "int32"},
                                                                     {"int64", "int64"},
                                                                     {"uint64", "uint64"}}};
    for (auto const& [theirs, ours] : names)
        if (text == theirs) return std::string{ours};
    return "";
}

struct Timing {
    std::optional<double> us, bus_gbps, wrong;
};

class Importer {
public:
    Importer(Program const& program, std::string accelerator, int ranks, int nodes)
        : program_{program}, accelerator_{std::move(accelerator)}, ranks_{ranks}, nodes_{nodes}
    {
    }

    void row(int line, std::optional<double> size, std::string_view dtype, Timing const& timing)
    {
        if (!size || *size < 0 || *size > 1e15 || !timing.us || !timing.bus_gbps)
            return notes_.add(line, "row left out: a number is missing or makes no sense");
        if (*size == 0) return notes_.add(line, "row left out: message of 0 bytes");
        if (!(*timing.us > 0) || *timing.us > 1e12) return notes_.add(line, "row left out: no positive time");
        if (timing.wrong && *timing.wrong != 0)
            return notes_.add(line, fmt::format("row left out: #wrong is {:g}", *timing.wrong));
        if (!timing.wrong) ++unchecked_;
        CollRow out;
        out.accelerator = accelerator_;
        out.operation = program_.operation;
        out.bw_kind = "bus";
        out.dtype = dtype_from_nccl(dtype);
        out.ranks = ranks_, out.nodes = nodes_;
        out.message = Bytes{*size};
        out.time = Seconds{*timing.us * 1e-6};
        out.bandwidth = *out.message * (program_.factor ? bus_factor(*program_.factor, ranks_) : 1) / *out.time;
        auto const gbps = out.bandwidth->value() / 1e9;
        // printed with two digits after the point, times with two to four in front
        if (std::abs(gbps - *timing.bus_gbps) > 0.011 + 0.02 * gbps) ++off_, worst_ = *timing.bus_gbps / gbps;
        if (ranks_ > 1 || program_.operation == "p2p")
            rows_.push_back(std::move(out));
        else
            notes_.add(line, "row left out: one rank moves nothing");
    }

    void unreadable(int line) { notes_.add(line, "row left out: too few columns"); }
    void note(std::string const& text) { notes_.add(text); }

    Imported take(std::string const& path) &&
    {
        if (off_ > 0 && off_ >= rows_.size())
            throw InputError(
                {path},
                fmt::format(
                    "the printed bus bandwidth is {:.2f} times what {} ranks give (the number of ranks is wrong); "
                    "correct it",
                    worst_, ranks_));
        if (off_ > 0)
            notes_.add(fmt::format("{} rows print a bus bandwidth that does not fit size and time; computed from these",
                                   off_));
        if (unchecked_ > 0) notes_.add(fmt::format("{} rows ran without result checks", unchecked_));
        auto notes = std::move(notes_).take();
        if (rows_.empty())
            throw InputError({path},
                             fmt::format("holds no usable row{}",
                                         notes.empty() ? "; is this the output of nccl-tests?" : ": " + notes.front()));
        return {std::move(rows_), std::move(notes)};
    }

private:
    Program program_;
    std::string accelerator_;
    int ranks_, nodes_;
    std::vector<CollRow> rows_;
    Notes notes_;
    std::size_t off_ = 0, unchecked_ = 0;
    double worst_ = 1;
};

// ---- text

/// Column of the first "time" of the table; the header of a table tells, as columns moved between versions.
constexpr std::size_t usual_time_column = 5;

Imported import_text(std::string const& path, std::string const& log, std::string const& accelerator, int ranks,
                     int nodes)
{
    auto const lines = lines_of(log);
    Program const* program = nullptr;
    long listed = 0;
    std::set<std::string_view> hosts; // counted, never passed on
    for (auto const& line : lines) {
        auto const words = words_of(line.text);
        for (std::size_t i = 0; i < words.size() && program == nullptr; ++i) program = program_in(words[i]);
        if (words.size() > 4 && words[0] == "#" && words[1] == "Rank" &&
            line.text.find(" device ") != std::string_view::npos) {
            ++listed;
            for (std::size_t i = 2; i + 1 < words.size(); ++i)
                if (words[i] == "on") hosts.insert(words[i + 1]);
        }
    }
    if (program == nullptr) throw no_program(path);
    bool const told = listed > 0;
    Importer importer{*program, accelerator, told ? static_cast<int>(listed) : ranks,
                      told && !hosts.empty() ? static_cast<int>(hosts.size()) : nodes};
    if (told) importer.note("the list of devices was counted and dropped");
    auto time = usual_time_column;
    for (auto const& line : lines) {
        auto const words = words_of(line.text);
        if (words.empty()) continue;
        if (words[0].starts_with('#')) {
            if (words.size() > 6 && words[1] == "size")
                for (std::size_t i = 2; i < words.size(); ++i)
                    if (words[i] == "time" || words[i] == "cputime") {
                        time = i - 1; // the # is a word of its own
                        break;
                    }
            continue;
        }
        auto const size = number_from(words[0]);
        if (!size) continue; // a launcher's chatter
        if (words.size() < time + 4 || words.size() < 4) {
            importer.unreadable(line.number);
            continue;
        }
        importer.row(line.number, size, words[2],
                     {number_from(words[time]), number_from(words[time + 2]), number_from(words[time + 3])});
    }
    return std::move(importer).take(path);
}

// ---- JSON

JsonValue const* member(JsonValue const& value, std::string_view key)
{
    auto const* object = value.object();
    if (object == nullptr) return nullptr;
    auto const found = object->find(key);
    return found == object->end() || found->second.is_null() ? nullptr : &found->second;
}

std::optional<double> number(JsonValue const* value)
{
    if (value == nullptr) return {};
    if (auto const* whole = std::get_if<std::int64_t>(&value->data)) return static_cast<double>(*whole);
    if (auto const* real = std::get_if<double>(&value->data)) return *real;
    return {};
}

std::string_view text(JsonValue const* value)
{
    auto const* found = value == nullptr ? nullptr : value->text();
    return found == nullptr ? std::string_view{} : std::string_view{*found};
}

Timing timing_from(JsonValue const& side)
{
    auto const* time = member(side, "time");
    return {number(time != nullptr ? time : member(side, "cpu_time")), number(member(side, "bus_bw")),
            number(member(side, "nwrong"))};
}

Imported import_json(std::string const& path, std::string const& log, std::string const& accelerator, int ranks,
                     int nodes)
{
    auto const root = parse_json(log, path);
    Program const* program = nullptr;
    if (auto const* args = member(root, "args"); args != nullptr && args->list() != nullptr)
        for (auto const& arg : *args->list())
            if (program == nullptr) program = program_in(text(&arg));
    if (program == nullptr) throw no_program(path);
    auto const* results = member(root, "results");
    if (results == nullptr || results->list() == nullptr)
        throw InputError({path}, "has no list \"results\" (the run did not finish?); run it again with -J");
    if (auto const* config = member(root, "config")) {
        std::set<std::string_view> hosts; // counted, never passed on
        long processes = 0;
        if (auto const* devices = member(*config, "devices"); devices != nullptr && devices->list() != nullptr)
            for (auto const& device : *devices->list()) {
                ++processes;
                if (auto const host = text(member(device, "hostname")); !host.empty()) hosts.insert(host);
            }
        // one entry a process, which may drive several GPUs
        auto const threads = count_from(number(member(*config, "nthreads")), 1024).value_or(1);
        auto const gpus = count_from(number(member(*config, "ngpus")), 1024).value_or(1);
        if (processes > 1 || processes * threads * gpus > 1) {
            ranks = static_cast<int>(std::min(processes * threads * gpus, 10'000'000L));
            if (!hosts.empty()) nodes = static_cast<int>(hosts.size());
        }
    }
    Importer importer{*program, accelerator, ranks, nodes};
    importer.note("environment, arguments, host names, process ids and devices were dropped");
    for (auto const& result : *results->list()) {
        auto const* side = member(result, "out_of_place");
        if (side == nullptr) side = member(result, "in_place");
        importer.row(result.line, number(member(result, "size")), text(member(result, "type")),
                     side == nullptr ? Timing{} : timing_from(*side));
    }
    return std::move(importer).take(path);
}

} // namespace

Imported import_nccl_tests(std::string const& path, std::string const& accelerator, int ranks, int nodes)
{
    check_run(accelerator, ranks, nodes);
    auto const log = read_log(path);
    auto const first = log.find_first_not_of(" \t\r\n");
    bool const json = first != std::string::npos && log[first] == '{';
    return json ? import_json(path, log, accelerator, ranks, nodes) : import_text(path, log, accelerator, ranks, nodes);
}

} // namespace trainfare
