#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the program as users do and compares what it prints, byte for byte, with what is expected.

A case is a file: lines beginning with # are comments, `$ ` a command (trainfare is the program; a pipeline of shell commands is
allowed), `exit N` its status, and the rest, to the end, standard output followed by standard error. $CASES is this folder,
$SCENARIOS the shipped one. A case may pin calibration tables of its own by naming --tables.

    run_cases.py PROGRAM [CASE ...]            compare; exit 1 when one differs
    run_cases.py PROGRAM --update [CASE ...]   write what is printed now
"""
import difflib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SCENARIOS = HERE.parent.parent / "scenarios"


def parse(text):
    lines = text.splitlines(keepends=True)
    head = 0
    while head < len(lines) and lines[head].startswith("#"):
        head += 1
    if head >= len(lines) or not lines[head].startswith("$ "):
        raise SystemExit("a case begins with comments and one '$ command'")
    return "".join(lines[:head]), lines[head][2:].strip(), "".join(lines[head + 1:])


def run(program, command):
    env = dict(os.environ, CASES=str(HERE), SCENARIOS=str(SCENARIOS), TRAINFARE_SCENARIOS=str(SCENARIOS),
               PATH=str(pathlib.Path(program).resolve().parent) + ":" + os.environ["PATH"], LC_ALL="C", COLUMNS="80")
    env.pop("TRAINFARE_TABLES", None)
    done = subprocess.run(["bash", "-c", "set -o pipefail; " + command], cwd=HERE, env=env, capture_output=True, timeout=250,
                          stdin=subprocess.DEVNULL)
    text = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    text = text.replace(str(SCENARIOS), "$SCENARIOS").replace(str(HERE.parent.parent), "$ROOT")
    return f"exit {done.returncode}\n{text}"


def main(arguments):
    if not arguments:
        raise SystemExit(__doc__)
    program, rest = arguments[0], arguments[1:]
    update = "--update" in rest
    cases = [pathlib.Path(a) for a in rest if a != "--update"] or sorted(HERE.glob("*.case"))
    failed = 0
    for case in cases:
        comments, command, expected = parse(case.read_text())
        printed = run(program, command)
        if printed == expected:
            continue
        if update:
            case.write_text(f"{comments}$ {command}\n{printed}")
            print(f"{case.name}: written")
            continue
        failed += 1
        print(f"{case.name}: $ {command}")
        sys.stdout.writelines(difflib.unified_diff(expected.splitlines(True), printed.splitlines(True), "expected", "printed"))
    if not cases:
        failed = 1
        print("no cases found")
    print(f"{len(cases)} cases, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
