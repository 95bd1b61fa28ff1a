#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mixing units must not compile, and the compiler's message must name what was wrong.

Each file beside this one holds one wrong expression and a line `// expect: REGEX` for the compiler's message.
control.cpp holds the right expressions and must compile first. Compiler: argument 1, else $CXX, else c++.
"""
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def compile_file(compiler, path):
    command = [*compiler.split(), "-std=c++20", "-fsyntax-only", f"-I{ROOT}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    return done.returncode, done.stdout + done.stderr


def complaint(compiler, path):
    """Why this file does not behave as it should; empty when it does."""
    status, output = compile_file(compiler, path)
    if path.name == "control.cpp":
        return "" if status == 0 else f"must compile, but does not:\n{output}"
    expected = re.search(r"^// expect: (.+)$", path.read_text(), re.MULTILINE)
    if not expected:
        return "has no line `// expect: REGEX`"
    if status == 0:
        return "compiles, but must not"
    if not re.search(expected[1], output):
        return f"fails with another message than /{expected[1]}/:\n{output}"
    return ""


def main():
    compiler = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CXX", "c++")
    files = sorted(HERE.glob("*.cpp"), key=lambda p: (p.name != "control.cpp", p.name))
    failures = 0
    for path in files:
        if problem := complaint(compiler, path):
            failures += 1
            print(f"{path.relative_to(ROOT)}: {problem}")
        if path.name == "control.cpp" and failures:
            break  # nothing that follows would mean anything
    print(f"{len(files)} files checked, {failures} failures")
    return 1 if failures or len(files) < 2 or files[0].name != "control.cpp" else 0


if __name__ == "__main__":
    sys.exit(main())
