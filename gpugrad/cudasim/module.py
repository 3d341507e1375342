"""Modules and kernels: the public side of the executor."""

import ctypes
import functools
import re
import threading

import numpy as np

from . import memory, waiting
from .batch import Batch
from .clusters import size_of_cluster
from .counters import Checks, Counters
from .decode import place_of
from .errors import ArgumentError
from .flow import blocks_of
from .generate import generate
from .hazards import Hazards
from .inline import flatten
from .layout import Layout, ModuleVariables
from .memory import Region
from .names import qualified, short
from .nvrtc import compile_ptx
from .ptx import parse

LANES_PER_BATCH = 65536
LANES_TOGETHER = 1 << 19  # of a kernel whose blocks wait for each other
LOCAL_BYTES_PER_BATCH = 1 << 26
ONE_AT_A_TIME = threading.RLock()  # launches: a region remembers what the one that runs read and wrote
STATIC_SHARED_LIMIT = 48 << 10
SHARED_LIMITS = {75: 64 << 10, 80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}


def compile_cuda(source, arch="sm_90", options=(), names=()):
    """Compile CUDA C++ with NVRTC and load it on the simulated device.

    source   CUDA C++ text
    arch     "sm_75", "sm_80", "sm_90", "sm_100", "sm_120" and their like
    options  NVRTC options, as CuPy takes them
    names    name expressions of templates and of kernels that are not extern "C": "softmax<float>"
    return   Module; module["softmax<float>"].launch(grid, block, args, shared=0) runs a kernel

    Raises CompileError, with the compiler's log and the line of the source. Needs the wheels nvidia-cuda-nvrtc and, for
    cuda_fp16.h and its neighbours, nvidia-cuda-runtime; no GPU.
    """
    return Module(compile_ptx(source, arch, tuple(options), tuple(names)), arch)


class Module:
    """A loaded compilation: kernels by name, __device__ and __constant__ variables by `variable`."""

    def __init__(self, compiled, arch):
        self.compiled, self.arch, self.ptx = compiled, arch, compiled.ptx
        self.program = parse(compiled.ptx)
        self.variables = ModuleVariables(self.program)
        self.kernels = {}

    def __getitem__(self, name):
        """The Kernel of a name expression, of an extern "C" name, or of a plain name that is unique. KeyError if none."""
        lowered = self.lowered(name)
        if lowered not in self.kernels:
            self.kernels[lowered] = Kernel(self, lowered, name)
        return self.kernels[lowered]

    def __iter__(self):
        return iter(self.names())

    def names(self):
        """The mangled names of all kernels."""
        return [name for name, function in self.program.functions.items() if function.entry]

    def lowered(self, name):
        entries = self.names()
        named = {"".join(key.lstrip("&").split()): value for key, value in self.compiled.lowered.items() if value in entries}
        wanted = "".join(name.lstrip("&").split())
        if wanted in named:
            return named[wanted]
        if name in entries:
            return name
        plain = [entry for entry in entries if name in (qualified(entry), short(entry))]
        if len(plain) == 1:
            return plain[0]
        known = ", ".join(sorted([*named, *(qualified(entry) for entry in set(entries).difference(named.values()))])) or "none"
        raise KeyError(f"module: a kernel's name was expected, got {name!r}. The module has {known}; "
                       "templates must be named in names=.")

    def variable(self, name, dtype=np.uint8):
        """The memory of a __device__, __constant__ or __managed__ variable as an array: assign to it, or read it.

        name    as in the source, with its namespaces or without; of a template, the expression given in names=
        dtype   of the elements; the array has one axis

        Raises KeyError, which lists the variables. NVRTC leaves out those that no kernel uses.
        """
        lowered = self.compiled.lowered.get(name) or self.compiled.lowered.get(f"&{name}")
        found = [key for key in self.variables.buffers if key in (name, lowered)] or [
            key for key in self.variables.buffers if name in (qualified(key), short(key))]
        if len(found) != 1:
            raise KeyError(f"module: the name of one variable was expected, got {name!r}. The module has "
                           f"{', '.join(map(qualified, self.variables.buffers)) or 'none'}.")
        return self.variables.buffers[found[0]].view(dtype)


class Kernel:
    """One kernel, decoded once; `launch` runs it."""

    def __init__(self, module, lowered, shown):
        self.module, self.lowered = module, lowered
        self.name = shown if shown != lowered else qualified(lowered)
        self.entry = module.program.functions[lowered]
        self.cluster = size_of_cluster(self.name, self.entry.attributes)
        flat = flatten(module.program, self.entry)
        self.blocks, self.loops = blocks_of(flat)
        self.layout = Layout(self.entry, flat, module.program, module.variables)
        self.codes = {}
        self.code = self.generated(False)
        waiting.mark(self.blocks, self.loops, self.code.live_in, self.code.defines)
        declared = declared_parameters(module.compiled.source, short(lowered), len(self.entry.params))
        self.parameter_names = declared and [name for _, name in declared]
        self.pointed = declared and [POINTED.get(kind.removeprefix("const ")) for kind, _ in declared]

    @property
    def python_source(self):
        """The Python that executes the kernel, one function per basic block."""
        return self.code.source

    def generated(self, exact):
        if exact not in self.codes:
            self.codes[exact] = generate(self.blocks, self.name, self.module.compiled, self.module.program.files,
                                         self.layout, exact)
        return self.codes[exact]

    def place(self, instruction):
        return place_of(instruction, self.name, self.module.compiled, self.module.program.files)

    def launch(self, grid, block, args, shared=0, checks=None, only=None):
        """Run the kernel to its end on the simulated device.

        grid, block   an int, or up to three: blocks in the grid, threads in a block
        args          arrays (their memory is the device's), NumPy scalars or ctypes of the exact C type, structs as bytes
                      or np.void; a Python int is a long long, a float a double, a bool a bool, None a null pointer
        shared        bytes of dynamic shared memory
        checks        Checks; by default everything is checked
        only          a range of block numbers, x fastest: the others do nothing, which looks at one end of a huge grid
        return        Counters

        Raises ArgumentError before anything runs; OutOfBounds, Misaligned, Uninitialised, ReadOnly, Race,
        BarrierDivergence, WarpDivergence, Trap and Timeout name thread, block, address and source line.
        """
        return Launch(self, grid, block, args, shared, checks or Checks()).run(only)

    def check(self, grid, block, args, shared=0):
        """ArgumentError where `launch` would refuse these."""
        Launch(self, grid, block, args, shared, Checks())


class Launch:
    """One launch: its arguments in the parameter buffer, its counters, its batches."""

    def __init__(self, kernel, grid, block, args, shared, checks):
        self.kernel, self.checks, self.shared = kernel, checks, shared
        kernel.code = kernel.generated(checks.exact)
        self.grid, self.block = (three(kernel.name, what, v) for what, v in (("grid", grid), ("block", block)))
        self.threads = int(np.prod(self.block))
        self.check_shape()
        self.names, self.arrays, self.regions = {}, [], []
        self.parameters = Region(self.marshal(args), title="parameters")
        self.shared_variables = kernel.layout.with_dynamic_shared(shared)
        self.counters = Counters(kernel.name)
        self.rng = np.random.default_rng(checks.seed)
        blocks = int(np.prod(self.grid, dtype=np.int64))
        self.hazards = None
        if checks.hazards and blocks * self.threads > 1:
            self.hazards = Hazards(kernel.code.global_granule, self.threads, blocks, alone=False)
        count = len(kernel.blocks)
        self.block_threads, self.block_warps = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def check_shape(self):
        name, limits = self.kernel.name, ((2**31 - 1, 65535, 65535), (1024, 1024, 64))
        for what, shape, most_each in zip(("grid", "block"), (self.grid, self.block), limits, strict=True):
            if any(not 1 <= n <= most for n, most in zip(shape, most_each, strict=True)):
                raise ArgumentError(f"{name}: the {what} must lie within {most_each} and hold at least one, got {shape}. "
                                    "Put the large dimension on x; return early for empty arrays.", kernel=name)
        if self.grid[0] % self.kernel.cluster:
            raise ArgumentError(f"{name}: the grid must be whole clusters of {self.kernel.cluster} blocks, got {self.grid[0]} "
                                "blocks along x. Round it up.", kernel=name)
        most = min([1024, *([int(np.prod(self.kernel.entry.attributes["maxntid"]))]
                            if "maxntid" in self.kernel.entry.attributes else [])])
        if self.threads > most:
            raise ArgumentError(f"{name}: a block must have at most {most} threads, got {self.threads}. "
                                "Launch smaller blocks, or raise __launch_bounds__.", kernel=name)
        arch = int(re.sub(r"\D", "", self.kernel.module.arch) or 90)
        limit = SHARED_LIMITS.get(arch, 99 << 10)
        static = sum(stop - start for start, stop, _ in self.kernel.layout.shared.spans)
        if static > STATIC_SHARED_LIMIT:
            raise ArgumentError(f"{name}: __shared__ variables must have at most {STATIC_SHARED_LIMIT} bytes in all, got "
                                f"{static}, which ptxas refuses. Use `extern __shared__` for more.", kernel=name)
        if static + self.shared > limit or self.shared < 0:
            raise ArgumentError(f"{name}: shared memory must be at most {limit} bytes on {self.kernel.module.arch}, got "
                                f"{static} static and {self.shared} dynamic. Use a smaller tile.", kernel=name)

    def marshal(self, args):
        """The parameter buffer, as cuLaunchKernel would read it."""
        params, name = self.kernel.entry.params, self.kernel.name
        args = tuple(args)
        if len(args) != len(params):
            raise ArgumentError(f"{name}: {len(params)} arguments were expected ({self.signature()}), got {len(args)}. "
                                "Pass one for each parameter.", kernel=name)
        buffer = np.zeros(max(self.kernel.layout.params.end, 1), np.uint8)
        for k, (parameter, value) in enumerate(zip(params, args, strict=True)):
            raw, kind = self.bytes_of(value, k)
            if len(raw) != parameter.size or not fits(kind, parameter.type):
                raise ArgumentError(
                    f"{name}: argument {k}{self.called(k)} must be {wanted(parameter)}, got {given(value, raw)}. "
                    f"{advice(parameter, value)}", kernel=name)
            start = self.kernel.layout.address(parameter.name)
            buffer[start: start + len(raw)] = np.frombuffer(raw, np.uint8)
        return buffer

    def bytes_of(self, value, k):
        """The bytes that CuPy's rules make of an argument, and its kind: pointer, int, float or struct."""
        if isinstance(value, np.ndarray):
            allocation = memory.SPACE.allocation_of(value)
            self.check_elements(value, k)
            self.arrays.append(value)
            self.names.setdefault(id(allocation), f"argument {k}{self.called(k)} ({allocation.title})")
            return np.uint64(memory.address(value)).tobytes(), "pointer"
        if value is None:
            return bytes(8), "pointer"
        if isinstance(value, (bool, np.bool_)):
            return np.bool_(value).tobytes(), "int"
        if isinstance(value, np.void):
            return value.tobytes(), "struct"
        if isinstance(value, np.generic):
            return value.tobytes(), "float" if value.dtype.kind in "f" else "int" if value.dtype.kind in "iu" else "struct"
        if isinstance(value, int):
            return np.array(value, np.int64 if value < 1 << 63 else np.uint64).tobytes(), "int"
        if isinstance(value, float):
            return np.float64(value).tobytes(), "float"
        if isinstance(value, complex):
            return np.complex128(value).tobytes(), "struct"
        if isinstance(value, (bytes, bytearray)):
            return bytes(value), "struct"
        if isinstance(value, (ctypes.Structure, ctypes.Array)):
            return bytes(value), "struct"
        if isinstance(value, ctypes._SimpleCData):
            kind = "float" if isinstance(value, (ctypes.c_float, ctypes.c_double)) else "int"
            return bytes(value), kind
        raise ArgumentError(f"{self.kernel.name}: argument {k}{self.called(k)} must be an array, a number or a struct, "
                            f"got {type(value).__name__}. Convert it.", kernel=self.kernel.name)

    def check_elements(self, array, k):
        """Whether a pointer to float or double gets an array of the other, and one to int or long long likewise."""
        wants = self.kernel.pointed and self.kernel.pointed[k]
        if wants and array.dtype.kind in ("f" if wants.kind == "f" else "iu") and (
                {wants.itemsize, array.dtype.itemsize} == {4, 8}):
            raise ArgumentError(
                f"{self.kernel.name}: argument {k}{self.called(k)} must be an array of {wants}, got {memory.describe(array)}. "
                f"Convert it with astype, or pass a view where its bytes are meant.", kernel=self.kernel.name)

    def called(self, k):
        names = self.kernel.parameter_names
        return f" `{names[k]}`" if names else ""

    def signature(self):
        names = self.kernel.parameter_names or [f"{p.size} bytes" for p in self.kernel.entry.params]
        return ", ".join(names) or "none"

    def run(self, only=None):
        with ONE_AT_A_TIME:
            return self.run_blocks(only)

    def run_blocks(self, only):
        every = range(int(np.prod(self.grid, dtype=np.int64)))
        chosen = every if only is None else range(max(0, only.start), min(len(every), only.stop))
        together = any(block.waits == "spins" for block in self.kernel.blocks)
        size = max(1, (LANES_TOGETHER if together else LANES_PER_BATCH) // self.threads)
        frame = self.kernel.layout.locals.end
        if frame:
            size = max(1, min(size, LOCAL_BYTES_PER_BATCH // (frame * self.threads)))
        size = max(size // self.kernel.cluster, 1) * self.kernel.cluster
        self.counters.blocks, self.counters.threads = len(chosen), len(chosen) * self.threads
        try:
            with np.errstate(all="ignore"):
                for first in range(chosen.start, chosen.stop, size):
                    Batch(self, first, min(size, chosen.stop - first)).run()
            self.total()
        finally:
            for region in self.regions:
                region.launch = region.read = region.written = region.hazards = None
        return self.counters

    @functools.cached_property
    def workspace(self):
        """The address of the words that grid.sync() of cooperative groups counts in; every launch is cooperative."""
        self.grid_words = np.zeros(2, np.uint32)
        memory.SPACE.allocation_of(self.grid_words).title = "the workspace of the grid"
        return memory.address(self.grid_words)

    def thread_at(self, number):
        """The coordinates of a thread within its block."""
        x, y, _ = self.block
        return number % x, number // x % y, number // (x * y)

    def block_at(self, number):
        x, y, _ = self.grid
        return number % x, number // x % y, number // (x * y)

    def touch(self, region):
        region.first_touch(self, self.checks.counters)
        self.regions.append(region)

    def total(self):
        """Add up what was counted per block and per region."""
        counters = self.counters
        for kinds, threads, warps in zip(self.kernel.code.classes, self.block_threads, self.block_warps, strict=True):
            for kind, number in kinds.items():
                if threads:
                    counters.instructions[kind] += int(threads) * number
                    counters.warp_instructions[kind] += int(warps) * number
        for region in self.regions:
            read, written = region.touched()
            counters.unique_bytes_read += read
            counters.unique_bytes_written += written


def three(name, what, shape):
    shape = tuple(shape) if isinstance(shape, (tuple, list, np.ndarray)) and np.ndim(shape) else (shape,)
    if not 1 <= len(shape) <= 3 or not all(isinstance(n, (int, np.integer)) for n in shape):
        raise ArgumentError(f"{name}: the {what} must be an int or up to three, got {shape}. Pass ints.", kernel=name)
    return tuple(int(n) for n in (*shape, 1, 1)[:3])


def fits(kind, declared):
    """Whether an argument of a kind may stand for a parameter: a float for an integer reads garbage of the right width."""
    if declared[0] == "f":
        return kind == "float"
    return kind != "float" or declared[0] == "b"


def wanted(parameter):
    if parameter.type == "b8" and parameter.size > 1:
        return f"a struct of {parameter.size} bytes"
    noun = {"f": "float", "s": "signed integer", "u": "integer or pointer" if parameter.size == 8 else "integer"}
    return f"{parameter.size} bytes ({noun.get(parameter.type[0], 'value')})"


def given(value, raw):
    if isinstance(value, np.ndarray):
        return f"an array ({memory.describe(value)}), which is an 8-byte pointer"
    note = {int: ", which is an 8-byte long long", float: ", which is an 8-byte double"}.get(type(value), "")
    return f"{type(value).__name__} {value!r} of {len(raw)} bytes{note}"


def advice(parameter, value):
    if parameter.type == "b8":
        return "Pass np.void or bytes of the struct's layout."
    kind = "float" if parameter.type[0] == "f" else "int"
    shown = value if isinstance(value, (int, float)) and not isinstance(value, np.generic) else "..."
    return f"Pass np.{kind}{parameter.size * 8}({shown})."


POINTED = {f"{name} *": np.dtype(kind) for kind, names in {
    "float32": ["float"], "float64": ["double"], "int32": ["int"], "uint32": ["unsigned", "unsigned int"],
    "int64": ["long long", "long", "int64_t"], "uint64": ["unsigned long long", "uint64_t"]}.items() for name in names}


def declared_parameters(source, kernel, count):
    """[(type, name)] in the C signature of a kernel, or None where they can't be told."""
    source = re.sub(r"/\*.*?\*/|//[^\n]*", " ", source, flags=re.DOTALL)
    for found in re.finditer(rf"\b{re.escape(kernel)}\s*\(", source):
        depth, text = 1, ""
        for character in source[found.end():]:
            depth += (character in "([{<") - (character in ")]}>")
            if depth == 0:
                break
            text += "\0" if character == "," and depth == 1 else character
        body = source[found.end() + len(text) + 1:].lstrip()
        parts = [part for part in text.split("\0") if part.strip()]
        declared = [re.findall(r"^(.*?)(\w+)\s*(?:\[\w*\])?\s*$", " ".join(part.split())) for part in parts]
        if body.startswith("{") and len(parts) == count and all(declared):
            return [(" ".join(re.sub(r"\b__restrict(__)?\b|\brestrict\b", " ", kind).replace("*", " * ").split()), name)
                    for [(kind, name)] in declared]
    return None
