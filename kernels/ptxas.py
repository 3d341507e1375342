"""What the compiler makes of a kernel: registers, spills, local memory, 128-bit accesses, atomics; and occupancy from those.

One NVRTC run with CuPy's own options for a real architecture gives both the PTX and ptxas's figures. No GPU, no driver.
The figures belong to one version of NVRTC: `version()`. They are kept on disk under a hash of that, the source and the options.
"""
from __future__ import annotations

import ctypes
import hashlib
import json
import re
from dataclasses import asdict, dataclass

from gpugrad.errors import MissingExtraError
from gpugrad.kernels.disk_cache import cache_folder, keep
from gpugrad.kernels.load import KernelCompileError, Source, all_options, explain

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
WIDE = r"\b{}\.global(?:\.\w+)*?\.(?:v4\.[bfsu]32|v2\.[bfsu]64)\b"
WARP, REGISTERS, REGISTER_UNIT = 32, 65536, 256


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """Threads, blocks and bytes of shared memory that one holds, and the bytes that the system takes of each block's."""

    threads: int
    blocks: int
    shared: int
    reserved: int


#: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
MULTIPROCESSORS = {
    "sm_75": Multiprocessor(1024, 16, 64 << 10, 0), "sm_80": Multiprocessor(2048, 32, 164 << 10, 1 << 10),
    "sm_90": Multiprocessor(2048, 32, 228 << 10, 1 << 10), "sm_100": Multiprocessor(2048, 32, 228 << 10, 1 << 10),
    "sm_120": Multiprocessor(1536, 24, 100 << 10, 1 << 10),
}


@dataclass(frozen=True)
class Rules:
    """How ptxas's report and the PTX are read; part of the key under which figures are kept."""

    registers: str = r"Used (\d+) registers"
    shared: str = r"(\d+) bytes smem"
    stack_and_spills: tuple[str, ...] = (r"(\d+) bytes stack", r"(\d+) bytes spill st", r"(\d+) bytes spill lo")
    loads_stores_atomics: tuple[str, ...] = (
        WIDE.format("ld"), WIDE.format("st"), r"\b(?:atom|red)\.[\w.:]*\b(?:f16|f16x2|bf16|bf16x2|f32|f64)\b")


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Figures:
    """One instantiation on one architecture. Bytes for spills, stack and shared; instruction counts of the PTX for the rest."""

    file: str
    kernel: str
    expression: str
    arch: str
    vector: bool                  # its V is more than 1
    registers: int
    spilled: int
    stack: int
    shared: int
    wide_loads: int
    wide_stores: int
    float_atomics: int

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the gate refuses it; () where it passes."""
        found = {
            f"spills {self.spilled} bytes": self.spilled,
            f"uses {self.stack} bytes of local memory": self.stack,
            f"has {self.float_atomics} float atomics": self.float_atomics,
            "has no 128-bit access on its vector path": self.vector and not self.wide_loads + self.wide_stores,
        }
        return tuple(problem for problem, there in found.items() if there)


def figures(source: Source, instances: list[tuple[str, tuple]], arch: str) -> list[Figures]:
    """Compile the (kernel, template arguments) of a source for one architecture, or read what an earlier run found.

    Raises KernelCompileError where NVRTC refuses, MissingExtraError where there is no NVRTC.
    """
    names = {source.signature(kernel).expression(arguments): (kernel, arguments) for kernel, arguments in instances}
    if not names:
        return []
    key = json.dumps([version(), source.code, [*names], flags_of(source, tuple(names), arch), asdict(RULES)])
    path = cache_folder() / f"gate-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        return [Figures(**found) for found in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):               # none yet, or half of one, or another version's
        pass
    ptx, log, lowered = compiled(source, tuple(names), arch)
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))
    reports = {re.search(r"'(\S+)' for", part)[1]: part                                     # type: ignore[index]
               for part in log.split("Compiling entry function")[1:]}
    found = [read(source, *names[name], name, arch, bodies[lowered[name]], reports[lowered[name]]) for name in names]
    keep(path, json.dumps([asdict(f) for f in found]).encode())
    return found


def read(source: Source, kernel: str, arguments: tuple, name: str, arch: str, body: str, report: str) -> Figures:
    templates = [t.name for t in source.signature(kernel).templates]
    width = int(arguments[templates.index("V")]) if "V" in templates else 1
    stack, stores, loads = (number(report, p) for p in RULES.stack_and_spills)
    return Figures(source.file, kernel, name, arch, width > 1, number(report, RULES.registers), stores + loads, stack,
                   number(report, RULES.shared), *(len(re.findall(p, body)) for p in RULES.loads_stores_atomics))


def number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def compiled(source: Source, names: tuple[str, ...], arch: str) -> tuple[str, str, dict[str, str]]:
    """(PTX, ptxas's log, mangled names) with the options that CuPy would pass."""
    nvrtc, program = compiler(), ctypes.c_void_p()
    nvrtc.create(ctypes.byref(program), source.code.encode(), source.file.encode(), 0, None, None)
    try:
        for name in names:
            nvrtc.call("nvrtcAddNameExpression", program, name.encode())
        flags = [flag.encode() for flag in flags_of(source, names, arch)]
        failed = nvrtc.lib.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = nvrtc.text("ProgramLog", program)
        if failed:
            raise KernelCompileError(explain(log, source.shown, names), log)
        return nvrtc.text("PTX", program), log, {name: nvrtc.lowered_name(program, name) for name in names}
    finally:
        nvrtc.lib.nvrtcDestroyProgram(ctypes.byref(program))


def flags_of(source: Source, names: tuple[str, ...], arch: str) -> tuple[str, ...]:
    return (*all_options(source.options(names), arch), "--ptxas-options=-v")


def compiler():
    """NVRTC's entry points."""
    from gpugrad.cudasim import CompileError
    from gpugrad.cudasim.nvrtc import library
    try:
        return library()
    except CompileError as error:
        raise MissingExtraError("kernels: the compile gate needs the CUDA compiler NVRTC, got none. "
                                "Install it with pip install gpugrad[sim]; no GPU is needed.") from error


def version() -> str:
    """"13.5", the version of NVRTC that the figures belong to."""
    return ".".join(map(str, compiler().version))


def occupancy(registers: int, shared: int, threads: int, arch: str) -> float:
    """The share of a multiprocessor's threads that can be resident, blocks of `threads` with `shared` bytes each."""
    sm = MULTIPROCESSORS[arch]
    warps = -(-threads // WARP)
    by_registers = REGISTERS // (-(-registers * WARP // REGISTER_UNIT) * REGISTER_UNIT * warps)
    by_shared = sm.shared // (shared + sm.reserved) if shared + sm.reserved else sm.blocks
    return min(sm.threads // (warps * WARP), by_registers, by_shared, sm.blocks) * warps * WARP / sm.threads
