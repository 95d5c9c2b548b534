#!/usr/bin/env python3
"""Tests of check.py itself: each of the kernels in broken/ fails, for its own reason, on each
vendor's compiler, and the sound one passes.

    test_check.py TOOLS     the folder written by toolchains.sh
"""

import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from check import judge
from compilers import compile_case

BROKEN = Path(__file__).resolve().parent / "broken"
GPUS = ["dg2", "gfx1100", "sm_75"]
ALL = [*GPUS, "spirv"]
COMPILER = {"dg2": "intel", "skl": "intel", "tgllp": "intel", "gfx1100": "amd", "sm_75": "nvidia",
            "spirv": "spirv"}

# File, targets, what the failure says; None for a program that passes.
EXPECTED = [
    ("sound.cl", ALL, None),
    ("compile_error.cl", ALL, "undeclared identifier 'missing'"),
    ("unresolved.cl", ALL, "no_such_builtin"),
    ("spills.cl", GPUS, r"\d+ bytes of spills, budget \d+"),
    ("local_memory.cl", GPUS, "16384 bytes of local memory, the host expects 4096"),
    ("too_much_local_memory.cl", GPUS, "local memory"),
    ("invalid_opcode.cl", ["tgllp"], "INVALID opcode"),
    ("invalid_opcode.cl", ["skl"], "error decoding instruction"),
]


def make_case(target):
    return {"target": target, "compiler": COMPILER[target], "operator": "test",
            "implementation": "test", "from": "guess", "options": "-cl-std=CL1.2",
            "local_bytes": 4096, "local_limit": 48 << 10,
            "kernels": [{"name": "subject", "work_group": 64}]}


def verdict(job):
    """What is wrong with how the job was judged, or None."""
    tools, target, name, expected = job
    case = make_case(target)
    with tempfile.TemporaryDirectory(prefix="vendors-") as folder:
        report = compile_case(case, BROKEN / name, Path(folder), tools)
    wrong = "; ".join(judge(case, report.as_dict()))
    if expected is None:
        return f"{target} {name}: should pass, failed with: {wrong}" if wrong else None
    if re.search(expected, wrong):
        return None
    return f"{target} {name}: should fail with /{expected}/, got: {wrong or 'passed'}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tools = Path(sys.argv[1]).resolve()
    jobs = [(tools, target, name, expected)
            for name, targets, expected in EXPECTED for target in targets]
    with ThreadPoolExecutor(2) as pool:
        faults = [fault for fault in pool.map(verdict, jobs) if fault]
    for fault in faults:
        print(f"FAILED {fault}")
    print(f"test_check: {len(jobs) - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
