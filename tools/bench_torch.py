#!/usr/bin/env python3
"""Attention beside PyTorch's on the same NVIDIA card: FlashAttention-2, cuDNN and FlexAttention.

Ours runs through the public C API of libclattice.so, the peers through PyTorch's
scaled_dot_product_attention, or through flex_attention, compiled, for masks that the former has
none for, all in this process, in turns: bursts of some 15 ms, enqueued at once and waited for at
their end, with pauses between them. Operands are the same random numbers, each side
has its own copy. Every result, the peers' too, is judged by the library against f64 on sampled rows;
what is wrong is not compared. Writes the JSON of `clattice bench --json`, for `clattice report`.

    python3 tools/bench_torch.py --json gpu-attention.json
    python3 tools/bench_torch.py --dtype bf16 --head-dim 128 --seq 4096 --mask causal
    python3 tools/bench_torch.py --seq 16384 --mask sliding-256,sliding-1024,longformer-256-64

Masks are full, causal, sliding-W (causal, the last W keys), longformer-W-G (a window of W keys
around each query, and G tokens that see all and that all see), bigbird-B-R (blocks of B: three
around the diagonal, the first and the last, and R random ones) and blocks-B-P (P percent of all
blocks, at random).
"""

import argparse
import ctypes as c
import json
import math
import os
import random
import shlex
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BACKENDS = {"flash2": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION"}  # torch.nn.attention.SDPBackend
PEERS = [*BACKENDS, "flex"]
BURST_SECONDS, LEAD_SHARE, PAUSE_SECONDS = 0.015, 0.1, 0.03  # as in tools/measure.c
F16, BF16 = 3, 4  # clat_dtype
DTYPES = {"f16": F16, "bf16": BF16}
CL_TRUE, CL_DEVICE_NAME, CL_DEVICE_TYPE, CL_DEVICE_TYPE_CPU = 1, 0x102B, 0x1000, 2
CL_DEVICE_UUID_KHR, CL_UUID_SIZE_KHR = 0x106A, 16

# ---- the library ----


class Strides(c.Structure):
    _fields_ = [(name, c.c_size_t) for name in ("batch", "head", "seq", "feature")]


class Problem(c.Structure):  # clat_attention_problem
    _fields_ = (
        [("dtype", c.c_int)]
        + [(n, c.c_size_t) for n in ("batch", "heads", "kv_heads", "seq_q", "seq_k")]
        + [(n, c.c_size_t) for n in ("head_dim", "head_dim_v")]
        + [(n, Strides) for n in "qkvo"]
        + [("scale", c.c_double), ("mask", c.c_void_p), ("score", c.c_char_p)]
        + [("score_data", c.c_size_t), ("mask_data", c.c_size_t), ("logsumexp", c.c_bool)]
        + [("precision", c.c_int), ("implementation", c.c_char_p), ("tunables", c.c_char_p)]
    )


class PlanInfo(c.Structure):  # clat_plan_info
    _fields_ = (
        [(n, c.c_char_p) for n in ("op", "implementation", "tunables", "tunables_from")]
        + [("tuned", c.c_bool), ("problem", c.c_char_p), ("explanation", c.c_char_p)]
        + [("workspace_bytes", c.c_size_t), ("flops", c.c_double)]
    )


class MaskInfo(c.Structure):  # clat_mask_info
    _fields_ = [("pairs", c.c_double)] + [
        (n, c.c_size_t) for n in ("lists", "tiles", "full_tiles", "partial_tiles")
    ]


class Verdict(c.Structure):  # clat_verdict
    _fields_ = [("worst", c.c_double), ("bound", c.c_double), ("guards", c.c_bool)] + [
        ("ok", c.c_bool),
        ("where", c.c_char * 96),
    ]


class Library:
    """libclattice.so and the OpenCL calls that it leaves to its users."""

    def __init__(self, path):
        self.clat = c.CDLL(path)
        self.cl = c.CDLL("libOpenCL.so.1")
        self.clat.clat_error_text.restype = c.c_char_p
        self.clat.clat_plan_get_info.restype = c.POINTER(PlanInfo)
        self.clat.clat_version.restype = c.c_char_p
        for name in ("context_device", "trial_buffer", "trial_host", "trial_queue"):
            getattr(self.clat, "clat_" + name).restype = c.c_void_p
        self.context = c.c_void_p()
        self.call("clat_context_create", c.byref(self.context), None)
        self.device = c.c_void_p(self.clat.clat_context_device(self.context))

    def call(self, name, *args):
        if getattr(self.clat, name)(*args) != 0:
            raise RuntimeError(f"{name}: {self.clat.clat_error_text().decode()}")

    def device_name(self):
        text = c.create_string_buffer(256)
        self.cl.clGetDeviceInfo(self.device, CL_DEVICE_NAME, c.c_size_t(len(text)), text, None)
        return text.value.decode()

    def device_is_cpu(self):
        kind = c.c_uint64()
        self.cl.clGetDeviceInfo(self.device, CL_DEVICE_TYPE, c.c_size_t(8), c.byref(kind), None)
        return bool(kind.value & CL_DEVICE_TYPE_CPU)

    def device_uuid(self):
        """In hexadecimal digits."""
        uuid = c.create_string_buffer(CL_UUID_SIZE_KHR)
        self.cl.clGetDeviceInfo(
            self.device, CL_DEVICE_UUID_KHR, c.c_size_t(CL_UUID_SIZE_KHR), uuid, None
        )
        return uuid.raw.hex()

    def write(self, queue, buffer, offset, data, size):
        code = self.cl.clEnqueueWriteBuffer(
            queue, buffer, CL_TRUE, c.c_size_t(offset), c.c_size_t(size), data, 0, None, None
        )
        if code != 0:
            raise RuntimeError(f"clEnqueueWriteBuffer failed with OpenCL code {code}")


class Mask:
    """As ours, and as a function of query and key for PyTorch."""

    def __init__(self, text):
        kind, *numbers = text.split("-")
        if (kind, len(numbers)) not in (
            ("full", 0), ("causal", 0), ("sliding", 1), ("longformer", 2), ("bigbird", 2), ("blocks", 2)
        ) or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"{text} is no mask")
        self.text, self.kind, self.numbers = text, kind, [int(number) for number in numbers]
        self.is_plain = not numbers  # scaled_dot_product_attention has it
        self.seen = None  # of bigbird and blocks: for PyTorch, by block of queries and of keys

    def make(self, library, seq):
        def made(name, *args):
            mask = c.c_void_p()
            library.call("clat_mask_" + name, c.byref(mask), *args)
            return mask

        if self.kind == "full":
            return c.c_void_p()
        if self.kind == "causal":
            return made("causal", 0)
        if self.kind == "sliding":
            return made("window", c.c_int64(self.numbers[0] - 1), c.c_int64(0))
        if self.kind in ("bigbird", "blocks"):
            return self.make_blocks(library, made, seq)
        side = c.c_int64(self.numbers[0] // 2)
        terms = [made("window", side, side), made("global", c.c_int64(self.numbers[1]))]
        mask = made("any", c.c_size_t(len(terms)), (c.c_void_p * len(terms))(*terms))
        for term in terms:
            library.clat.clat_mask_release(term)
        return mask

    def make_blocks(self, library, made, seq):
        block, other = self.numbers
        count = -(-seq // block)
        if self.kind == "bigbird":
            sizes = [c.c_uint32(n) for n in (block, count, count, 1, 3, other)]
            mask = made("bigbird", *sizes, c.c_uint64(1))
        else:
            draw, columns = random.Random(1), round(count * other / 100)
            listed = [n for _ in range(count) for n in sorted(draw.sample(range(count), columns))]
            mask = made(
                "block_csr",
                *(c.c_uint32(n) for n in (block, block, count, count, 1)),
                (c.c_uint32 * (count + 1))(*range(0, len(listed) + 1, columns)),
                (c.c_uint32 * len(listed))(*listed),
            )
        info, tiles = MaskInfo(), (c.c_ubyte * (count * count))()
        sizes = [c.c_int64(n) for n in (seq, seq, 1, block, block)]
        library.call("clat_mask_inspect", c.byref(info), mask, *sizes, tiles)
        self.seen = [[tiles[i * count + j] > 0 for j in range(count)] for i in range(count)]
        return mask

    def visible(self, _batch, _head, query, key):
        if self.seen is not None:
            return self.seen[query // self.numbers[0], key // self.numbers[0]]
        if self.kind == "sliding":
            return (query >= key) & (query - key < self.numbers[0])
        side, tokens = self.numbers[0] // 2, self.numbers[1]
        return ((query - key).abs() <= side) | (query < tokens) | (key < tokens)


class Ours:
    """A plan with operands of its own, which the library makes and judges."""

    name = "clattice"

    def __init__(self, library, shape, options):
        self.library, self.shape = library, shape
        self.mask, self.plan, self.trial = shape.mask.make(library, shape.seq), c.c_void_p(), c.c_void_p()
        problem = Problem(
            dtype=DTYPES[shape.dtype],
            batch=shape.batch,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            seq_q=shape.seq,
            seq_k=shape.seq,
            head_dim=shape.head_dim,
            mask=self.mask,
            precision=options.precision == "native",
            implementation=options.implementation and options.implementation.encode(),
            tunables=options.tunables and options.tunables.encode(),
        )
        library.call(
            "clat_attention_plan", c.byref(self.plan), library.context, c.byref(problem)
        )
        library.call("clat_trial_create", c.byref(self.trial), self.plan, c.c_uint64(1))
        info = library.clat.clat_plan_get_info(self.plan).contents
        self.implementation, self.tunables = info.implementation.decode(), info.tunables.decode()
        self.flops = info.flops

    def run(self, repeats):
        seconds = c.c_double()
        self.library.call(
            "clat_trial_time", self.trial, self.plan, c.c_uint(repeats), c.byref(seconds)
        )
        return seconds.value

    def verify(self, plan):
        verdict = Verdict()
        self.library.call("clat_trial_verify", self.trial, plan, c.byref(verdict))
        return verdict

    def judge(self):
        return self.verify(self.plan)

    def judge_result(self, result):
        """What a peer computed, in the place of our own output. `result` lies on the host."""
        offset = c.c_size_t()
        clat, size = self.library.clat, result.element_size()
        buffer = clat.clat_trial_buffer(self.trial, b"o", c.byref(offset))
        queue = c.c_void_p(clat.clat_trial_queue(self.trial))
        self.library.write(
            queue,
            c.c_void_p(buffer),
            offset.value * size,
            c.c_void_p(result.data_ptr()),
            result.numel() * size,
        )
        return self.verify(None)

    def host(self, name):
        return self.library.clat.clat_trial_host(self.trial, name.encode())

    def close(self):
        self.library.clat.clat_trial_release(self.trial)
        self.library.clat.clat_plan_release(self.plan)
        self.library.clat.clat_mask_release(self.mask)


# ---- PyTorch ----


class Torch:
    """One of PyTorch's ways on copies of our operands."""

    def __init__(self, name, operands, ours):
        import torch

        self.torch, self.name, self.ours = torch, name, ours
        self.operands = operands

    def run(self, repeats):
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        self.call(repeats)
        self.torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    def judge(self):
        return self.ours.judge_result(self.call(1).contiguous().cpu())

    def close(self):
        self.operands = None


class Sdpa(Torch):
    """One backend of scaled_dot_product_attention."""

    def call(self, repeats):
        shape = self.ours.shape
        attention = self.torch.nn.functional.scaled_dot_product_attention
        backend = getattr(self.torch.nn.attention.SDPBackend, BACKENDS[self.name])
        with self.torch.nn.attention.sdpa_kernel(backend):
            for _ in range(repeats):
                result = attention(
                    *self.operands,
                    is_causal=shape.mask.kind == "causal",
                    enable_gqa=shape.heads != shape.kv_heads,
                )
        return result


class Flex(Torch):
    """flex_attention, compiled."""

    attention = blocks = kernel_options = None

    def compile(self):
        from torch.nn.attention import flex_attention as flex

        self.torch.compiler.reset()
        seq, mask = self.ours.shape.seq, self.ours.shape.mask
        visible = mask.visible
        if mask.seen is not None:
            mask.seen = self.torch.tensor(mask.seen, device="cuda")
        # Blocks of the mask's own size, if they are smaller than those that are usual, and tiles that fit.
        block = min(mask.numbers[0], 128) if mask.seen is not None else 128
        self.kernel_options = {"BLOCK_M": block, "BLOCK_N": block} if block < 128 else None
        self.blocks = flex.create_block_mask(
            lambda batch, head, query, key: visible(batch, head, query, key), None, None, seq, seq,
            BLOCK_SIZE=block,
        )
        self.attention = self.torch.compile(flex.flex_attention, dynamic=False)

    def call(self, repeats):
        shape = self.ours.shape
        if self.attention is None:
            self.compile()
        for _ in range(repeats):
            result = self.attention(
                *self.operands,
                block_mask=self.blocks,
                enable_gqa=shape.heads != shape.kv_heads,
                kernel_options=self.kernel_options,
            )
        return result


def use_same_card(library):
    """PyTorch's list of cards may differ in order from OpenCL's."""
    import torch

    count = torch.cuda.device_count()
    for index in range(count):
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        if str(uuid).replace("-", "").lower().endswith(library.device_uuid()) or (
            uuid is None and count == 1
        ):
            torch.cuda.set_device(index)
            return
    sys.exit(f"PyTorch does not see the card {library.device_name()}")


def torch_operands(ours):
    """Q, K, V on the card, from the host's copies of ours."""
    import torch

    shape, tensors = ours.shape, []
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[shape.dtype]
    for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
        sizes = (shape.batch, heads, shape.seq, shape.head_dim)
        memory = (c.c_char * (2 * math.prod(sizes))).from_address(ours.host(name))
        tensors.append(torch.frombuffer(memory, dtype=dtype).reshape(sizes).cuda())
    return tensors


def torch_versions():
    import torch

    cudnn = torch.backends.cudnn.version()
    return (
        f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
    )


# ---- measuring ----


class Shape:
    def __init__(self, options, dtype, mask, head_dim, seq):
        self.dtype, self.mask, self.head_dim, self.seq = dtype, mask, head_dim, seq
        self.batch = options.batch or max(1, 16384 // seq)
        self.heads = options.heads or max(1, 2048 // head_dim)
        self.kv_heads = options.kv_heads or self.heads
        self.native = " native" if options.precision == "native" else ""

    def name(self):
        heads = f"{self.heads}" + (f"/{self.kv_heads}" if self.kv_heads != self.heads else "")
        return (
            f"attn {self.dtype}{self.native} "
            f"{self.batch}x{heads}x{self.seq}x{self.head_dim} {self.mask.text}"
        )

    def json(self):
        problem = {
            "batch": self.batch,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "seq_q": self.seq,
            "seq_k": self.seq,
            "head_dim": self.head_dim,
            "mask": self.mask.text,
        }
        return {**problem, "precision": "native"} if self.native else problem


class Contestant:
    """Who takes part, its verdict and its samples. `who` is None when it failed."""

    def __init__(self, who):
        self.who, self.name, self.samples, self.burst = who, who.name, [], 1
        self.verdict = Verdict()

    def try_to(self, what):
        if self.who is None:
            return
        try:
            what()
        except Exception as error:  # whatever a peer raises, it is only left out
            if self.name == Ours.name:
                raise
            note(f"{self.name} failed: {str(error).splitlines()[0]}")
            self.who = None

    def prepare(self):
        self.verdict = self.who.judge()
        for _ in range(2):
            self.burst = max(1, int(BURST_SECONDS / max(self.sample(), 1e-7)))

    def sample(self):
        self.who.run(math.ceil(self.burst * LEAD_SHARE))
        seconds = self.who.run(self.burst)
        time.sleep(PAUSE_SECONDS)
        return seconds

    def play(self):
        self.samples.append(self.sample())

    def ms(self):
        """None: it failed, or was wrong."""
        if self.who is None or not self.verdict.ok:
            return None
        return statistics.median(self.samples) * 1e3


def measure(library, shape, options):
    ours = Ours(library, shape, options)
    everybody = [Contestant(ours)]
    if options.peers:
        operands = torch_operands(ours)
        everybody += [
            Contestant(Sdpa(name, operands, ours) if name in BACKENDS else Flex(name, operands, ours))
            for name in options.peers
            if (name in BACKENDS) == shape.mask.is_plain
        ]
    for one in everybody:
        one.try_to(one.prepare)
        if one.who is not None and not one.verdict.ok:
            note(f"{one.name} is wrong on {shape.name()}: {one.verdict.where.decode()} off by "
                 f"{one.verdict.worst:.3g}, bound {one.verdict.bound:.3g}")
    for _ in range(options.reps):
        for one in everybody:
            one.try_to(one.play)
    rows = make_rows(shape, everybody, library.device_name())
    for one in everybody:
        if one.who is not None:
            one.who.close()
    return rows


def command_line():
    """This one, without the paths of this machine."""
    said = sys.argv[1:]
    for option in ("--json", "--library"):
        if option in said:
            at = said.index(option)
            del said[at:at + 2]
        said = [word for word in said if not word.startswith(option + "=")]
    return shlex.join(["python3", "tools/bench_torch.py", *said])


def make_rows(shape, everybody, device):
    ours, peers = everybody[0], everybody[1:]
    seconds = statistics.median(ours.samples)
    row = {
        "name": shape.name(),
        "group": f"{shape.dtype}, {shape.mask.text}",
        "op": "attention",
        "problem": shape.json(),
        "dtype": shape.dtype,
        "device": device,
        "implementation": ours.who.implementation,
        "tunables": ours.who.tunables,
        "ms": seconds * 1e3,
        "gflops": ours.who.flops / seconds * 1e-9,
        "max_err": ours.verdict.worst if math.isfinite(ours.verdict.worst) else None,
        "err_bound": ours.verdict.bound,
        "ok": ours.verdict.ok,
        "command": command_line(),
    }
    if peers:
        row["libraries"] = torch_versions()
    rows = []
    for one in peers:
        ms = one.ms()
        rows.append({**row, "peer": one.name, "peer_ms": ms, "ratio": ms and ms / row["ms"]})
    return rows or [{**row, "peer": None, "peer_ms": None, "ratio": None}]


# ---- the command ----


def note(text):
    print("note:", text, file=sys.stderr, flush=True)


def print_rows(rows):
    row = rows[0]
    peers = "  ".join(
        f"{r['ratio']:.3f}x {r['peer']} ({row['gflops'] * row['ms'] / r['peer_ms'] * 1e-3:.0f})"
        for r in rows
        if r["ratio"]
    )
    print(
        f"{row['name']:38} {row['implementation']:8} {row['ms']:8.3f} ms "
        f"{row['gflops'] * 1e-3:7.1f} TFLOP/s  {peers}  {'ok' if row['ok'] else 'WRONG'}",
        flush=True,
    )


def print_summary(rows):
    for group in dict.fromkeys(r["group"] for r in rows):
        for peer in dict.fromkeys(r["peer"] for r in rows if r["peer"]):
            ratios = [
                r["ratio"]
                for r in rows
                if r["group"] == group and r["peer"] == peer and r["ratio"] and r["ok"]
            ]
            if len(ratios) > 1:
                print(
                    f"{group:14} {peer:8} geometric mean {statistics.geometric_mean(ratios):.3f}, "
                    f"minimum {min(ratios):.3f}, {len(ratios)} problems"
                )


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="Lists are separated by commas. Ratios are the peer's time over ours.",
    )
    add = parser.add_argument

    def words(text):
        return [word for word in text.split(",") if word]

    def numbers(text):
        return [int(word) for word in words(text)]

    add("--dtype", type=words, default=list(DTYPES), help="f16, bf16")
    add("--mask", type=words, default=["full", "causal"], help="see above")
    add("--head-dim", type=numbers, default=[64, 128])
    add("--seq", type=numbers, default=[2048, 4096, 16384])
    add("--batch", type=int, help="default: 16384 tokens in all")
    add("--heads", type=int, help="default: 2048 features in all")
    add("--kv-heads", type=int, help="default: as many as heads")
    add("--precision", choices=["f32", "native"], default="native")
    add("--implementation", help="only this one")
    add("--tunables", help="these values; needs --implementation")
    add("--peer", dest="peers", type=words, default=PEERS, help="flash2, cudnn, flex; '': none")
    add("--reps", type=int, default=9, help="samples of each")
    add("--json", help="file to write")
    add("--library", default=os.path.join(ROOT, "build", "libclattice.so"))
    options = parser.parse_args()
    for name, known in (("dtype", DTYPES), ("peers", PEERS)):
        for word in getattr(options, name):
            if word not in known:
                parser.error(f"{word} is none of {', '.join(known)}")
    try:
        options.mask = [Mask(text) for text in options.mask]
    except ValueError as error:
        parser.error(str(error))
    return options


def main():
    options = parse_arguments()
    library = Library(options.library)
    if options.peers and library.device_is_cpu():
        sys.exit("this device is a CPU: PyTorch's attention is compared on NVIDIA's cards")
    print(f"device  {library.device_name()}, clattice {library.clat.clat_version().decode()}")
    if options.peers:
        use_same_card(library)
        print(f"peers   {torch_versions()}")
    rows = []
    for dtype in options.dtype:
        for mask in options.mask:
            for head_dim in options.head_dim:
                for seq in options.seq:
                    shape = Shape(options, dtype, mask, head_dim, seq)
                    measured = measure(library, shape, options)
                    print_rows(measured)
                    rows += measured
    print_summary(rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)
            file.write("\n")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
