// SPDX-License-Identifier: Apache-2.0
//
// Runs operations of a back-end on random inputs and writes inputs and outputs, so that PyTorch can say what it makes of them:
//
//     third_opinion_dump cpu|cuda FOLDER && python3 tests/third_opinion/compare.py FOLDER
//
// FOLDER/manifest.txt has a line "case name rows cols" for each FOLDER/case.name.f32 (row-major float32).
#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

using namespace trainfare::kernels;

namespace {

class Dump {
public:
    Dump(Backend& backend, std::filesystem::path folder) : backend_{&backend}, folder_{std::move(folder)}
    {
        std::filesystem::create_directories(folder_);
        manifest_.open(folder_ / "manifest.txt");
    }

    Tensor random(std::string const& case_name, std::string const& what, std::int64_t rows, std::int64_t cols,
                  Element element = Element::bf16, float deviation = 1)
    {
        auto const t = backend_->make(element, rows, cols);
        backend_->normal(t, 0, deviation, ++seed_);
        return write(case_name, what, t);
    }
    Tensor empty(std::int64_t rows, std::int64_t cols, Element element = Element::bf16)
    {
        auto const t = backend_->make(element, rows, cols);
        backend_->fill(t, element == Element::i32 ? 0 : std::nanf(""));
        return t;
    }
    Tensor zeros(std::int64_t rows, std::int64_t cols, Element element = Element::f32)
    {
        auto const t = backend_->make(element, rows, cols);
        backend_->fill(t, 0);
        return t;
    }
    Tensor write(std::string const& case_name, std::string const& what, Tensor const& t)
    {
        auto const values = backend_->download(t);
        std::vector<float> const floats(values.begin(), values.end());
        std::ofstream out{folder_ / (case_name + "." + what + ".f32"), std::ios::binary};
        out.write(reinterpret_cast<char const*>(floats.data()), static_cast<std::streamsize>(floats.size() * sizeof(float)));
        manifest_ << case_name << ' ' << what << ' ' << t.rows << ' ' << t.cols << '\n';
        return t;
    }
    Backend& on() { return *backend_; }

private:
    Backend* backend_;
    std::filesystem::path folder_;
    std::ofstream manifest_;
    std::uint64_t seed_ = 0;
};

void attention(Dump& dump, std::string const& name, AttentionShape shape)
{
    std::int64_t const t = std::int64_t{shape.batch} * shape.seq;
    shape.scale = 1 / std::sqrt(static_cast<float>(shape.qk_dim));
    auto const q = dump.random(name, "q", t, std::int64_t{shape.heads} * shape.qk_dim);
    auto const k = dump.random(name, "k", t, std::int64_t{shape.kv_heads} * shape.qk_dim);
    auto const v = dump.random(name, "v", t, std::int64_t{shape.kv_heads} * shape.v_dim);
    auto const d_o = dump.random(name, "d_o", t, std::int64_t{shape.heads} * shape.v_dim);
    auto const o = dump.empty(d_o.rows, d_o.cols), d_q = dump.empty(q.rows, q.cols), d_k = dump.empty(k.rows, k.cols),
               d_v = dump.empty(v.rows, v.cols);
    auto const log_sum = dump.empty(std::int64_t{shape.heads} * shape.batch, shape.seq, Element::f32);
    dump.on().attention(shape, q, k, v, o, log_sum);
    dump.on().attention_backward(shape, d_o, q, k, v, o, log_sum, d_q, d_k, d_v);
    dump.write(name, "o", o), dump.write(name, "d_q", d_q), dump.write(name, "d_k", d_k), dump.write(name, "d_v", d_v);
}

void rms_norm(Dump& dump)
{
    auto const x = dump.random("rms_norm", "x", 96, 512), w = dump.random("rms_norm", "w", 1, 512);
    auto const d_y = dump.random("rms_norm", "d_y", 96, 512);
    auto const y = dump.empty(96, 512), rstd = dump.empty(1, 96, Element::f32), d_x = dump.empty(96, 512);
    auto const d_w = dump.zeros(1, 512);
    dump.on().rms_norm(x, w, 1e-6F, y, rstd);
    dump.on().rms_norm_backward(d_y, x, w, rstd, d_x, false, d_w);
    dump.write("rms_norm", "y", y), dump.write("rms_norm", "d_x", d_x), dump.write("rms_norm", "d_w", d_w);
}

void swiglu(Dump& dump)
{
    auto const x = dump.random("swiglu", "x", 96, 512), d_y = dump.random("swiglu", "d_y", 96, 256);
    auto const y = dump.empty(96, 256), d_x = dump.empty(96, 512);
    dump.on().swiglu(x, y);
    dump.on().swiglu_backward(d_y, x, d_x);
    dump.write("swiglu", "y", y), dump.write("swiglu", "d_x", d_x);
}

void cross_entropy(Dump& dump)
{
    std::int64_t const rows = 64, vocab = 1000;
    auto const logits = dump.random("cross_entropy", "logits", rows, vocab, Element::bf16, 3);
    std::vector<std::int32_t> wanted;
    for (std::int64_t i = 0; i < rows; ++i) wanted.push_back(static_cast<std::int32_t>(i * 37 % vocab));
    auto const targets = dump.empty(1, rows, Element::i32);
    dump.on().upload(targets, wanted);
    dump.write("cross_entropy", "targets", targets);
    auto const loss = dump.empty(1, rows, Element::f32);
    dump.on().cross_entropy(logits, targets, 1.0F / rows, loss);
    dump.write("cross_entropy", "loss", loss), dump.write("cross_entropy", "d_logits", logits);
}

/// Three steps with the default hyperparameters.
void adamw(Dump& dump)
{
    auto const master = dump.random("adamw", "w", 1, 1000, Element::f32);
    auto const m = dump.zeros(1, 1000), v = dump.zeros(1, 1000), weights = dump.empty(1, 1000);
    auto const step = dump.zeros(1, 1, Element::i32), scale = dump.empty(1, 1, Element::f32);
    dump.on().fill(scale, 1);
    for (int i = 1; i <= 3; ++i) {
        auto const grad = dump.random("adamw", std::string{"g"}.append(std::to_string(i)), 1, 1000, Element::f32);
        dump.on().increment(step);
        dump.on().adamw({}, step, scale, master, m, v, grad, weights);
    }
    dump.write("adamw", "master", master), dump.write("adamw", "weights", weights);
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 3 || (std::string{argv[1]} != "cpu" && std::string{argv[1]} != "cuda")) {
        std::cerr << "usage: third_opinion_dump cpu|cuda FOLDER\n";
        return 2;
    }
    try {
        auto const backend = std::string{argv[1]} == "cuda" ? make_cuda_backend(0) : make_host_backend(false);
        Dump dump{*backend, argv[2]};
        attention(dump, "attention_mla", {2, 128, 4, 4, 192, 128, true, 0});
        attention(dump, "attention_gqa", {1, 256, 8, 2, 64, 64, true, 0});
        rms_norm(dump);
        swiglu(dump);
        cross_entropy(dump);
        adamw(dump);
    } catch (std::exception const& error) {
        std::cerr << "third_opinion_dump: " << error.what() << '\n';
        return 3;
    }
    return 0;
}
