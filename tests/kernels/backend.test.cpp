// SPDX-License-Identifier: Apache-2.0
//
// What the step relies on in every back-end: memory, transfers, order, graphs. The operations have tests of their own.
#include "kernels/backend.hpp"

#include "model/error.hpp"
#include "tests/kernels/backends.hpp"

using namespace trainfare;
using namespace trainfare::kernels;
using namespace trainfare::kernels::test;

namespace {

Tensor filled(Backend& on, Element element, std::int64_t cols, float value)
{
    auto out = on.make(element, 1, cols);
    on.fill(out, value);
    return out;
}

/// A recording must not be the first to use an operation: its kernels are loaded then.
void warm_up(Backend& on)
{
    auto const x = filled(on, Element::f32, 16, 1), y = filled(on, Element::f32, 16, 1);
    on.add(x, y);
    on.copy(x, y);
}

Values repeated(std::size_t count, double value) { return Values(count, value); }

} // namespace

TEST_CASE("numbers come back as they went, rounded to the element")
{
    on_every_backend([](Backend& on) {
        auto const f32 = tensor(on, Element::f32, 2, 3, {1, -2.5, 0.1F, 3e38, -0.0, 1.00390625});
        CHECK(on.download(f32) == Values{1, -2.5, 0.1F, 3e38F, 0, 1.00390625});
        // 1 + 2^-8 lies in the middle of two bf16 and goes to the even one; 1 + 3 x 2^-8 too.
        auto const bf16 = tensor(on, Element::bf16, 1, 4, {1.00390625, 1.01171875, -448, 1e-3});
        CHECK(on.download(bf16) == Values{1, 1.015625, -448, rounded_to_bf16(1e-3)});
        auto const integers = tensor(on, 1, 3, {-1, 2147483647, -2147483647});
        CHECK(on.download_ints(integers) == std::vector<std::int32_t>{-1, 2147483647, -2147483647});
        CHECK(on.download(integers) == Values{-1, 2147483647, -2147483647});
    });
}

TEST_CASE("bytes come back as they went, so weights can be saved bit by bit")
{
    on_every_backend([](Backend& on) {
        for (auto element : {Element::f32, Element::bf16, Element::e4m3, Element::i32}) {
            auto const t = on.make(element, 3, 5);
            std::vector<std::byte> bytes(15 * t.bytes_each);
            for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37);
            on.upload_bytes(t, bytes);
            CHECK(on.download_bytes(t) == bytes);
        }
    });
}

TEST_CASE("a column range is written and read without touching its neighbours", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        auto const whole = tensor(on, Element::bf16, 3, 4, Values(12, 7));
        put(on, whole.column_range(1, 2), {1, 2, 3, 4, 5, 6});
        CHECK(on.download(whole) == Values{7, 1, 2, 7, 7, 3, 4, 7, 7, 5, 6, 7});
        CHECK(on.download(whole.column_range(2, 2)) == Values{2, 7, 4, 7, 6, 7});
    });
}

TEST_CASE("a tensor without rows is there but has nothing in it")
{
    on_every_backend([](Backend& on) {
        auto const none = on.make(Element::bf16, 0, 7);
        CHECK_FALSE(none.empty());
        CHECK(on.download(none).empty());
        CHECK(on.download_bytes(none).empty());
        CHECK(on.download_ints(on.make(Element::i32, 4, 0)).empty());
        on.upload(none, std::span<float const>{});
    });
}

TEST_CASE("impossible shapes and transfers of the wrong size are refused")
{
    on_every_backend([](Backend& on) {
        CHECK_THROWS_AS(on.make(Element::f32, -1, 4), InternalError);
        auto const t = on.make(Element::f32, 2, 2);
        CHECK_THROWS_AS(on.upload(t, std::vector<float>(3)), InternalError);
        CHECK_THROWS_AS(on.upload_bytes(t, std::vector<std::byte>(15)), InternalError);
        CHECK_THROWS_AS(on.upload(t, std::vector<std::int32_t>(4)), InternalError);
        CHECK_THROWS_AS(on.download_ints(t), InternalError);
    });
}

TEST_CASE("work on other streams is seen after waiting for its event")
{
    on_every_backend([](Backend& on) {
        auto const a = filled(on, Element::f32, 1000, 1), b = filled(on, Element::f32, 1000, 2);
        auto const ready = on.record();
        on.use(Stream::exchange);
        on.wait(ready);
        on.add(a, b);
        auto const added = on.record();
        on.use(Stream::gradients);
        on.wait(added);
        on.add(a, b);
        auto const twice = on.record();
        on.use(Stream::compute);
        on.wait(twice);
        on.add(a, b);
        CHECK(on.download(a) == repeated(1000, 7));
        CHECK(on.seconds(ready, twice) >= 0);
    });
}

TEST_CASE("a graph runs what was recorded, on the same tensors, as often as it is replayed")
{
    on_every_backend([](Backend& on) {
        auto const sum = filled(on, Element::f32, 300, 0), one = filled(on, Element::f32, 300, 1);
        auto const work = [&] {
            auto const middle = on.make(Element::f32, 1, 300); // freed when the recording ends
            on.copy(middle, one);
            on.add(middle, one);
            on.add(sum, middle);
        };
        work(); // warm-up
        auto const graph = on.capture(work);
        CHECK(on.download(sum) == repeated(300, 2)); // recording runs nothing
        graph->replay();
        graph->replay();
        CHECK(on.download(sum) == repeated(300, 6));
        on.fill(one, 10);
        graph->replay();
        CHECK(on.download(sum) == repeated(300, 26));
    });
}

TEST_CASE("a graph spans streams, and events inside it can be timed after a replay", "[sanitize]")
{
    on_every_backend([](Backend& on) {
        auto const a = filled(on, Element::f32, 5000, 1), b = filled(on, Element::f32, 5000, 0);
        auto const c = filled(on, Element::f32, 5000, 0);
        warm_up(on);
        auto const before = on.record();
        Event begin, end;
        auto const work = [&] {
            begin = on.record();
            on.wait(before);
            on.use(Stream::exchange);
            on.wait(begin);
            on.add(b, a); // beside the next
            auto const exchanged = on.record();
            on.use(Stream::compute);
            on.add(c, a);
            on.wait(exchanged);
            on.add(c, b);
            on.use(Stream::gradients); // waited for by nobody but the end of the graph
            on.wait(exchanged);
            on.add(a, filled(on, Element::f32, 5000, 1));
            on.use(Stream::compute);
            end = on.record();
        };
        auto const graph = on.capture(work);
        graph->replay();
        CHECK(on.download(b) == repeated(5000, 1));
        CHECK(on.download(c) == repeated(5000, 2));
        CHECK(on.seconds(begin, end) >= 0);
        CHECK(on.seconds(begin, end) < 60);
        CHECK(on.download(a) == repeated(5000, 2));
        on.wait(end); // outside the graph this is no error
    });
}

TEST_CASE("a graph's memory is its own: what is made later is not overwritten by a replay")
{
    on_every_backend([](Backend& on) {
        auto const out = filled(on, Element::f32, 4096, 0);
        auto input = filled(on, Element::f32, 4096, 5);
        warm_up(on);
        auto const graph = on.capture([&on, out, input] {
            auto const middle = on.make(Element::f32, 1, 4096);
            on.copy(middle, input);
            on.add(out, middle);
        });
        input = {}; // the graph still has it
        std::vector<Tensor> later;
        for (int i = 0; i < 4; ++i) later.push_back(filled(on, Element::f32, 4096, 100));
        graph->replay();
        CHECK(on.download(out) == repeated(4096, 5));
        for (auto const& t : later) CHECK(on.download(t) == repeated(4096, 100));
    });
}

TEST_CASE("on a GPU the host cannot take part in a graph, and the back-end works on after being told so")
{
    auto const cuda = cuda_or_warning();
    if (!cuda) return;
    auto& on = *cuda;
    auto const t = filled(on, Element::f32, 8, 1);
    warm_up(on);
    CHECK_THROWS_AS(on.capture([&] { on.add(t, t), on.download(t); })->replay(), InternalError);
    CHECK_THROWS_AS(on.capture([&] { on.use(Stream::exchange), on.synchronise(); })->replay(), InternalError);
    CHECK_THROWS_AS(on.capture([&] { on.upload(t, std::vector<float>(8)); })->replay(), InternalError);
    on.use(Stream::compute);
    on.fill(t, 3);
    CHECK(on.download(t) == repeated(8, 3));
    auto const graph = on.capture([&] { on.add(t, t); });
    graph->replay();
    CHECK(on.download(t) == repeated(8, 6));
}

TEST_CASE("fewer SMs give the same numbers")
{
    on_every_backend([](Backend& on) {
        auto const values = numbers(100 * 1000, 3);
        auto const run = [&] {
            auto const t = tensor(on, Element::bf16, 100, 1000, values);
            on.add(t, t);
            return on.download_bytes(t);
        };
        auto const all = run();
        on.limit_sms(1);
        CHECK(run() == all);
        on.limit_sms(0);
        CHECK(run() == all);
    });
}
