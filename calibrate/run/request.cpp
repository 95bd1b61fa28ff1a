// SPDX-License-Identifier: Apache-2.0
//
// From options to what is asked for.
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "calibrate/run/commands.hpp"
#include "model/error.hpp"
#include "model/hf_config.hpp"

namespace trainfare::measure {

namespace {

/// $TRAINFARE_SCENARIOS, else ../share/trainfare/scenarios beside the program, else the source tree: as `trainfare`
/// looks.
std::string default_model()
{
    namespace fs = std::filesystem;
    char const* const file = "/models/deepseek-v3.json";
    if (char const* folder = std::getenv("TRAINFARE_SCENARIOS"); folder != nullptr && *folder != '\0')
        return std::string{folder} + file;
    std::error_code error;
    auto const program = fs::read_symlink("/proc/self/exe", error);
    if (!error) {
        auto const installed = (program.parent_path().parent_path() / "share/trainfare/scenarios").string() + file;
        if (fs::exists(installed, error)) return installed;
    }
    return std::string{TRAINFARE_SOURCE_DIR "/scenarios"} + file;
}

/// The largest power of two up to 64 that divides the experts of every layer.
int default_ep(Architecture const& model)
{
    for (int ep = 64; ep > 1; ep /= 2) {
        bool fits = false;
        for (auto const& layer : model.layers)
            if (layer.is_moe()) {
                fits = layer.ffn.experts->count % ep == 0;
                if (!fits) break;
            }
        if (fits) return ep;
    }
    return 1;
}

} // namespace

Request request_of(Options const& o)
{
    Request r;
    r.model = read_hf_config(o.model.empty() ? default_model() : o.model);
    r.ep = o.ep > 0 ? o.ep : default_ep(r.model);
    r.tp = o.tp, r.seq = o.seq, r.micro_batch = o.micro_batch;
    if (!o.precisions.empty()) r.precisions.clear();
    for (auto const& p : o.precisions) r.precisions.push_back(*precision_from(p));
    for (auto const& g : o.groups) r.groups.insert(*group_from(g == "gemm" ? "dense" : g));
    r.sizes = o.host ? host_sizes() : o.quick ? quick_sizes() : full_sizes();
    if (r.sizes.subset_tokens % r.tp != 0)
        throw InputError(
            fmt::format("--tp {} does not divide {} tokens (each rank works on the same number); try a power of two",
                        r.tp, r.sizes.subset_tokens));
    check(r);
    return r;
}

void choose_precision(Request& r, Options const& o, Accelerator const& gpu)
{
    if (o.quick && o.precisions.empty()) r.precisions = {gpu.fp8 && !o.host ? Precision::fp8_block : Precision::bf16};
}

} // namespace trainfare::measure
