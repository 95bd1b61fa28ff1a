#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include what: the architecture as a test.

Data flows one way through the folders, and each third-party library stays behind one wall. A new library is added
to LIBRARIES with the files it may appear in. Usage:

    includes.py [ROOT]       check the tree; exit 1 when there is a violation
    includes.py --self-test  prove on a tree of its own that every rule catches its violation, and nothing else
"""
import pathlib
import re
import sys
import tempfile

# Folder -> folders it may include from. The longest prefix counts.
FOLDERS = {
    "model": {"model"},
    "kernels": {"kernels", "model"},
    "calibrate": {"calibrate", "model"},
    "calibrate/run": {"calibrate", "kernels", "model"},
    "sim": {"sim", "calibrate", "model"},
    "scenarios": {"scenarios", "sim", "calibrate", "model"},
    "gui": {"gui", "scenarios", "model"},
}
# Headers without computation: all that the window may see of model/. It asks everything else through scenarios/.
VALUE_HEADERS = {
    f"model/{name}.hpp"
    for name in ("units", "text_units", "error", "dtype", "op", "architecture", "plan", "cluster", "schedule", "memory")
}

# (what, include, files that may). `*` stops at a slash, `**` does not.
LIBRARIES = [
    ("nlohmann-json", r"nlohmann/", ["model/hf_*.cpp", "model/json_*.cpp", "calibrate/import*.cpp", "scenarios/*.cpp"]),
    ("Boost.Graph", r"boost/graph/", ["model/topology.cpp", "sim/task_graph.cpp"]),
    ("SimGrid", r"(simgrid/|xbt/|xbt\.h)", ["sim/engine*.cpp", "sim/engine*.hpp"]),
    ("fast-cpp-csv-parser", r"((libfccp|fast-cpp-csv-parser)/)?csv\.h$", ["calibrate/csv.cpp"]),
    ("toml++", r"toml\+\+/", ["scenarios/*toml*.cpp"]),
    ("CLI11", r"CLI/", ["scenarios/cli/*.cpp", "calibrate/run/main.cpp", "calibrate/run/options*.cpp"]),
    ("Qt Charts", r"(QtCharts|Q[A-Za-z]*(Chart|Series|Axis)[A-Za-z]*$)", ["gui/charts.cpp", "gui/charts.hpp"]),
    ("Qt", r"Q[A-Za-z]+(/|$)", ["gui/**"]),
    ("cuDNN's frontend", r"cudnn_frontend", ["kernels/cuda/attention_graph_frontend.cpp"]),
    ("CUTLASS", r"(cutlass|cute)/", ["kernels/cuda/grouped_gemm_cutlass.cu"]),
    ("NCCL", r"nccl", ["kernels/comm/nccl*.cpp"]),
    ("CUDA",
     r"(cuda|cublas|cudnn|cufft|curand|cub/|thrust/|cupti|nvtx|nvToolsExt|cooperative_groups|mma\.h)",
     ["kernels/ops/*.cu*", "kernels/cuda/**", "kernels/comm/nccl*.cpp", "calibrate/run/*_cuda.cpp", "calibrate/run/*.cu"]),
    ("Catch2", r"catch2/", []),
]
# What every file may include besides the C++ library: {fmt} and the operating system.
PLAIN = re.compile(r"([a-z_0-9]+|fmt/[a-z]+\.h|[a-z_0-9]+\.h|(sys|linux|netinet|arpa)/[a-z_0-9]+\.h)$")

SUFFIXES = {".cpp", ".hpp", ".cu", ".cuh"}
LICENCES = {"gui": "GPL-3.0-or-later"}
LONG, TOO_LONG = 400, 600
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def matches(path, pattern):
    escaped = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(escaped, path) is not None


def project_complaint(path, header):
    home = max((f for f in FOLDERS if path.startswith(f + "/")), key=len)
    target = header.split("/")[0]
    if "/" not in header or target not in {"tests", *FOLDERS}:
        return f'"{header}" is not written from the root; write "folder/file.hpp"'
    if target not in FOLDERS[home]:
        return f"{home}/ includes {header} (it may include {', '.join(sorted(FOLDERS[home]))})"
    if home == "gui" and target == "model" and header not in VALUE_HEADERS:
        return f"gui/ includes {header} (of model/ it may see value headers only); ask through scenarios/"
    if header.startswith("calibrate/run/") and home != "calibrate/run":
        return f"{home}/ includes {header} (a program, not a library)"
    return None


def library_complaint(path, header):
    for library, include, allowed in LIBRARIES:
        if re.match(include, header):
            if any(matches(path, pattern) for pattern in allowed):
                return None
            return f"includes <{header}> ({library} stays in {', '.join(allowed) or 'tests/'})"
    if PLAIN.match(header):
        return None
    return f"includes <{header}>, which no rule knows; give the library its files in tests/includes.py"


def check_file(root, path):
    """Yields (line, complaint, is_violation)."""
    lines = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
    licence = LICENCES.get(path.split("/")[0], "Apache-2.0")
    if not lines or lines[0].strip() != f"// SPDX-License-Identifier: {licence}":
        yield 1, f"the first line is not `// SPDX-License-Identifier: {licence}`", True
    if len(lines) > TOO_LONG:
        yield len(lines), f"{len(lines)} lines (the limit is {TOO_LONG}: a file has one idea); split it", True
    elif len(lines) > LONG:
        yield len(lines), f"warning: {len(lines)} lines (more than {LONG}: is it one idea?)", False
    for number, line in enumerate(lines, 1):
        if found := INCLUDE.match(line):
            style, header = found.groups()
            complaint = project_complaint(path, header) if style == '"' else library_complaint(path, header)
            if complaint:
                yield number, complaint, True


def check_tree(root):
    """All output lines, number of files, number of violations."""
    tops = sorted({f.split("/")[0] for f in FOLDERS})
    found = (path for top in tops for path in (root / top).rglob("*") if path.suffix in SUFFIXES)
    files = sorted(path.relative_to(root).as_posix() for path in found)
    out, violations = [], 0
    for path in files:
        for line, complaint, is_violation in check_file(root, path):
            out.append(f"{path}:{line}: {complaint}")
            violations += is_violation
    return out, len(files), violations


# For the self-test: (file, text after the SPDX line, what is caught; None: nothing is).
APACHE, GPL = ("// SPDX-License-Identifier: " + name + "\n" for name in ("Apache-2.0", "GPL-3.0-or-later"))
CASES = [
    ("model/a.cpp", APACHE + '#include "model/units.hpp"\n#include <vector>\n#include <fmt/format.h>\n', None),
    ("sim/simulate.cpp", APACHE + "#include <sys/wait.h>\n#include <unistd.h>\n", None),
    ("model/b.cpp", APACHE + '#include "sim/fold.hpp"\n', "model/ includes sim/fold.hpp"),
    ("model/c.hpp", APACHE + '#include "units.hpp"\n', "not written from the root"),
    ("model/d.cpp", APACHE + '#include "../sim/fold.hpp"\n', "not written from the root"),
    ("model/j.cpp", APACHE + '#include "tests/catch.hpp"\n', "model/ includes tests/catch.hpp"),
    ("model/hf_x.cpp", APACHE + "#include <nlohmann/json.hpp>\n", None),
    ("model/hf_x.hpp", APACHE + "#include <nlohmann/json.hpp>\n", "nlohmann-json stays"),
    ("model/topology.cpp", APACHE + "#include <boost/graph/adjacency_list.hpp>\n", None),
    ("model/network.cpp", APACHE + "  #  include  <boost/graph/adjacency_list.hpp>\n", "Boost.Graph stays"),
    ("model/e.cpp", "// a file\n" + APACHE, "the first line is not"),
    ("model/f.cpp", "", "the first line is not"),
    ("model/g.cpp", APACHE + "//\n" * 600, "601 lines (the limit"),
    ("model/h.cpp", APACHE + "//\n" * 400, "warning: 401 lines"),
    ("model/i.cpp", APACHE + "#include <boost/asio.hpp>\n", "no rule knows"),
    ("kernels/ops/a.cu", APACHE + '#include <cuda_runtime.h>\n#include "model/op.hpp"\n', None),
    ("kernels/b.cpp", APACHE + '#include "calibrate/csv.hpp"\n', "kernels/ includes calibrate/csv.hpp"),
    ("calibrate/a.cpp", APACHE + '#include "kernels/moe.hpp"\n', "calibrate/ includes kernels/moe.hpp"),
    ("calibrate/b.cpp", APACHE + "#include <cuda_runtime.h>\n", "CUDA stays"),
    ("kernels/step/a.cpp", APACHE + "#include <cuda_runtime.h>\n", "CUDA stays"),
    ("kernels/comm/nccl.cpp", APACHE + "#include <nccl.h>\n#include <cuda_runtime.h>\n", None),
    ("kernels/cuda/a.cpp", APACHE + "#include <nccl.h>\n", "NCCL stays"),
    ("kernels/cuda/b.cu", APACHE + "#include <cutlass/cutlass.h>\n", "CUTLASS stays"),
    ("calibrate/run/a_cuda.cpp", APACHE + '#include "kernels/moe.hpp"\n#include <cuda_runtime.h>\n', None),
    ("calibrate/csv.cpp", APACHE + "#include <libfccp/csv.h>\n", None),
    ("calibrate/c.cpp", APACHE + "#include <csv.h>\n", "fast-cpp-csv-parser stays"),
    ("calibrate/import_nccl.cpp", APACHE + "#include <nlohmann/json.hpp>\n", None),
    ("sim/engine.cpp", APACHE + '#include <simgrid/s4u.hpp>\n#include "calibrate/cost.hpp"\n', None),
    ("sim/fold.cpp", APACHE + "#include <simgrid/s4u.hpp>\n", "SimGrid stays"),
    ("sim/a.cpp", APACHE + '#include "scenarios/run.hpp"\n', "sim/ includes scenarios/run.hpp"),
    ("sim/b.cpp", APACHE + '#include "calibrate/run/main.hpp"\n', "a program, not a library"),
    ("scenarios/load_toml.cpp", APACHE + "#include <toml++/toml.h>\n", None),
    ("scenarios/load.cpp", APACHE + "#include <toml++/toml.h>\n", "toml++ stays"),
    ("scenarios/cli/main.cpp", APACHE + '#include <CLI/CLI.hpp>\n#include "scenarios/run.hpp"\n', None),
    ("scenarios/run.cpp", APACHE + "#include <CLI/CLI.hpp>\n", "CLI11 stays"),
    ("scenarios/cli/a.cpp", APACHE + "#include <nlohmann/json.hpp>\n", "nlohmann-json stays"),
    ("scenarios/b.cpp", APACHE + "#include <catch2/catch.hpp>\n", "Catch2 stays in tests/"),
    ("gui/a.cpp", GPL + '#include <QWidget>\n#include "scenarios/run.hpp"\n#include "model/units.hpp"\n', None),
    ("gui/b.cpp", GPL + '#include "sim/fold.hpp"\n', "gui/ includes sim/fold.hpp"),
    ("gui/c.cpp", GPL + '#include "model/network.hpp"\n', "value headers only"),
    ("gui/d.cpp", APACHE, "GPL-3.0-or-later"),
    ("gui/charts.cpp", GPL + "#include <QtCharts/QChartView>\n#include <QLineSeries>\n", None),
    ("gui/e.cpp", GPL + "#include <QLineSeries>\n", "Qt Charts stays"),
    ("scenarios/c.cpp", APACHE + "#include <QString>\n", "Qt stays"),
]


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, text, _ in CASES:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        out, files, violations = check_tree(root)
    for path, _, expected in CASES:
        said = [line for line in out if line.startswith(path + ":")]
        if expected is None and said or expected is not None and (len(said) != 1 or expected not in said[0]):
            failures.append(f"{path}: expected {expected!r}, got {said}")
    wanted = sum(expected is not None and not expected.startswith("warning") for _, _, expected in CASES)
    if (files, violations) != (len(CASES), wanted):
        failures.append(f"counted {files} files and {violations} violations, expected {len(CASES)} and {wanted}")
    print("\n".join([*failures, f"self-test: {len(CASES)} cases, {len(failures)} failures"]))
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1]) if sys.argv[1:] else pathlib.Path(__file__).resolve().parent.parent
    out, files, violations = check_tree(root)
    print("\n".join([*out, f"{files} files checked, {violations} violations"]))
    return 1 if violations or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
