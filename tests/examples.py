#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every shipped example and every command of the README runs.   examples.py TRAINFARE

Examples are simulated; the causes of each must add up to its step. README commands must end with 0 or 1 (an answer).
"""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def check_example(program, path):
    done = run([program, "project", str(path), "--json"], ROOT)
    if done.returncode not in (0, 1):
        return f"exit {done.returncode}: {done.stderr.strip()}"
    result = json.loads(done.stdout)
    step, causes = result["step_time_s"]["value"], sum(result["causes"].values())
    return "" if abs(causes / step - 1) < 1e-9 else f"causes add up to {causes} s, the step is {step} s"


def check_command(program, line, folder):
    words = shlex.split(line, comments=True)
    words = [program if word == "build/trainfare" else word for word in words]
    words = [str(ROOT / word) if word.startswith("scenarios/") else word for word in words]
    words = [str(ROOT / "scenarios/models/deepseek-v3.json") if word == "path/to/config.json" else word for word in words]
    done = run(words, folder)
    return "" if done.returncode in (0, 1) else f"exit {done.returncode}: {done.stderr.strip()}"


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    examples = sorted((ROOT / "scenarios/examples").glob("*.toml"))
    commands = re.findall(r"^build/trainfare .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        measured = pathlib.Path(folder, "my-h100")  # what `trainfare-calibrate run --out my-h100` would have left
        measured.mkdir()
        measured.joinpath("sources.csv").write_text("source_id,provenance,title\nmine,measured,A test\n")
        checks = [(path.name, check_example(program, path)) for path in examples]
        checks += [(line, check_command(program, line, folder)) for line in commands]
    for name, problem in checks:
        if problem:
            failures += 1
            print(f"{name}: {problem}")
    print(f"{len(examples)} examples and {len(commands)} README commands run, {failures} failures")
    return 1 if failures or not examples or not commands else 0


if __name__ == "__main__":
    sys.exit(main())
