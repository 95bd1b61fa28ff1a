// SPDX-License-Identifier: Apache-2.0
//
// A group of one: what a collective means when nobody else is there. Lets the step run on one GPU without NCCL.
#include <fmt/format.h>

#include "kernels/comm/checks.hpp"
#include "kernels/comm/communicator.hpp"

namespace trainfare::kernels {

using namespace comm;

namespace {

class SoloCommunicator final : public Communicator {
public:
    explicit SoloCommunicator(Backend& backend) : backend_{backend} {}

    [[nodiscard]] std::string_view name() const override { return "solo"; }
    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int size() const override { return 1; }

    std::unique_ptr<Communicator> split(int color) override
    {
        check_color(color);
        return make_solo_communicator(backend_);
    }

    void all_reduce(Tensor const& t) override
    {
        check_sum("all_reduce", t, {Element::f32, Element::bf16, Element::i32});
    }

    void reduce_scatter(Tensor const& in, Tensor const& out) override
    {
        check_sum("reduce_scatter", in, {Element::f32, Element::bf16});
        check_parts("reduce_scatter", out, in, 1);
        copy(out, in);
    }

    void all_gather(Tensor const& in, Tensor const& out) override
    {
        check_parts("all_gather", in, out, 1);
        copy(out, in);
    }

    void all_to_all_v(Tensor const& in, std::vector<std::int64_t> const& send_rows, Tensor const& out,
                      std::vector<std::int64_t> const& receive_rows) override
    {
        check_all_to_all_v(in, send_rows, out, receive_rows, 1);
        if (send_rows[0] != receive_rows[0])
            fail("all_to_all_v",
                 fmt::format("rank 0 sends {} rows to rank 0, which expects {}", send_rows[0], receive_rows[0]));
        copy(out.row_range(0, receive_rows[0]), in.row_range(0, send_rows[0]));
    }

    void broadcast(Tensor const& t, int from) override
    {
        check_rank("broadcast", from, 1);
        check_memory("broadcast", t);
    }
    void send(Tensor const&, int to) override { check_peer("send", to, 0, 1); }
    void receive(Tensor const&, int from) override { check_peer("receive", from, 0, 1); }
    void barrier() override { backend_.synchronise(); }

private:
    void copy(Tensor const& to, Tensor const& from)
    {
        if (to.data != from.data && to.size() > 0)
            backend_.copy(to.reshaped(1, to.size()), from.reshaped(1, from.size()));
    }

    Backend& backend_;
};

} // namespace

std::unique_ptr<Communicator> make_solo_communicator(Backend& backend)
{
    return std::make_unique<SoloCommunicator>(backend);
}

} // namespace trainfare::kernels
