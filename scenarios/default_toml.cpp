// SPDX-License-Identifier: Apache-2.0
//
// The scenario that --dump-default prints: every key, what it means, its unit and default, and the Megatron-LM flag it
// stands for. A test reads it back and checks that no key is missing.
#include "scenarios/load.hpp"

namespace trainfare {

std::string default_scenario_toml()
{
    return R"toml(# trainfare scenario. Quantities are text with a unit ("400 Gb/s"); counts may be "14.8T", "469B".
# Keys marked (default) may be left out. A file can include others, which it then overrides key by key:
#   include = ["clusters/h800-2048.toml", "prices/h800-deepseek.toml"]
version = 1                         # of this format
name = "default"                    # (default: the file's name)
tables = ""                         # folder of calibration tables; "" (default): the shipped ones
measured = ""                       # folder that trainfare-calibrate wrote, laid over them; "" (default): none

[model]
config = "models/mixtral-8x7b.json" # Hugging Face config.json, or a .toml with sizes (scenarios/PLAN.md)
card_active = "12.9B"               # active parameters as the model card prints, for 6N (default: as counted)

[cluster]
gpu = "H100-SXM"                    # row of calibrate/tables/hardware.csv
gpus = 64
gpus_per_node = 8                   # (default)
domain = 8                          # GPUs that share NVLink/NVSwitch (default: as sold)
nvlink = "365 GB/s"                 # payload rate a GPU and direction (default: from published transfers)
nic = "400 Gb/s"                    # line rate of one GPU's NIC (default: as in hardware.csv)
fabric = "rail_optimised"           # (default) rail_optimised, multi_plane, fat_tree
nodes_per_leaf = 32                 # (default) nodes under one leaf switch, of one rail or plane
oversubscription = 1                # (default) leaf ports down : up
placement = "aligned"               # (default) aligned: groups on neighbouring nodes; spread: over all leaves
nvlink_latency = "3.33 us"          # (default) arXiv:2505.09343 Table 5
nic_latency = "3.7 us"              # (default) same
pue = 1.3                           # (default) facility power over IT power
node_overhead = 0.5                 # (default) power of CPUs, NICs, fans, switches as a share of the GPUs'

# [[cluster.fault]]                 # none by default; may be repeated
# kind = "slow_nic"                 # slow_nic, slow_gpu, failed_plane, failed_nic, slow_scale_up
# index = 0                         # GPU, or plane
# factor = 0.5                      # what is left of its bandwidth or speed

[plan]                              # Megatron-LM flag
tp = 1                              # (default) --tensor-model-parallel-size
sp = false                          # (default) --sequence-parallel
cp = 1                              # (default) --context-parallel-size
pp = 4                              # --pipeline-model-parallel-size (default 1)
vpp = 8                             # --num-virtual-stages-per-pipeline-rank (default 1)
dp = 16                             # none: what is left of the GPUs (default: gpus / (tp x cp x pp))
ep = 8                              # --expert-model-parallel-size (default 1)
etp = 1                             # (default) --expert-tensor-parallel-size
zero = 1                            # 1: --use-distributed-optimizer; 3: FSDP, see scenarios/PLAN.md (default 0)
schedule = "interleaved"            # none gpipe 1f1b interleaved zb_h1 zb_v dualpipe dualpipev (default: by pp, vpp)
recompute = "none"                  # (default) --recompute-granularity: none, selective, full
recompute_modules = []              # (default) --recompute-modules: attention_core mlp moe moe_act norm mla_up_proj
micro_batch = 1                     # (default) --micro-batch-size, sequences
global_batch = 256                  # --global-batch-size, sequences a step
seq_len = 4096                      # --seq-length, tokens
precision = "bf16"                  # (default) --bf16, --fp8-recipe: fp32 fp16 bf16 fp8_tensor fp8_block mxfp8 nvfp4
comm_sms = 0                        # (default) --moe-deepep-num-sms: SMs that overlapped communication holds
overlap_ep = false                  # (default) --overlap-moe-expert-parallel-comm
overlap_tp = false                  # (default) --tp-comm-overlap
overlap_dp = true                   # (default) --overlap-grad-reduce --overlap-param-gather
overlap_pp = true                   # (default) off: --no-overlap-p2p-communication
dispatcher = "alltoall"             # (default) --moe-token-dispatcher-type: none, alltoall, allgather, deepep (flex)
gradient_dtype = "fp32"             # (default) --main-grads-dtype
moment_dtype = "fp32"               # (default) --exp-avg-dtype, --exp-avg-sq-dtype
master_dtype = "fp32"               # (default) --main-params-dtype
dispatch_dtype = "bf16"             # (default) none: wire format of tokens on their way to experts (DeepSeek: fp8)
combine_dtype = "bf16"              # (default) none: wire format of their way back
mtp_layers = 0                      # (default) --mtp-num-layers
stage_layers = []                   # (default: balanced by FLOPs) --pipeline-model-parallel-layout: layers by stage

[[run.phase]]                       # one or more
name = "pre-training"
tokens = "1T"                       # or, where only GPU-hours are known: gpu_hours = "119 k" with on = "H800-SXM"
ramp_from = 64                      # --rampup-batch-size: sequences a step at the start ...
ramp_tokens = "10B"                 # ... growing to global_batch over these tokens (default: no ramp)
provenance = "assumed: a round number" # printed with the result

[prices]
rental = "3.56 USD/GPU-hour"
low = "3.22 USD/GPU-hour"           # of a 90 % interval (default: rental)
high = "4.8 USD/GPU-hour"           # (default: rental)
provenance = "prices/prices.csv: median and quartiles of 20 H100-SXM prices, 2024-01 to 2025-12"

[assumptions]
load_cv = 0.1                       # (default) coefficient of variation of tokens per expert; 0: balance is forced
load_cv_spread = 0.5                # (default) half-width of its 90 % interval, as a share
source = "assumed: no source stated" # printed with the result
)toml";
}

} // namespace trainfare
