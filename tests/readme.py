#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README shows what the programs print.   readme.py FOLDER [--update]      FOLDER holds trainfare and trainfare-calibrate

The block after `<!-- output of: PROGRAM ARGS -->` must equal the command's output, and the list after
`<!-- what it leaves out -->` must equal the one that every report closes with.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = re.compile(r"(<!-- output of: (trainfare\S*) (.+?) -->\n```\n)(.*?)(```\n)", re.DOTALL)
LEFT_OUT = re.compile(r"(<!-- what it leaves out -->\n)(.*?)(\n## )", re.DOTALL)


def main():
    folder, update = pathlib.Path(sys.argv[1]), "--update" in sys.argv

    def run(arguments, program="trainfare"):
        return subprocess.run([folder.resolve() / program, *arguments.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    report = run("project scenarios/examples/deepseek-v3-h800.toml --fidelity closed")
    listed = re.search(r"It leaves out\n((?:  - .*\n)+)", report)[1]
    listed = re.sub(r"^  - ", "* ", listed, flags=re.MULTILINE)

    readme = ROOT / "README.md"
    text = readme.read_text()
    right = OUTPUT.sub(lambda m: m[1] + run(m[3], m[2]) + m[5], text)
    right = LEFT_OUT.sub(lambda m: m[1] + listed + m[3], right)
    if update:
        readme.write_text(right)
    elif right != text:
        print("README.md does not show what the program prints; run tests/readme.py build --update and read the difference")
        return 1
    print(f"README.md: {len(OUTPUT.findall(text))} outputs and {len(LEFT_OUT.findall(text))} list checked")
    return 0 if OUTPUT.search(text) and LEFT_OUT.search(text) else 1


if __name__ == "__main__":
    sys.exit(main())
