#!/usr/bin/env python3
"""Compiles every kernel with every vendor's compiler and judges what they report.

    check.py SOURCES TOOLS REPORT     a folder written by sources.c, one by toolchains.sh, and the
                                      JSON file to write

Prints a table of kernels and targets, then what failed. CLATTICE_VENDORS='dg2/*,*/gemm/mma'
compiles only what matches one of the patterns TARGET/OPERATOR/IMPLEMENTATION; JOBS=n so many at a
time. Results are kept beside REPORT: what the same compilers have compiled is not compiled again.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from compilers import compile_case

# Bytes of private memory that a work-item may need, for spilled registers and arrays that are in no
# registers: the first line that matches. A guess is what runs before any tuning: it should need none.
# Where it does, the line says what is known today, so that it gets no worse. A sample is any legal
# combination: the tuner finds out what its spills cost, but one that spills beyond all measure should
# not be legal.
BUDGETS = [
    # operator    implementation  target    from      bytes
    ("*",         "simt",         "skl",    "guess",    128),  # 128 registers a thread: GELU,
    ("*",         "simt",         "tgllp",  "guess",    128),  # head dimensions 80 and 256
    ("gemm",      "simt",         "gfx9*",  "guess",    272),  # the sums, once, where GELU or SiLU follow
    ("attention", "simt",         "gfx90a", "guess",    880),  # head dimension 80
    ("attention", "mma",          "sm_*",   "guess",    192),  # head dimension 192 with V of 128
    ("gemm",      "simt",         "sm_*",   "guess",    576),  # the sums, once, where GELU follows
    ("*",         "*",            "sm_*",   "guess",     96),  # ptxas' own trade for occupancy
    ("*",         "*",            "*",      "guess",      0),
    ("gemm",      "simt",         "gfx1201", "sample", 2304),  # f64 with GELU
    ("*",         "*",            "*",      "sample",  2048),
]

# A compiler may pad between arrays of local memory, each of which is aligned.
LOCAL_PADDING = 512

HERE = Path(__file__).resolve().parent


def budget(case):
    kind = (case["operator"], case["implementation"], case["target"], case["from"])
    for *patterns, allowed in BUDGETS:
        if all(fnmatch(word, pattern) for word, pattern in zip(kind, patterns)):
            return allowed
    raise KeyError(f"no budget for {kind}")


def judge(case, report):
    """What is wrong with a compiled program, as sentences; none when all is well."""
    if report["errors"]:
        return report["errors"]
    if case["compiler"] == "spirv":
        return []
    wrong = []
    if report["spills"] > budget(case):
        wrong.append(f"{report['spills']} bytes of spills, budget {budget(case)}")
    expected, local = case["local_bytes"], report["local"]
    if local > case["local_limit"]:
        wrong.append(f"{local} bytes of local memory, the device has {case['local_limit']}")
    if not expected - LOCAL_PADDING <= local <= expected + LOCAL_PADDING:
        wrong.append(f"{local} bytes of local memory, the host expects {expected}")
    if case["implementation"] in ("mma", "wgmma") and report["matrix"] == 0:
        wrong.append("no instruction of the matrix engine")
    return wrong


# ---- compiling

def tool_versions(tools):
    """What decides the result apart from source and target."""
    words = [(HERE / "compilers.py").read_text(), (HERE.parents[1] / "src/ptx.c").read_text()]
    for command in ("clang-19", "clang-15", "llvm-spirv-15", tools / "bin/ptxas",
                    tools / "bin/nvdisasm"):
        words.append(subprocess.run([command, "--version"], capture_output=True, text=True,
                                    check=True).stdout)
    words.append(hashlib.sha256((tools / "root/usr/bin/ocloc").read_bytes()).hexdigest())
    packages = ("libigc1", "libigdfcl1", "libigc-tools", "lld-19", "llvm-19", "spirv-tools")
    words.append(subprocess.run(["dpkg-query", "-W", *packages], capture_output=True,
                                text=True, check=False).stdout)
    return "".join(words)


class Workshop:
    """Compiles cases, remembering what earlier runs have compiled; what failed may have been the
    machine's fault and is tried again."""

    def __init__(self, tools, memory):
        self.tools, self.memory = tools, memory
        self.versions = tool_versions(tools)
        self.known = json.loads(memory.read_text()) if memory.exists() else {}

    def key(self, case, source):
        parts = (self.versions, case["target"], case["options"], json.dumps(case["kernels"]),
                 source.read_text())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def compile(self, case, source):
        key = self.key(case, source)
        if key not in self.known:
            with tempfile.TemporaryDirectory(prefix="vendors-") as folder:
                report = compile_case(case, source, Path(folder), self.tools)
            self.known[key] = report.as_dict()
        return self.known[key]

    def save(self):
        self.memory.write_text(json.dumps({key: report for key, report in self.known.items()
                                           if not report["errors"]}))


def compile_all(cases, workshop, sources):
    """The reports, in the order of the cases. Those of one source are far apart, so that a slow
    compiler's do not come all at the end."""
    jobs = int(os.environ.get("JOBS") or len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda case: workshop.compile(case, sources / case["source"]), cases))


# ---- the table

def spread(numbers):
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}-{high}"


def table_row(name, results):
    reports = [report for _, report, wrong in results if not report["errors"]]
    failed = sum(bool(wrong) for _, _, wrong in results)
    row = [*name, str(len(results)), str(failed) if failed else "-"]
    if not reports or name[-1] == "spirv":
        return row + ["", "", "", ""]
    spilling = [report["spills"] for report in reports if report["spills"]]
    return row + [spread([report["registers"] for report in reports]),
                  spread([report["local"] for report in reports]),
                  f"{len(spilling)}x, {max(spilling)}" if spilling else "-",
                  spread([report["matrix"] for report in reports])]


def print_table(results):
    groups = {}
    for case, report, wrong in results:
        name = (case["operator"], case["implementation"], case["target"])
        groups.setdefault(name, []).append((case, report, wrong))
    head = ["operator", "kernel", "target", "programs", "failed", "registers", "local bytes",
            "spills (bytes)", "matrix instr."]
    rows = [head] + [table_row(name, groups[name]) for name in sorted(
        groups, key=lambda name: (name[0], name[1]))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def print_failures(results):
    """Each sentence once for each target, with the first program it is true of."""
    groups = {}
    for case, _, wrong in results:
        for sentence in wrong:
            kind = (case["target"], case["operator"], case["implementation"], sentence)
            groups.setdefault(kind, []).append(case)
    for (target, operator, implementation, sentence), cases in groups.items():
        more = f", {len(cases) - 1} more" if len(cases) > 1 else ""
        print(f"FAILED {target} {operator} {implementation}: {sentence}\n"
              f"    {cases[0]['problem']}\n"
              f"    {cases[0]['tunables']} ({cases[0]['from']}, {cases[0]['source']}{more})")


# ---- main

def wanted_cases(manifest):
    patterns = os.environ.get("CLATTICE_VENDORS", "*").split(",")
    return [case for case in manifest if any(fnmatch(
        f"{case['target']}/{case['operator']}/{case['implementation']}", pattern)
        for pattern in patterns)]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sources, tools, report_file = (Path(word).resolve() for word in sys.argv[1:])
    cases = wanted_cases(json.loads((sources / "manifest.json").read_text()))
    workshop = Workshop(tools, report_file.with_name("compiled.json"))
    try:
        reports = compile_all(cases, workshop, sources)
    finally:
        workshop.save()
    results = [(case, report, judge(case, report)) for case, report in zip(cases, reports)]
    report_file.write_text(json.dumps(
        [dict(case, **report, wrong=wrong) for case, report, wrong in results], indent=1))
    print_table(results)
    print_failures(results)
    failed = sum(bool(wrong) for _, _, wrong in results)
    print(f"vendors: {len(results) - failed} programs passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
