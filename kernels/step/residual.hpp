// SPDX-License-Identifier: Apache-2.0
//
// The residual stream of a micro-batch and the norms that read it. Adding a part's output and the next norm are one
// pass.
#pragma once

#include "kernels/step/context.hpp"
#include "kernels/step/parameters.hpp"

namespace trainfare::kernels {

/// x, and what is still to be added to it.
struct Residual {
    Tensor x;
    Tensor pending;
};

class ResidualNorm {
public:
    struct Saved {
        Tensor x, rstd;
    };

    ResidualNorm(Context const& context, Parameter const& weight) : context_{context}, weight_{weight} {}

    /// Adds what is pending, then y = norm(x), into @p y.
    void forward(Saved& s, Residual& r, Tensor const& y) const
    {
        auto& backend = context_.backend;
        s.rstd = context_.f32(1, y.rows);
        if (r.pending.empty()) {
            backend.rms_norm(r.x, weight_.weight, context_.config.norm_eps, y, s.rstd);
        } else {
            // x is added to what is pending and not the other way round: backward needs the former x.
            backend.add_rms_norm(r.pending, r.x, weight_.weight, context_.config.norm_eps, y, s.rstd);
            r.x = r.pending;
            r.pending = {};
        }
        s.x = r.x;
    }

    /// Adds to @p d_x or writes it.
    void backward(Saved const& s, Tensor const& d_y, Tensor const& d_x, bool accumulate) const
    {
        context_.backend.rms_norm_backward(d_y, s.x, weight_.weight, s.rstd, d_x, accumulate, weight_.gradient);
    }

private:
    Context const& context_;
    Parameter const& weight_;
};

} // namespace trainfare::kernels
