// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/step/program.hpp"
#include "tests/catch.hpp"

using namespace trainfare::kernels;

namespace {

/// Work that writes its name down.
struct Diary {
    std::string text;
    [[nodiscard]] std::function<void()> entry(std::string const& name)
    {
        return [this, name] { text += name + " "; };
    }
    [[nodiscard]] Program program(std::string const& number)
    {
        Program p;
        p.compute(entry("a" + number));
        p.compute(entry("b" + number));
        p.exchange(entry("x" + number));
        p.compute(entry("c" + number));
        p.exchange(entry("y" + number));
        p.compute(entry("d" + number));
        p.reduce(entry("r" + number));
        p.compute(entry("e" + number));
        return p;
    }
};

} // namespace

TEST_CASE("two micro-batches take turns at their exchanges", "[step]")
{
    auto const backend = make_host_backend(false);
    Diary diary;
    auto const one = diary.program("1"), two = diary.program("2");
    run_zipped(*backend, {&one, &two});
    CHECK(diary.text == "a1 b1 x1 a2 b2 x2 c1 y1 c2 y2 d1 r1 e1 d2 r2 e2 ");
}

TEST_CASE("alone, or in order, a micro-batch's segments run one after another", "[step]")
{
    auto const backend = make_host_backend(false);
    Diary zipped, ordered;
    auto const one = zipped.program("1"), two = ordered.program("1");
    run_zipped(*backend, {&one});
    run_in_order(*backend, two);
    CHECK(zipped.text == "a1 b1 x1 c1 y1 d1 r1 e1 ");
    CHECK(ordered.text == zipped.text);
}

TEST_CASE("a program that ends with an exchange is waited for", "[step]")
{
    auto const backend = make_host_backend(false);
    Diary diary;
    Program p;
    p.exchange(diary.entry("x"));
    run_zipped(*backend, {&p});
    CHECK(diary.text == "x ");
}
