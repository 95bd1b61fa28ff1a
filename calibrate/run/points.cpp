// SPDX-License-Identifier: Apache-2.0
#include "calibrate/run/points.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <set>

#include <fmt/format.h>

#include "calibrate/run/closure.hpp"
#include "calibrate/run/points_internal.hpp"
#include "model/error.hpp"

namespace trainfare::measure {

namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(Group::count)> group_names{
    "ceilings", "dense", "experts", "attention", "memory", "sms", "contention", "sustained", "closure", "drift"};

/// Fisher-Yates on a generator whose numbers the standard fixes, so that every library shuffles alike.
void shuffle(std::vector<Point>& points, std::uint64_t seed)
{
    std::mt19937_64 random{seed};
    for (std::size_t i = points.size(); i > 1; --i) std::swap(points[i - 1], points[random() % i]);
}

void append(std::vector<Point>& to, std::vector<Point> const& from) { to.insert(to.end(), from.begin(), from.end()); }

std::vector<Point> at_tokens(Request const& r, std::vector<std::int64_t> const& tokens, Group group)
{
    std::vector<Point> out;
    for (auto const precision : r.precisions)
        for (auto const t : tokens)
            for (auto const& p : model_points(r.model, r.plan(precision, t)))
                if (p.group == group) out.push_back(p);
    return out;
}

/// A sample that is spread evenly over the shuffled list.
std::vector<Point> repetitions(std::vector<Point> const& points, double share)
{
    std::vector<Point> plain, out;
    std::copy_if(points.begin(), points.end(), std::back_inserter(plain), [](Point const& p) { return p.plain(); });
    auto const count = static_cast<std::size_t>(share * static_cast<double>(plain.size()));
    for (std::size_t i = 0; i < count; ++i) {
        out.push_back(plain[i * plain.size() / count]);
        out.back().group = Group::drift;
        out.back().repeat = 1;
    }
    return out;
}

} // namespace

std::string_view name(Group g) { return group_names.at(static_cast<std::size_t>(g)); }

std::optional<Group> group_from(std::string_view text)
{
    auto const found = std::find(group_names.begin(), group_names.end(), text);
    if (found == group_names.end()) return {};
    return static_cast<Group>(found - group_names.begin());
}

std::string Point::key() const { return fmt::format("{} {}", name(group), what()); }

std::string Point::what() const
{
    if (group == Group::ceilings && method != "gemm") return method;
    if (group == Group::sustained || method.starts_with("step"))
        return fmt::format("{} {} of {} tokens", method, name(op.precision), op.m);
    std::string text = fmt::format("{} {}.{} {}", method, name(op.kind), name(op.pass), name(op.precision));
    if (op.m > 0) text += fmt::format(" {}x{}x{}", op.m, op.n, op.k);
    if (op.groups > 1) text += fmt::format(" in {} groups", op.groups);
    if (op.heads > 0)
        text += fmt::format(" {}x{} tokens {}/{} heads {}/{}", op.batch, op.seq, op.heads, op.kv_heads, op.qk_dim,
                            op.v_dim);
    if (op.keys > 0 && method == "windowed_attention") text += fmt::format(" {:g} keys", op.keys);
    if (load_cv > 0) text += fmt::format(" cv {:g}", load_cv);
    if (sm_budget > 0) text += fmt::format(" on {} SMs", sm_budget);
    if (comm_sms > 0) text += fmt::format(" beside {} SMs", comm_sms);
    if (!variant.empty()) text += " by " + variant;
    if (repeat > 0) text += " again";
    return text;
}

bool Point::plain() const
{
    return group != Group::ceilings && group < Group::sms && load_cv == 0 && sm_budget == 0 && comm_sms == 0 &&
           variant.empty();
}

bool Request::wants(Group g) const { return groups.empty() || groups.contains(g); }

Plan Request::plan(Precision precision, std::int64_t tokens) const
{
    Plan p;
    p.tp = tp, p.sp = tp > 1;
    p.ep = ep;
    p.dp = std::max(1, ep / tp);
    p.seq_len = static_cast<int>(std::min<std::int64_t>(tokens, seq));
    p.micro_batch = static_cast<int>(std::max<std::int64_t>(1, tokens / p.seq_len));
    p.global_batch = p.dp * p.micro_batch;
    p.precision = precision;
    if (is_quantised(precision)) p.dispatch_dtype = DType::fp8;
    p.mtp_layers = static_cast<int>(model.mtp.size());
    return p;
}

int Request::experts_per_gpu() const
{
    for (auto const& layer : model.layers)
        if (layer.is_moe()) return layer.ffn.experts->count / std::max(1, ep);
    return 0;
}

void check(Request const& r)
{
    if (r.seq < 1 || r.seq > 1 << 20)
        throw InputError("--seq is not between 1 and 1048576 tokens (no GPU holds more); try 4096");
    if (r.micro_batch < 1 || static_cast<std::int64_t>(r.micro_batch) * r.seq > 1 << 20)
        throw InputError("--micro-batch times --seq is not between 1 and 1048576 tokens (no GPU holds more); try 1");
    for (auto const precision : r.precisions) {
        auto plan = r.plan(precision, static_cast<std::int64_t>(r.seq) * r.micro_batch);
        auto const broken = check_plan(plan, r.model, plan.gpus());
        if (!broken.empty())
            throw InputError(
                fmt::format("the model cannot be laid out so: {} (--ep, --tp, --seq, --micro-batch)", broken.front()));
    }
    for (auto const& layer : r.model.layers)
        if (layer.is_moe() && layer.ffn.experts->count % r.ep != 0)
            throw InputError(fmt::format("--ep {} does not divide the {} experts of a layer (each rank holds the same "
                                         "number); try a power of two",
                                         r.ep, layer.ffn.experts->count));
}

namespace {

/// Shuffled, so that drift does not look like a shape.
class Order {
public:
    explicit Order(std::uint64_t seed) : seed_{seed} {}

    /// After all before; what is there already is left out.
    void add(std::vector<Point> points)
    {
        std::erase_if(points, [&](Point const& p) { return !seen_.insert(p.key()).second; });
        shuffle(points, seed_++);
        append(all, points);
    }

    std::vector<Point> all;

private:
    std::uint64_t seed_;
    std::set<std::string> seen_;
};

Point step_point(Request const& r, Precision precision)
{
    Point p;
    p.group = Group::closure, p.method = "step";
    p.op.precision = precision;
    p.op.m = static_cast<std::int64_t>(r.seq) * r.micro_batch, p.op.groups = std::max(1, r.experts_per_gpu());
    return p;
}

/// Sizes beyond those of the step.
std::vector<Point> other_sizes(Request const& r)
{
    auto const divisible = [&](std::vector<std::int64_t> tokens) {
        std::erase_if(tokens, [&](std::int64_t t) { return t % r.tp != 0; });
        return tokens;
    };
    std::vector<Point> points;
    if (r.wants(Group::dense)) append(points, at_tokens(r, divisible(r.sizes.tokens), Group::dense));
    if (r.wants(Group::experts)) append(points, expert_points(r));
    if (r.wants(Group::attention)) append(points, attention_points(r));
    if (r.wants(Group::memory)) append(points, at_tokens(r, divisible(r.sizes.moved_tokens), Group::memory));
    return points;
}

} // namespace

std::vector<Point> make_points(Request const& r)
{
    // What a projection needs most comes first, so that a run which is cut short is still of use.
    auto const own = static_cast<std::int64_t>(r.seq) * r.micro_batch; // what the step itself runs
    Order order{r.seed};
    if (r.wants(Group::ceilings)) order.add(ceiling_points(r));
    for (auto const group : {Group::dense, Group::experts, Group::attention})
        if (r.wants(group)) order.add(at_tokens(r, {own}, group));
    if (r.wants(Group::memory)) {
        auto points = at_tokens(r, {own}, Group::memory);
        append(points, optimizer_points(r));
        append(points, weight_points(r));
        order.add(points);
    }
    if (r.sizes.variants) order.add(variant_points(order.all));
    order.add(other_sizes(r));
    order.add(condition_points(r));
    if (r.wants(Group::closure))
        for (auto const precision : r.precisions) order.add(closure_points(r, precision));
    auto const again = repetitions(order.all, r.sizes.repeat_share);

    auto points = order.all;
    if (r.wants(Group::closure))
        for (auto const precision : r.precisions) points.push_back(step_point(r, precision));
    if (r.wants(Group::sustained) && r.sizes.sustained_s > 0) {
        Point p;
        p.group = Group::sustained, p.method = "mix";
        p.op.precision = r.precisions.back();
        p.op.m = r.sizes.subset_tokens;
        points.push_back(p);
    }
    if (r.wants(Group::drift)) append(points, again);
    return points;
}

std::string plan_hash(std::vector<Point> const& points)
{
    std::vector<std::string> keys;
    for (auto const& p : points) keys.push_back(p.key());
    std::sort(keys.begin(), keys.end());
    std::uint64_t hash = 0xcbf29ce484222325U; // FNV-1a
    for (auto const& key : keys)
        for (char const c : key + "\n") hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    return fmt::format("{:016x}", hash);
}

double seconds_guess(Point const& p, Accelerator const& gpu, double measuring_s, double sustained_s)
{
    if (p.group == Group::sustained) return sustained_s;
    bool const host = gpu.key == "cpu";
    if (p.method == "step") return host ? 0.2 : 15; // making and capturing it, mostly
    double const peak =
        (gemm_dtype(p.op.precision) == DType::fp8 && gpu.fp8 ? gpu.fp8 : gpu.bf16).value_or(FlopRate{1e14}).value();
    double const once = p.op.flops.value() / (0.5 * peak) + p.op.bytes.value() / (0.7 * gpu.memory_bandwidth.value());
    double const library = p.method == "attention" ? 1.0 : 0.0; // cuDNN compiles
    double const set_up = host ? 0.005 : 0.15 + 0.02 + library;
    return set_up + std::max(measuring_s, 5 * once);
}

} // namespace trainfare::measure
