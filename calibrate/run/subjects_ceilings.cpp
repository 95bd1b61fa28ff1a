// SPDX-License-Identifier: Apache-2.0
//
// What the chip reaches at best: memory, the bus to the host, and launches of kernels that do nothing to speak of.
#include "calibrate/run/background.hpp"
#include "calibrate/run/tensors.hpp"

namespace trainfare::measure {

using namespace kernels;

Instance ceiling(Maker& make, Point const& p)
{
    auto& on = make.backend;
    double const bytes = p.op.bytes.value();
    Instance out;
    out.moved = bytes;
    out.check = [] { return 0.0; };
    if (p.method.starts_with("pcie")) {
        out.run = host_transfer(on, bytes, p.method == "pcie_to_device");
        out.timing = Instance::Timing::stream;
        return out;
    }
    if (p.method == "launch_gap" || p.method == "graph_gap") {
        auto const one = make.zeros(Element::f32, 1, 1);
        out.run = [=, &on] {
            for (int i = 0; i < tiny_launches; ++i) on.fill(one, 1);
        };
        out.timing = p.method == "graph_gap" ? Instance::Timing::graph : Instance::Timing::stream;
        return out;
    }
    auto const rows = static_cast<std::int64_t>(bytes / (p.method == "hbm_copy" ? 2 : 1) / 4 / 1024);
    auto const x = make.normal(Element::f32, rows, 1024);
    if (p.method == "hbm_copy") {
        auto const to = make.empty(Element::f32, rows, 1024);
        out.run = [=, &on] { on.copy(to, x); };
        out.check = [=, &on, run = out.run] {
            run();
            Difference d;
            d.add(on.download(to.row_range(rows - 1, 1)), on.download(x.row_range(rows - 1, 1)));
            return d.error();
        };
    } else if (p.method == "hbm_write") {
        out.run = [=, &on] { on.fill(x, 1); };
    } else {
        auto const sum = make.zeros(Element::f32, 1, 1);
        out.run = [=, &on] { on.sum(x, sum, false); };
    }
    out.held = make.held();
    return out;
}

} // namespace trainfare::measure
