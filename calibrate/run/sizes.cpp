// SPDX-License-Identifier: Apache-2.0
//
// How far each group of points goes: the whole plan (about ten minutes), a quick one (about one), and one for hosts.
#include "calibrate/run/points.hpp"

namespace trainfare::measure {

Sizes full_sizes()
{
    Sizes s;
    s.tokens = {512, 1024, 2048, 4096, 8192};
    s.moved_tokens = {1024, 2048, 4096, 8192};
    s.local_experts = {2, 4, 8, 16, 32};
    s.expert_rows = {128, 512, 2048, 8192};
    s.most_rows = 131072;
    s.load_cv = {0.3, 0.8};
    s.sequences = {2048, 4096, 8192, 16384};
    s.head_shares = {1, 2, 4, 8};
    s.parameters = {1 << 22, 1 << 25, 1 << 28};
    s.square = 8192;
    s.hbm_bytes = 1 << 30;
    s.fewer_sms = {8, 20, 32, 44};
    s.comm_sms = {4, 12, 20};
    s.subset_tokens = 4096;
    s.sustained_s = 60;
    s.repeat_share = 0.05;
    return s;
}

Sizes quick_sizes()
{
    Sizes s = full_sizes();
    s.tokens = {};
    s.moved_tokens = {};
    s.local_experts = {};
    s.expert_rows = {};
    s.load_cv = {};
    s.sequences = {};
    s.parameters = {1 << 27};
    s.fewer_sms = {20};
    s.comm_sms = {20};
    s.subset = 3;
    s.variants = false;
    s.sustained_s = 5;
    return s;
}

Sizes host_sizes()
{
    Sizes s = quick_sizes();
    s.most_rows = 1024;
    s.parameters = {1 << 17};
    s.square = 64;
    s.hbm_bytes = 1 << 20;
    s.subset_tokens = 32;
    s.sustained_s = 0.2;
    return s;
}

} // namespace trainfare::measure
