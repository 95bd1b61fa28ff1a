#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch makes of the same inputs: a third opinion beside `cpu` and `ref`, and a layer to race against.

    compare.py FOLDER      compare what third_opinion_dump wrote; exit 1 where an error is above its bound
    compare.py --time      time the MoE layer of DeepSeek-V3 (EP64's share of one GPU, bf16) in PyTorch on this GPU

Needs PyTorch; nothing else in the project does, and no other test depends on it.
"""
import math
import pathlib
import sys

import torch
import torch.nn.functional as F

BOUND = 1e-2  # of ||ours - theirs|| / ||theirs||: bf16 results


def load(folder):
    cases = {}
    for line in (folder / "manifest.txt").read_text().splitlines():
        case, name, rows, cols = line.split()
        data = torch.frombuffer(bytearray((folder / f"{case}.{name}.f32").read_bytes()), dtype=torch.float32)
        cases.setdefault(case, {})[name] = data.double().reshape(int(rows), int(cols))
    return cases


def attention(t, batch, heads, kv_heads, qk, v):
    def split(x, n, width):
        return x.reshape(batch, -1, n, width).transpose(1, 2)

    q, k, val = (t[n].clone().requires_grad_() for n in ("q", "k", "v"))
    out = F.scaled_dot_product_attention(split(q, heads, qk), split(k, kv_heads, qk).repeat_interleave(heads // kv_heads, 1),
                                         split(val, kv_heads, v).repeat_interleave(heads // kv_heads, 1),
                                         is_causal=True, scale=1 / math.sqrt(qk))
    out = out.transpose(1, 2).reshape(t["d_o"].shape)
    out.backward(t["d_o"])
    return {"o": out, "d_q": q.grad, "d_k": k.grad, "d_v": val.grad}


def rms_norm(t):
    x, w = t["x"].clone().requires_grad_(), t["w"].clone().requires_grad_()
    y = F.rms_norm(x, (x.shape[1],), w[0], eps=1e-6)
    y.backward(t["d_y"])
    return {"y": y, "d_x": x.grad, "d_w": w.grad}


def swiglu(t):
    x = t["x"].clone().requires_grad_()
    gate, up = x.chunk(2, dim=1)
    y = F.silu(gate) * up
    y.backward(t["d_y"])
    return {"y": y, "d_x": x.grad}


def cross_entropy(t):
    logits, targets = t["logits"].clone().requires_grad_(), t["targets"][0].long()
    loss = F.cross_entropy(logits, targets, reduction="none")
    loss.mean().backward()
    return {"loss": loss[None], "d_logits": logits.grad}


def adamw(t):
    w = t["w"].clone().requires_grad_()
    optimizer = torch.optim.AdamW([w], lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for i in (1, 2, 3):
        w.grad = t[f"g{i}"].clone()
        optimizer.step()
    return {"master": w, "weights": w}


CASES = {
    "attention_mla": lambda t: attention(t, 2, 4, 4, 192, 128),
    "attention_gqa": lambda t: attention(t, 1, 8, 2, 64, 64),
    "rms_norm": rms_norm, "swiglu": swiglu, "cross_entropy": cross_entropy, "adamw": adamw,
}


def compare(folder):
    ours, worst = load(folder), 0.0
    for case, opinion in CASES.items():
        for name, theirs in opinion(ours[case]).items():
            error = ((ours[case][name] - theirs).norm() / theirs.norm()).item()
            worst = max(worst, error if math.isfinite(error) else math.inf)
            print(f"{case:15} {name:9} {error:.2e}{'' if error < BOUND else '  TOO FAR'}")
    return 0 if worst < BOUND else 1


def time_layer():
    """Router to combine of one layer: 4,096 tokens of width 7168, 8 experts each, 4 local experts of width 2048, one shared."""
    tokens, hidden, width, experts, top_k, local = 4096, 7168, 2048, 256, 8, 4
    torch.manual_seed(1)
    make = lambda *shape: (torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02).requires_grad_()
    router, up, down = make(experts, hidden), make(local, 2 * width, hidden), make(local, hidden, width)
    shared_up, shared_down = make(2 * width, hidden), make(hidden, width)
    x, d_y = make(tokens, hidden), torch.randn(tokens, hidden, device="cuda", dtype=torch.bfloat16)

    def mlp(rows, w_up, w_down):
        gate, value = (rows @ w_up.T).chunk(2, dim=1)
        return (F.silu(gate) * value) @ w_down.T

    def layer():
        scores = torch.sigmoid((x @ router.T).float())
        weights, chosen = scores.topk(top_k, dim=1)
        weights = weights / weights.sum(1, keepdim=True) * 2.5
        order = (chosen % local).flatten().argsort(stable=True)
        rows = x[order // top_k]
        counts = (chosen % local).flatten().bincount(minlength=local).tolist()
        parts = [mlp(part, up[e], down[e]) for e, part in enumerate(rows.split(counts))]
        scattered = torch.zeros_like(x).index_add(0, order // top_k, torch.cat(parts) * weights.flatten()[order, None].bfloat16())
        (scattered + mlp(x, shared_up, shared_down)).backward(d_y)

    for _ in range(5):
        layer()
    times = []
    for _ in range(20):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        layer()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    print(f"PyTorch {torch.__version__}, MoE layer forward + backward, bf16: {sorted(times)[10]:.3f} ms (median of 20)")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--time"]:
        sys.exit(time_layer())
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(compare(pathlib.Path(sys.argv[1])))
