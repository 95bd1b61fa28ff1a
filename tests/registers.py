#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Registers, shared memory and spills of every own kernel, as the assembler reports them; exit 1 where one spills.

    registers.py NVCC [FILE.cu ...]      default: all of kernels/ops and calibrate/run
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENTRY = re.compile(r"Compiling entry function '(\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def assemble(nvcc, source):
    """(kernel, registers, shared bytes, stack bytes, spilled bytes) of each kernel of our own in a file."""
    run = subprocess.run(
        [nvcc, "-std=c++20", "-O3", "-gencode", "arch=compute_90a,code=sm_90a", "-Xptxas", "-v", "-cubin", "-o", os.devnull,
         "-I", str(ROOT), str(source)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{source}: does not compile\n{run.stderr}")
    kernels, name, stack = [], None, (0, 0, 0)
    for line in run.stderr.splitlines():
        if found := ENTRY.search(line):
            name = found[1]
        elif found := STACK.search(line):
            stack = tuple(map(int, found.groups()))
        elif (found := USED.search(line)) and name:
            shared = SHARED.search(line)
            kernels.append((name, int(found[1]), int(shared[1]) if shared else 0, stack[0], stack[1] + stack[2]))
            name = None
    return kernels


def readable(names):
    try:
        out = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return names
    return [re.sub(r"trainfare::kernels::|\(anonymous namespace\)::|void ", "", line) for line in out.splitlines()]


def main():
    nvcc = sys.argv[1]
    sources = [pathlib.Path(p) for p in sys.argv[2:]] or sorted(
        [*(ROOT / "kernels/ops").glob("*.cu"), *(ROOT / "calibrate/run").glob("*.cu")])
    spilled = 0
    print(f"{'file':16} {'registers':>9} {'shared':>7} {'stack':>6} {'spills':>7}  kernel")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, kernels in zip(sources, pool.map(lambda s: assemble(nvcc, s), sources)):
            ours = [k for k in kernels if "3cub" not in k[0]]  # CUB's own are CUB's affair
            for kernel, name in sorted(zip(ours, readable([k[0] for k in ours])), key=lambda pair: pair[1]):
                print(f"{source.name:16} {kernel[1]:9} {kernel[2]:7} {kernel[3]:6} {kernel[4]:7}  {name[:90]}")
                spilled += kernel[4] > 0
    print(f"{spilled} kernels spill")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
