// SPDX-License-Identifier: Apache-2.0
//
// The sweep: which points, who of the ranks does what, and how the ranks come about.
#include "calibrate/run/collectives.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "calibrate/csv.hpp"
#include "calibrate/run/collective_case.hpp"
#include "calibrate/run/collective_rows.hpp"
#include "calibrate/run/launcher.hpp"
#include "kernels/comm/communicator.hpp"
#include "model/error.hpp"

namespace trainfare {

using kernels::Backend;
using kernels::Element;

namespace {

constexpr double most_bytes = 16.0 * (1LL << 30); // rows of 16 bytes are counted in 32 bits
constexpr std::string_view functional = "functional only";

void check(CollectiveOptions const& options)
{
    using Communicator = CollectiveOptions::Communicator;
    auto const require = [](bool right, std::string const& message) {
        if (!right) throw InputError(message);
    };
    bool const threads = options.communicator == Communicator::threads;
    require(!threads || (options.ranks >= 1 && options.ranks <= 64),
            fmt::format("--ranks {} is not between 1 and 64 (each rank is a thread here); correct it", options.ranks));
    require(options.local >= 0 && options.local <= 1024,
            fmt::format("--local {} is not between 1 and 1024 processes; correct it", options.local));
    require(!threads || options.local == 0,
            "--local starts processes with a GPU each (threads needs none); leave it out "
            "and use --ranks");
    require(!options.shared_gpu || options.local > 0,
            "--shared-gpu sets up the processes that it starts; say how many with --local");
    auto const max = options.max_bytes.value_or(options.min_bytes);
    require(options.min_bytes >= 1 && options.min_bytes <= max && max <= most_bytes,
            "message sizes must satisfy 1 B <= --min <= --max <= 16 GiB; correct them");
    require(options.factor >= 1.01 && options.factor <= 1e6, "--factor must be between 1.01 and 1e6; 2 is usual");
    require(options.dtype == "bf16" || options.dtype == "fp32",
            fmt::format("--dtype {} is unknown; use bf16 or fp32", printable(options.dtype)));
    require(options.warm_up >= 0 && options.warm_up <= 10'000 && options.repeats >= 1 && options.repeats <= 100'000,
            "--warm-up must be at most 10000 and --repeats between 1 and 100000; correct them");
    require(options.load_cv >= 0 && options.load_cv <= 10, "--load-cv must be between 0 and 10; 0.5 is usual");
    require(options.max_sms >= 0 && options.max_sms <= 64,
            "--sms must be between 0 (NCCL's choice) and 64; correct it");
    require(options.timeout_s > 0 && options.timeout_s <= 86'400,
            "--timeout must be between 0 and 86400 s; correct it");
    require(!options.source_id.empty(), "--source must not be empty (every row names its source)");
    for (auto const& text : {options.source_id, options.accelerator, options.network})
        require(std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < ' '; }),
                fmt::format("{} holds control characters (it becomes a field of a table); leave them out",
                            printable(text)));
    auto const& known = collective_operations();
    for (auto const& name : options.operations)
        require(std::find(known.begin(), known.end(), name) != known.end(),
                fmt::format("collective {} is unknown; use {}", printable(name), fmt::join(known, ", ")));
}

/// Cases of the sweep, small messages first. Sizes are rounded down to whole rows for each rank, as nccl-tests does.
std::vector<CollectiveCase> cases_of(CollectiveOptions const& options, int ranks)
{
    auto const element = options.dtype == "bf16" ? Element::bf16 : Element::f32;
    auto const row_bytes = static_cast<double>(collective_row * (element == Element::bf16 ? 2 : 4));
    auto const usual = options.communicator == CollectiveOptions::Communicator::nccl ? 1 << 30 : 1 << 22;
    auto const max = std::max(options.max_bytes.value_or(usual), options.min_bytes);
    auto const& operations = options.operations.empty() ? collective_operations() : options.operations;
    std::vector<CollectiveCase> out;
    std::int64_t last = 0;
    for (double bytes = options.min_bytes; bytes <= max * (1 + 1e-9); bytes *= options.factor) {
        auto const rows = std::max<std::int64_t>(static_cast<std::int64_t>(bytes / row_bytes) / ranks, 1) * ranks;
        if (rows == last) continue;
        last = rows;
        for (auto const& operation : operations)
            if (operation != "p2p" || ranks > 1) out.push_back({operation, element, rows, {}});
    }
    return out;
}

/// What rank 0 knows, on every rank.
std::vector<std::int32_t> from_rank_0(Backend& on, kernels::Communicator& group,
                                      std::vector<std::int32_t> const& values)
{
    if (values.empty()) return {};
    auto const t = on.make(Element::i32, 1, std::ssize(values));
    on.upload(t, values);
    group.broadcast(t, 0);
    return on.download_ints(t);
}

/// Machines: each has one rank that is the first there.
int count_nodes(Backend& on, kernels::Communicator& group, int local_rank)
{
    auto const first = on.make(Element::i32, 1, 1);
    on.upload(first, std::array{std::int32_t{local_rank == 0 ? 1 : 0}});
    group.all_reduce(first);
    return std::max(1, on.download_ints(first).at(0));
}

/// Linear between the two nearest of sorted numbers.
double quantile(std::vector<double> const& sorted, double share)
{
    double const place = share * static_cast<double>(sorted.size() - 1);
    auto const below = static_cast<std::size_t>(place);
    auto const above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

class Progress {
public:
    Progress(CollectiveOptions const& options, std::ostream& out, std::vector<CollectiveCase> const& cases)
        : shown_{options.terminal && !options.quiet}, out_{out}, total_{cases.size()}
    {
        for (auto const& what : cases) left_ += weight(what);
    }
    ~Progress()
    {
        if (shown_ && done_ > 0) out_ << '\n' << std::flush;
    }
    Progress(Progress const&) = delete;
    Progress& operator=(Progress const&) = delete;

    void skipped(CollectiveCase const& what)
    {
        left_ -= weight(what);
        ++done_;
    }
    void finished(CollectiveCase const& what, CollectiveRow const& row)
    {
        left_ -= weight(what), spent_ += weight(what);
        ++done_;
        if (!shown_) return;
        std::chrono::duration<double> const elapsed = std::chrono::steady_clock::now() - begin_;
        out_ << fmt::format("\r[{}/{}] {} {} B: {:.4g} us{}; about {:.0f} s left\x1b[K", done_, total_, row.operation,
                            row.bytes, row.median_us, row.bus_gbps ? fmt::format(", {:.4g} GB/s", *row.bus_gbps) : "",
                            elapsed.count() * std::max(left_, 0.0) / spent_)
             << std::flush;
    }

private:
    /// Time of a case, in units of a small one's: 2 MB more rows cost about as much again.
    static double weight(CollectiveCase const& what) { return 1 + static_cast<double>(what.rows) / (1 << 17); }

    bool shown_;
    std::ostream& out_;
    std::size_t total_, done_ = 0;
    double left_ = 0, spent_ = 0;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// What is known of a case before it is run.
CollectiveRow row_of(CollectiveOptions const& options, CollectiveCase const& what, int ranks, int nodes)
{
    bool const threads = options.communicator == CollectiveOptions::Communicator::threads;
    CollectiveRow row;
    row.source_id = options.source_id;
    row.accelerator = threads ? "cpu" : options.accelerator;
    row.operation = what.operation;
    row.ranks = ranks, row.nodes = nodes;
    row.network = options.network;
    row.bytes = what.rows * collective_row * (what.element == Element::bf16 ? 2 : 4);
    row.dtype = options.dtype;
    row.sms = options.max_sms;
    row.transport = threads ? "threads" : options.shared_gpu ? "nccl-shared-gpu" : "nccl";
    row.nccl_version = threads ? "" : kernels::nccl_version();
    row.in_place = what.in_place();
    row.repeats = options.repeats;
    row.status = "ok";
    if (threads) row.notes = functional;
    if (options.shared_gpu) row.notes = fmt::format("{}, several ranks on one GPU", functional);
    if (what.operation == "all_to_all_v") {
        row.load_cv = options.load_cv;
        row.seed = options.seed;
        row.notes += row.notes.empty() ? "uneven loads" : "; uneven loads";
    }
    if (!row.notes.empty()) row.status = "skipped"; // kept for reading; prices nothing
    return row;
}

void fill_in(CollectiveRow& row, CollectiveTimes times)
{
    std::sort(times.seconds.begin(), times.seconds.end());
    auto const microseconds = [&](double share) { return quantile(times.seconds, share) * 1e6; };
    row.median_us = microseconds(0.5), row.p10_us = microseconds(0.1), row.p90_us = microseconds(0.9);
    if (auto const factor = bus_factor(row.operation, row.ranks); factor && row.median_us > 0)
        row.bus_gbps = static_cast<double>(row.bytes) / (row.median_us * 1e-6) * *factor / 1e9;
    if (times.wrong == 0) return;
    row.status = "failed_check";
    row.notes += fmt::format("{}{} wrong elements", row.notes.empty() ? "" : "; ", times.wrong);
}

/// What one rank does. @p rows is rank 0's file.
int sweep(CollectiveOptions const& options, Backend& on, kernels::Communicator& group, int local_rank,
          CollectiveRows* rows, std::ostream& progress)
{
    int const nodes = count_nodes(on, group, local_rank);
    auto cases = cases_of(options, group.size());
    enum : std::int32_t { to_do, done, failed };
    std::vector<std::int32_t> states(cases.size(), to_do);
    if (rows != nullptr)
        for (std::size_t i = 0; i < cases.size(); ++i)
            if (auto const status = rows->status(row_of(options, cases[i], group.size(), nodes)))
                states[i] = *status == "failed_check" ? failed : done;
    states = from_rank_0(on, group, states);

    Progress shown{options, progress, rows != nullptr ? cases : std::vector<CollectiveCase>{}};
    bool right = true;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        auto& what = cases[i];
        right = right && states[i] != failed;
        if (states[i] != to_do) {
            shown.skipped(what);
            continue;
        }
        if (what.operation == "all_to_all_v") { // the logarithms of two machines may differ in the last digit
            auto const mine = uneven_rows(what.rows, group.size(), options.load_cv, options.seed);
            auto const agreed = from_rank_0(on, group, {mine.begin(), mine.end()});
            what.rows_to.assign(agreed.begin(), agreed.end());
        }
        auto times = time_collective(on, group, what, options.warm_up, options.repeats);
        right = right && times.wrong == 0;
        if (rows == nullptr) continue;
        auto row = row_of(options, what, group.size(), nodes);
        fill_in(row, std::move(times));
        rows->append(row);
        shown.finished(what, row);
    }
    return right ? 0 : 1;
}

int run_threads(CollectiveOptions const& options, std::ostream& progress)
{
    CollectiveRows rows{options.out};
    std::vector<int> codes(static_cast<std::size_t>(options.ranks));
    kernels::run_ranks(
        options.ranks, [] { return kernels::make_host_backend(false); },
        [&](Backend& on, kernels::Communicator& group) {
            int const rank = group.rank();
            codes[static_cast<std::size_t>(rank)] =
                sweep(options, on, group, rank, rank == 0 ? &rows : nullptr, progress);
        });
    return codes.front();
}

/// With srun --gpus-per-task=1 each process sees one GPU, which is number 0 for it, and else all of the machine.
std::unique_ptr<Backend> own_gpu(int local_rank)
{
    if (local_rank == 0) return kernels::make_cuda_backend(0);
    try {
        return kernels::make_cuda_backend(local_rank);
    } catch (InputError const&) {
        return kernels::make_cuda_backend(0); // if others are on it too, NCCL says so
    }
}

/// This process is one rank.
int run_nccl_rank(CollectiveOptions const& options, std::ostream& progress)
{
    auto rendezvous = kernels::rendezvous_from_environment();
    rendezvous.file = options.rendezvous_file;
    rendezvous.timeout_s = options.timeout_s;
    if (std::string why; !kernels::nccl_available(&why))
        throw InputError(fmt::format("nccl cannot run here: {}; use --communicator threads to exercise the code", why));
    std::optional<CollectiveRows> rows; // before the ranks meet: a file that cannot be used must not leave them waiting
    if (rendezvous.rank == 0) rows.emplace(options.out);
    auto const backend = own_gpu(options.shared_gpu ? 0 : rendezvous.local_rank);
    auto const group = kernels::make_nccl_communicator(*backend, rendezvous, options.max_sms);
    return sweep(options, *backend, *group, rendezvous.local_rank, rows ? &*rows : nullptr, progress);
}

int run_local(CollectiveOptions const& options, std::ostream& progress)
{
    constexpr double runs_per_timeout = 10;
    LocalLaunch launch{options.local, options.shared_gpu, 0};
    if (options.shared_gpu) launch.limit_s = runs_per_timeout * options.timeout_s;
    return launch_local(launch, [&](int) { return run_nccl_rank(options, progress); });
}

} // namespace

std::vector<std::string> const& collective_operations()
{
    static std::vector<std::string> const names{"all_reduce", "all_gather",   "reduce_scatter",
                                                "all_to_all", "all_to_all_v", "p2p"};
    return names;
}

int run_collectives(CollectiveOptions const& options, std::ostream& progress)
{
    check(options);
    if (options.communicator == CollectiveOptions::Communicator::threads) return run_threads(options, progress);
    return options.local > 0 ? run_local(options, progress) : run_nccl_rank(options, progress);
}

} // namespace trainfare
