"""`gpugrad kernels`: every kernel compiled for every architecture, and what it costs; exit code 1 where one got worse.

Every instantiation is compiled with CuPy's options, the kernels that rules generate too. None may spill, use local memory or
add floats atomically; each vector path must move 128 bits at a time. The hot kernels also run once on the simulated device,
where all sectors asked for must be needed and no shared-memory bank may be hit twice. No GPU takes part and nothing is timed;
the floor is the advertised bandwidth. What was compiled once is kept on disk (ptxas.py): a second run takes seconds.
"""
from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any

from gpugrad.errors import ArgumentError
from gpugrad.kernels.card import H100
from gpugrad.kernels.instances import INSTANCES, wide
from gpugrad.kernels.load import generated_source
from gpugrad.kernels.probes import SOURCES, probes
from gpugrad.kernels.ptxas import ARCHITECTURES, Figures, figures, occupancy, version

SHOWN_ARCH = "sm_90"
LEAST_OCCUPANCY = {"layer_norm_row_pull": 0.25, "gemm": 0.25,        # they hold a tile or a row in registers
                   "attention": 0.25, "attention_pull": 0.18}
OCCUPANCY = 0.5
TOGETHER = 12                     # generated kernels, and instances of a written one, that are one program for NVRTC
#: CUDA's own functions keep this much in local memory for rare arguments (sin beyond 1e5), or round a call, whatever calls them.
LIBRARY = frozenset(("sin_pull", "cos_pull", "erf_pull", "expm1_pull", "logaddexp_pull", "logaddexp2_pull", "hypot_pull"))
LIBRARY_BYTES = 64


@dataclass(frozen=True)
class Hot:
    """A hot kernel after its simulated launch. Bytes are an element's; efficiencies and occupancies are shares of 1."""

    expression: str
    file: str
    elements: int
    bytes: float
    least_bytes: float
    most_bytes: float
    threads: int
    registers: dict[str, int]
    occupancy: dict[str, float]
    wide_loads: int
    wide_stores: int
    sector_efficiency: float
    bank_conflicts: int
    local_bytes: int
    warp_instructions: int
    least_occupancy: float

    @property
    def floor_us(self) -> float:
        """Microseconds for a million elements at the advertised bandwidth."""
        return H100.work_us(self.least_bytes * 1e6, 0)

    @property
    def problems(self) -> tuple[str, ...]:
        share = self.occupancy.get(SHOWN_ARCH, 1.0)
        found = {
            f"moves {self.bytes:.3f} bytes an element, more than {self.most_bytes:g}": self.bytes > self.most_bytes + 1e-9,
            f"needs {self.sector_efficiency:.2%} of the sectors it asks for": self.sector_efficiency < 1,
            f"has {self.bank_conflicts} bank conflicts": self.bank_conflicts,
            f"moves {self.local_bytes} bytes of local memory": self.local_bytes,
            f"fills {share:.0%} of a multiprocessor, less than {self.least_occupancy:.0%}": share < self.least_occupancy,
        }
        return tuple(problem for problem, there in found.items() if there)


def compile_all(architectures: Sequence[str] = ARCHITECTURES, files: Iterable[str] = INSTANCES) -> list[Figures]:
    """Every instantiation on every architecture, on all cores.

    Raises KernelCompileError where one does not compile, MissingExtraError without NVRTC, ArgumentError for another architecture.
    """
    jobs = [(SOURCES[file], [(kernel, a) for a in listed[i:i + TOGETHER]], arch)
            for file in files for kernel, listed in INSTANCES[file].items()
            for i in range(0, len(listed), TOGETHER) for arch in architectures]
    return compile_jobs(jobs, architectures)


def compile_generated(architectures: Sequence[str] = ARCHITECTURES) -> list[Figures]:
    """The pullback kernel of each elementwise rule on arrays, flat path, float32, float64 and float16."""
    from gpugrad.graph.namespace import PRIMITIVES
    from gpugrad.graph.primitive import Elementwise
    from gpugrad.kernels.elementwise import source_of
    from gpugrad.rules.generated import ARRAY, pull_of

    texts: dict[str, str] = {}
    for prim in PRIMITIVES.values():
        count = len(prim.partials) if isinstance(prim, Elementwise) else 0
        rule = pull_of(prim, (True,) * count, (ARRAY,) * count) if count else None
        if rule is not None:
            k = rule.kernel
            texts[k.name] = source_of(k.name, k.inputs, *k.body, len(k.numbers), -1).text
    jobs = []
    for some in zip_longest(*[iter(texts)] * TOGETHER):    # the headers take longer to compile than a few kernels
        names = [name for name in some if name]
        source = generated_source("generated", "\n".join(texts[name] for name in names))
        instances = [(name, (t, wide(t))) for name in names for t in ("float32", "float64", "float16")]
        jobs += [(source, instances, arch) for arch in architectures]
    return compile_jobs(jobs, architectures)


def compile_jobs(jobs: list[tuple], architectures: Sequence[str]) -> list[Figures]:
    unknown = [arch for arch in architectures if arch not in ARCHITECTURES]
    if unknown:
        raise ArgumentError(f"kernels: expected architectures among {', '.join(ARCHITECTURES)}, got {', '.join(unknown)}. "
                            "Correct --arch.")
    version()                                              # the error about a missing NVRTC comes once, from here
    with ThreadPoolExecutor(os.cpu_count()) as pool:       # NVRTC compiles several at once
        return [f for found in pool.map(lambda job: figures(*job), jobs) for f in found]


def run_hot(compiled: Iterable[Figures]) -> list[Hot]:
    """One simulated launch of each hot kernel, beside its figures on the architectures that were compiled."""
    by_name: dict[str, list[Figures]] = {}
    for f in compiled:
        by_name.setdefault(f.expression, []).append(f)
    hot = []
    for probe in probes():
        counters = probe.run(SHOWN_ARCH)
        found = by_name[probe.expression]
        moved = counters.unique_bytes_read + counters.unique_bytes_written
        hot.append(Hot(probe.expression, probe.file, probe.elements, moved / probe.elements, probe.least, probe.most,
                       probe.threads, {f.arch: f.registers for f in found},
                       {f.arch: occupancy(f.registers, f.shared, probe.threads, f.arch) for f in found},
                       min(f.wide_loads for f in found), min(f.wide_stores for f in found), counters.sector_efficiency,
                       counters.bank_conflicts, counters.local_bytes, sum(counters.warp_instructions.values()),
                       LEAST_OCCUPANCY.get(probe.kernel, OCCUPANCY)))
    return hot


def problems(compiled: Iterable[Figures], hot: Iterable[Hot]) -> list[str]:
    """Every regression, one line each; none where the gate is passed."""
    return [f"{f.expression} on {f.arch} {p}" for f in compiled for p in without_library(f).problems] + [
        f"{h.expression} {p}" for h in hot for p in h.problems]


def without_library(f: Figures) -> Figures:
    """The figures less what CUDA's own functions take, where the kernel calls them and they take no more than LIBRARY_BYTES."""
    known = f.kernel in LIBRARY and f.file not in INSTANCES and f.stack + f.spilled <= LIBRARY_BYTES
    return replace(f, stack=0, spilled=0) if known else f


HEADS = ("kernel", "bytes/element", "least", "floor", "registers", "occupancy", "128-bit", "sectors", "conflicts")


def rows(hot: Iterable[Hot]) -> list[tuple[str, ...]]:
    """HEADS, filled in. Registers, and occupancy, as lowest-highest over the architectures."""
    return [(h.expression, f"{h.bytes:.2f}", f"{h.least_bytes:.2f}", f"{h.floor_us:.2f}", span(h.registers.values(), "{:d}"),
             span(h.occupancy.values(), "{:.0%}"), f"{h.wide_loads}+{h.wide_stores}", f"{h.sector_efficiency:.0%}",
             str(h.bank_conflicts)) for h in hot]


def span(values: Iterable, form: str) -> str:
    values = sorted(values)
    ends = [form.format(v) for v in (values[0], values[-1])]
    return ends[0] if ends[0] == ends[1] else "-".join(ends)


def summary(compiled: Sequence[Figures]) -> list[str]:
    """What holds for all instantiations."""
    architectures = sorted({f.arch for f in compiled}, key=ARCHITECTURES.index)
    most = max(compiled, key=lambda f: f.registers)
    totals = Counter[str]()
    for f in map(without_library, compiled):
        totals.update(spilled=f.spilled, stack=f.stack, atomics=f.float_atomics)
    written = {f.expression for f in compiled if f.file in INSTANCES}
    generated = {f.expression for f in compiled if f.file not in INSTANCES}
    return [f"{len(written)} instantiations of {len(INSTANCES)} files and {len(generated)} of generated kernels, for "
            f"{', '.join(architectures)}, NVRTC {version()}: {totals['spilled']} bytes spilled, {totals['stack']} bytes of local "
            f"memory besides {LIBRARY_BYTES} that CUDA's sin, erf and their like may take, {totals['atomics']} float atomics; "
            f"most registers {most.registers} ({most.expression}, {most.arch}).",
            "Hot kernels: float32, vector path, rows of 1024; bytes, sectors and conflicts counted on the simulated device. "
            f"floor: us for a million elements at {H100.bandwidth / 1e12:g} TB/s ({H100.name}, {H100.source}), modelled. "
            "128-bit: loads+stores in the PTX. Registers and occupancy: lowest-highest over the architectures."]


def show(compiled: Sequence[Figures], hot: Sequence[Hot]) -> str:
    """The table and its summary as plain text."""
    cells = [HEADS, *rows(hot)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(HEADS))]
    lines = ["  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths))).rstrip()
             for row in cells]
    return "\n".join([*lines, "", *summary(compiled)])


def as_dict(compiled: Sequence[Figures], hot: Sequence[Hot]) -> dict[str, Any]:
    """Everything the gate found, ready for JSON."""
    return {"nvrtc": version(), "instances": [asdict(f) for f in compiled],
            "hot": [asdict(h) | {"floor_us_per_million": h.floor_us, "floor": "modelled"} for h in hot],
            "problems": problems(compiled, hot)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `gpugrad kernels`."""
    parser.add_argument("--arch", default=",".join(ARCHITECTURES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, each instantiation too")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options say; 1 where a kernel got worse."""
    architectures = args.arch.split(",")
    compiled = [*compile_all(architectures), *compile_generated(architectures)]
    hot = run_hot(compiled)
    print(json.dumps(as_dict(compiled, hot)) if args.json else show(compiled, hot))
    found = problems(compiled, hot)
    if found and not args.json:
        print("\n".join(["", "REGRESSIONS", *found]))
    return 1 if found else 0
