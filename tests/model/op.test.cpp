// SPDX-License-Identifier: Apache-2.0
//
// Names and classes of operations.
#include "model/op.hpp"

#include <set>
#include <string>

#include "tests/catch.hpp"

using namespace trainfare;

namespace {

OpClass class_of_pass(OpKind kind, Pass pass)
{
    Op op;
    op.kind = kind, op.pass = pass;
    return class_of(op);
}

template <class Enum>
std::set<std::string> names(int count)
{
    std::set<std::string> out;
    for (int i = 0; i < count; ++i) out.emplace(name(static_cast<Enum>(i)));
    return out;
}

} // namespace

TEST_CASE("every operation, pass and class has a name of its own")
{
    auto const kinds = static_cast<int>(OpKind::dp_all_gather) + 1;
    CHECK(names<OpKind>(kinds).size() == static_cast<std::size_t>(kinds));
    CHECK(names<Pass>(5).size() == 5);
    auto const classes = static_cast<int>(OpClass::count);
    CHECK(names<OpClass>(classes).size() == static_cast<std::size_t>(classes));
    CHECK_FALSE(names<OpKind>(kinds).contains("?"));
    CHECK_FALSE(names<OpClass>(classes).contains("?"));
    CHECK(name(OpKind::expert_gemm) == "expert_gemm");
    CHECK(name(Pass::wgrad) == "wgrad");
    CHECK(name(OpClass::attention_backward) == "attention_backward");
}

TEST_CASE("every weight gradient is of one class, as in the published layer trace")
{
    for (auto const kind : {OpKind::gemm, OpKind::expert_gemm, OpKind::router, OpKind::head})
        CHECK(class_of_pass(kind, Pass::wgrad) == OpClass::wgrad);
    CHECK(class_of_pass(OpKind::gemm, Pass::dgrad) == OpClass::dense_gemm);
    CHECK(class_of_pass(OpKind::expert_gemm, Pass::recompute) == OpClass::expert_gemm);
    CHECK(class_of_pass(OpKind::router, Pass::forward) == OpClass::router);
    CHECK(class_of_pass(OpKind::head, Pass::dgrad) == OpClass::head);
}

TEST_CASE("attention is classed by direction, recomputation counting as forward")
{
    CHECK(class_of_pass(OpKind::attention, Pass::forward) == OpClass::attention_forward);
    CHECK(class_of_pass(OpKind::attention, Pass::recompute) == OpClass::attention_forward);
    CHECK(class_of_pass(OpKind::attention, Pass::dgrad) == OpClass::attention_backward);
}

TEST_CASE("small operations are elementwise, exchanges tensor parallel or communication")
{
    for (auto const kind : {OpKind::residual, OpKind::gate, OpKind::embedding, OpKind::cross_entropy})
        CHECK(class_of_pass(kind, Pass::forward) == OpClass::elementwise);
    for (auto const kind : {OpKind::tp_collective, OpKind::cp_exchange})
        CHECK(class_of_pass(kind, Pass::forward) == OpClass::tensor_parallel);
    for (auto const kind :
         {OpKind::dispatch, OpKind::combine, OpKind::pp_send, OpKind::dp_reduce_scatter, OpKind::dp_all_gather})
        CHECK(class_of_pass(kind, Pass::forward) == OpClass::communication);
    CHECK(class_of_pass(OpKind::unpermute, Pass::forward) == OpClass::permute);
    CHECK(class_of_pass(OpKind::cast, Pass::wgrad) == OpClass::cast);
    CHECK(class_of_pass(OpKind::optimizer, Pass::update) == OpClass::optimizer);
}
