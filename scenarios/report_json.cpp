// SPDX-License-Identifier: Apache-2.0
//
// A result for programs. Keys end in their unit; an interval is {value, low, high} at the one level stated at the top;
// what is absent is left out. Names and meaning of keys change only with `version`.
#include <nlohmann/json.hpp>

#include "scenarios/report.hpp"
#include "scenarios/report_words.hpp"

namespace trainfare {

namespace {

using Json = nlohmann::ordered_json;

Json interval(Interval const& i) { return {{"value", i.value}, {"low", i.low}, {"high", i.high}}; }

Json scenario(Scenario const& s)
{
    Json keys = Json::array();
    for (auto const& line : s.resolved) keys.push_back({{"key", line.key}, {"value", line.value}, {"from", line.from}});
    return {{"name", s.name},
            {"file", s.file},
            {"includes", s.includes},
            {"keys", keys},
            {"cluster_provenance", s.cluster.provenance},
            {"price_provenance", s.price.provenance},
            {"load_source", s.assumptions.load_source}};
}

Json memory(MemoryReport const& m)
{
    Json stages = Json::array();
    for (auto const& s : m.stages)
        stages.push_back({{"pipeline_rank", s.rank},
                          {"weights", s.weights.value()},
                          {"gradients", s.gradients.value()},
                          {"optimizer", s.optimizer.value()},
                          {"activations", s.activations.value()},
                          {"buffers", s.buffers.value()},
                          {"total", s.total().value()},
                          {"live_micro_batches", s.live_micro_batches}});
    return stages;
}

/// One number for each name of an enumeration.
template <class Enum, class Values>
Json by_name(Values const& values)
{
    Json out = Json::object();
    for (std::size_t i = 0; i < values.size(); ++i) out[std::string(name(static_cast<Enum>(i)))] = values[i];
    return out;
}

Json phases(std::vector<PhaseResult> const& all)
{
    Json out = Json::array();
    for (auto const& p : all) {
        Json one{{"name", p.name}};
        if (p.tokens > 0) one["tokens"] = p.tokens;
        if (p.steps > 0) one["steps"] = p.steps;
        one["gpu_hours"] = interval(p.gpu_hours);
        one["days"] = interval(p.days);
        one["cost_usd"] = interval(p.cost_usd);
        one["how"] = p.how;
        out.push_back(one);
    }
    return out;
}

Json evidence(Result const& r)
{
    Json slopes = Json::array(), spreads = Json::array(), sources = Json::array();
    for (auto const& s : r.slopes)
        slopes.push_back(
            {{"resource", s.resource}, {"change", s.change}, {"step_change", s.step_change}, {"words", s.words}});
    for (auto const& s : r.spreads)
        spreads.push_back(
            {{"name", s.name}, {"spread", s.spread}, {"step_effect", s.step_effect}, {"source", s.source}});
    for (auto const& s : r.sources)
        sources.push_back({{"id", s.id},
                           {"provenance", s.provenance},
                           {"title", s.title},
                           {"date", s.date},
                           {"what", s.what},
                           {"quality", s.quality},
                           {"share_of_compute", s.share_of_compute}});
    Json guessed = Json::array();
    for (auto const& g : r.guessed)
        guessed.push_back(
            {{"op", g.key}, {"shape", g.shape}, {"quality", g.quality}, {"share_of_compute", g.share_of_compute}});
    return {{"slopes", slopes}, {"spreads", spreads}, {"sources", sources}, {"not_timed", guessed}};
}

Json slots(SlotBreakdown const& s)
{
    return {{"forward", s.forward}, {"bubble", s.bubble},         {"backward", s.backward},
            {"weight", s.weight},   {"overlapped", s.overlapped}, {"optimizer", s.optimizer}};
}

Json to_tree(Result const& r)
{
    auto const& p = r.projection;
    std::vector<std::string> warnings = r.scenario.warnings;
    warnings.insert(warnings.end(), r.warnings.begin(), r.warnings.end());
    Json j{
        {"schema", "trainfare/result"}, {"version", 1}, {"trainfare", TRAINFARE_VERSION}, {"level", confidence_level}};
    j["fidelity"] = std::string(name(r.fidelity));
    j["warnings"] = warnings;
    j["fits"] = r.fits;
    j["limited_by"] = r.limited_by;
    j["step_time_s"] = interval(p.step_time_s);
    j["days"] = interval(p.days);
    j["gpu_hours"] = interval(p.gpu_hours);
    if (p.energy_kwh) j["energy_kwh"] = interval(*p.energy_kwh);
    j["cost_usd"] = interval(p.cost_usd);
    j["tokens_per_gpu_s"] = interval(p.tokens_per_gpu_second);
    j["memory_capacity_bytes"] = r.memory.capacity.value();
    j["memory_bytes"] = memory(r.memory);
    j["causes"] = by_name<Cause>(r.causes.mean);
    j["compute_s"] = by_name<OpClass>(r.causes.compute_by_op);
    j["exchange_busy_s"] = r.causes.exchange_busy;
    j["exchange_hidden_s"] = r.causes.exchange_hidden;
    j["slots_s"] = slots(r.causes.slots);
    if (r.pair)
        j["pair"] = {{"layers", r.pair->layers},
                     {"time_s", r.pair->seconds},
                     {"exchange_s", r.pair->exchange_seconds},
                     {"compute_s", by_name<OpClass>(r.pair->by_class)}};
    j["closed_form_step_s"] = r.closed_form_step.value();
    j["closed_form_words"] = r.closed_form_words;
    j["phases"] = phases(p.phases);
    j.update(evidence(r));
    j["parameters"] = {
        {"total", r.parameters.total}, {"active", r.parameters.active}, {"embedding", r.parameters.embedding},
        {"head", r.parameters.head},   {"mtp", r.parameters.mtp},       {"matrix", r.parameters.matrix}};
    j["flops_per_token"] = {{"causal", r.flops.causal},
                            {"causal_mtp", r.flops.causal_mtp},
                            {"noncausal", r.flops.noncausal},
                            {"six_n", r.flops.six_n}};
    j["mfu_causal"] = r.mfu_causal;
    j["topology"] = r.topology;
    j["groups"] = r.groups;
    j["group_classes"] = r.group_classes;
    j["not_in_the_price"] = not_in_the_price();
    j["scenario"] = scenario(r.scenario);
    return j;
}

std::string dump(Json const& j) { return j.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

} // namespace

std::string to_json(Result const& r) { return dump(to_tree(r)); }

std::string memory_to_json(Result const& r)
{
    return dump({{"schema", "trainfare/memory"},
                 {"version", 1},
                 {"trainfare", TRAINFARE_VERSION},
                 {"fits", r.fits},
                 {"memory_capacity_bytes", r.memory.capacity.value()},
                 {"memory_bytes", memory(r.memory)},
                 {"scenario", scenario(r.scenario)}});
}

std::string comparison_to_json(std::vector<Result> const& results)
{
    Json list = Json::array();
    for (auto const& r : results) list.push_back(to_tree(r));
    return dump(
        {{"schema", "trainfare/comparison"}, {"version", 1}, {"trainfare", TRAINFARE_VERSION}, {"results", list}});
}

} // namespace trainfare
