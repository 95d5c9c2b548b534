"""Runs one vendor's compiler on one program and reads what it says of the result.

Each of COMPILERS takes a case of the manifest (see sources.c), the path of its source, a folder of
its own and the tools, and returns a Report. Commands and their pitfalls: docs/devices.md.
"""

import re
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass, field

TIMEOUT = 300  # seconds for one command: a compiler that takes longer is as good as broken


@dataclass
class Report:
    """What the compilers say of one program; the largest of its kernels' figures."""
    errors: list = field(default_factory=list)
    registers: int = 0   # of a work-item (a thread on Intel)
    local: int = 0       # bytes of a work-group
    spills: int = 0      # bytes of private memory of a work-item: spilled, or never in registers
    matrix: int = 0      # instructions of the matrix engine

    def as_dict(self):
        return asdict(self)


class CompileError(Exception):
    """A command failed; the text is what it said."""


def run(command):
    """The command's output, stdout and stderr together."""
    try:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as expired:
        raise CompileError(f"{command[0]}: not done after {TIMEOUT} s") from expired
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise CompileError(first_errors(text) or f"{command[0]}: exit status {done.returncode}")
    return text


def first_errors(text):
    """The lines that matter: the first few that speak of an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|fatal|unresolved|undefined", line, re.I)]
    return "; ".join((errors or lines)[:3])


def require_kernels(case, found):
    missing = [k["name"] for k in case["kernels"] if k["name"] not in found]
    if missing:
        raise CompileError("no such kernel in the binary: " + ", ".join(missing))


def largest(pattern, text):
    return max((int(number) for number in re.findall(pattern, text)), default=0)


# ---- Intel

IGA_PLATFORM = {"skl": "9", "tgllp": "12p1", "dg2": "12p71", "pvc": "12p72"}


def intel(case, source, folder, tools):
    """ocloc. Its exit status 0 is not enough: it goes on after what it does not know."""
    binary = folder / "k"
    log = run([tools / "bin/ocloc", "compile", "-file", source, "-device", case["target"],
               "-options", case["options"], "--format", "zebin", "-out_dir", folder,
               "-output", "k", "-output_no_suffix"])
    if "INVALID opcode" in log:
        raise CompileError("INVALID opcode: " + first_errors(log))
    symbols = run(["llvm-readelf-19", "-sW", binary])
    unresolved = re.findall(r"(?:GLOBAL|WEAK)\s+\w+\s+UND\s+(\S+)", symbols)
    if unresolved:
        raise CompileError("unresolved: " + ", ".join(sorted(set(unresolved))))
    run(["llvm-objcopy-19", "--dump-section", f".ze_info={folder}/info", binary])
    info = (folder / "info").read_text(errors="replace").split("kernels_misc_info")[0]
    kernels = re.split(r"^  - name: +", info, flags=re.M)[1:]
    require_kernels(case, [text.split()[0] for text in kernels])
    report = Report()
    for text in kernels:
        lanes = largest(r"simd_size: +(\d+)", text)
        memory = sum(int(size) if of_lane else int(size) // max(lanes, 1)
                     for size, of_lane in re.findall(
                         r"- type: +(?:scratch|global)\n(?: +usage: .*\n)? +size: +(\d+)\n"
                         r"( +is_simt_thread: +true)?", text))
        report.registers = max(report.registers, largest(r"grf_count: +(\d+)", text))
        report.local = max(report.local, largest(r"slm_size: +(\d+)", text))
        report.spills = max(report.spills, memory)
    report.matrix = intel_matrix(case, binary, folder)
    return report


def intel_matrix(case, binary, folder):
    """Counts in the code of each kernel. What its disassembler refuses, no device runs."""
    count = 0
    for kernel in case["kernels"]:
        code, listing = folder / "code", folder / "listing"
        run(["llvm-objcopy-19", "-O", "binary", f"--only-section=.text.{kernel['name']}", binary,
             code])
        run(["iga64", "-p=" + IGA_PLATFORM[case["target"]], "-d", code, "-o", listing])
        count += len(re.findall(r"\bdpasw?\.", listing.read_text(errors="replace")))
    return count


# ---- AMD

def amd(case, source, folder, tools):
    """Clang for amdgcn, as in AMD's own OpenCL. It links, so that unknown builtins fail."""
    binary = folder / "k.so"
    library = tools / "root/usr/lib/clc/amdgcn--amdhsa.bc"
    run(["clang-19", "-x", "cl", *case["options"].split(), "-target", "amdgcn-amd-amdhsa",
         "-mcpu=" + case["target"], "-O3", "-nogpulib", "-Wno-linker-warnings",
         "-D__OPENCL_VERSION__=120", "-Xclang", "-mlink-builtin-bitcode", "-Xclang", library,
         "-o", binary, source])
    notes = run(["llvm-readelf-19", "--notes", binary])
    require_kernels(case, re.findall(r"\.name: +(\S+)", notes))
    listing = run(["llvm-objdump-19", "-d", "--no-show-raw-insn", binary])
    return Report(registers=largest(r"\.vgpr_count: +(\d+)", notes),
                  local=largest(r"\.group_segment_fixed_size: +(\d+)", notes),
                  spills=largest(r"\.private_segment_fixed_size: +(\d+)", notes),
                  matrix=len(re.findall(r"\b(?:v_mfma|v_smfmac|v_wmma|v_swmmac)_", listing)))


# ---- NVIDIA

# What clang 19 knows; later ones run what was made for sm_90.
CLANG_NVIDIA = {"sm_100": "sm_90", "sm_120": "sm_90"}
PTX = {"sm_90": "+ptx83"}  # of its tensor maps
MAX_STATIC = 48 << 10  # of shared memory, for ptxas; the driver takes more


def nvidia(case, source, folder, tools):
    """Clang to PTX, then ptxas: the assembler of NVIDIA's driver, behind another front end. Between
    them the library's own step for marked instructions (src/ptx.h)."""
    ptx = folder / "k.ptx"
    library = tools / "root/usr/lib/clc/nvptx64--nvidiacl.bc"
    run(["clang-19", "-x", "cl", *case["options"].split(), "-target", "nvptx64--nvidiacl",
         "-march=" + CLANG_NVIDIA.get(case["target"], case["target"]), "-O3", "-S", "-nogpulib",
         "-Werror=variadic-macros", "-D__OPENCL_VERSION__=120", "-Xclang", "-target-feature",
         "-Xclang", PTX.get(case["target"], "+ptx78"), "-Xclang",
         "-cl-ext=+cl_khr_fp16,+cl_khr_fp64", "-Xclang", "-mlink-builtin-bitcode", "-Xclang",
         library, "-o", ptx, source])
    text = ptx.read_text()
    require_kernels(case, re.findall(r"\.entry (\w+)", text))
    text, extern = large_shared(with_work_groups(case, text))
    ptx.write_text(text)
    target = case["target"]
    if "//@" in text:
        ptx.write_text(run([tools.parent / "sources", "--unmark", ptx]))
        target += "a"
    binary = folder / "k.cubin"
    log = run([tools / "bin/ptxas", "-v", "-arch=" + target, "-o", binary, ptx])
    if re.search(r"unresolved extern", log, re.I):
        raise CompileError(first_errors(log))
    serialized = re.search(r".*instructions are serialized.*", log)
    if serialized:
        raise CompileError(serialized.group())
    listing = run([tools / "bin/nvdisasm", "-c", binary])
    return Report(registers=largest(r"Used (\d+) registers", log),
                  local=extern or largest(r"(\d+) bytes smem", log),
                  spills=largest(r"(\d+) bytes stack frame", log),
                  matrix=len(re.findall(r"\b(?:H|I|D|QH?|OH?)?G?MMA\.", listing)))


def with_work_groups(case, text):
    """Clang leaves the work-group size out, which tells ptxas how many registers there are."""
    for kernel in case["kernels"]:
        text = re.sub(rf"(\.entry {kernel['name']}\([^)]*\))",
                      rf"\1\n.reqntid {kernel['work_group']}, 1, 1", text)
    return text


def large_shared(text):
    """Arrays of shared memory that are more than ptxas takes become extern, of unknown size.

    Returns the text and the bytes of the kernel that has most, 0 where nothing was changed."""
    pattern = r"^\s*(?:\.visible |\.weak )?(\.shared \.align \d+ \.b8 ([\w$]+))\[(\d+)\];"
    arrays = re.findall(pattern, text, flags=re.M)
    of_kernel = Counter()
    for _, name, size in arrays:
        of_kernel[name.partition("_$_")[0]] += int(size)
    most = max(of_kernel.values(), default=0)
    if most <= MAX_STATIC:
        return text, 0
    text = re.sub(pattern, "", text, flags=re.M)
    head, entry, body = text.partition(".visible .entry")
    declarations = "".join(f".extern {array}[];\n" for array, _, _ in arrays)
    return head + declarations + entry + body, most


# ---- SPIR-V

def spirv(case, source, folder, _tools):
    """Valid SPIR-V, as drivers take it that compile from it, which imports no function."""
    run(["clang-15", "-x", "cl", *case["options"].split(), "-target", "spir64-unknown-unknown",
         "-O0", "-D__OPENCL_VERSION__=120", "-Xclang", "-cl-ext=+all", "-emit-llvm", "-c", "-o",
         folder / "k.bc", source])
    run(["llvm-spirv-15", "--spirv-max-version=1.2", folder / "k.bc", "-o", folder / "k.spv"])
    run(["spirv-val", "--target-env", "opencl2.2", folder / "k.spv"])
    listing = run(["spirv-dis", "--no-color", folder / "k.spv"])
    imported = re.findall(r'LinkageAttributes "(?!__spirv_BuiltIn)(\S+)" Import', listing)
    if imported:
        raise CompileError("unresolved: " + ", ".join(sorted(set(imported))))
    require_kernels(case, re.findall(r'OpEntryPoint Kernel \S+ "(\w+)"', listing))
    return Report()


COMPILERS = {"intel": intel, "amd": amd, "nvidia": nvidia, "spirv": spirv}


def compile_case(case, source, folder, tools):
    try:
        return COMPILERS[case["compiler"]](case, source, folder, tools)
    except CompileError as error:
        return Report(errors=[str(error)])
