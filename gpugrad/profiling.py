"""`gg.profile()`: what a piece of code launched on the device, where its time went on the CPU, and what was compiled.

    with gg.profile() as p:
        step()
    print(p)                     # a table; p.launches, p.bytes, p.flops, p.syncs, p.operations, p.to_json()

On a GPU, and on the simulated one, `launches` are kernels and library products with grid, block and bytes. On the CPU,
`operations` are primitives, forward and backward, with measured times: each its own, what it called taken off. A program of
`gg.compile` is one operation, and `compilations` say when and why one was made, and how long each stage took.
"""
from __future__ import annotations

import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

import numpy

from gpugrad.arrays import is_array
from gpugrad.graph.namespace import PRIMITIVES, RAW
from gpugrad.kernels.card import H100
from gpugrad.kernels.record import Launch, Log, columns, recording, scaled


@dataclass(slots=True)
class Operation:
    """All calls of one primitive, or of its pullback ("tanh backward"). Bytes: each array taken and each array made, once."""

    name: str
    calls: int = 0
    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(slots=True)
class Compilation:
    """A program that `gg.compile` made.

    name, backend  of the program; number: which of its function's
    reason         what differs from the most similar call before
    seconds        measured: trace, simplify, emit, compile, each its own
    found, made    how many pieces of machine code were on disk, and how many were compiled
    """

    name: str
    backend: str
    number: int
    reason: str
    seconds: dict[str, float]
    found: int
    made: int

    @property
    def cells(self) -> tuple[str, ...]:
        stages = [self.seconds.get(name, 0.0) for name in STAGES]
        cache = "-" if not self.found + self.made else "miss" if self.made else "hit"
        return (f"{self.name} #{self.number}", self.backend, *(f"{s * 1e3:,.1f}" for s in (*stages, sum(stages))), cache)


STAGES = ("trace", "simplify", "emit", "compile")


class Profile:
    """What `profile` found. Ask once its `with` has ended.

    compilations a Compilation for each program that was made, in order
    operations   an Operation for each primitive that ran on NumPy arrays, the slowest first
    seconds      the whole `with`, by the wall clock
    syncs        times the host waited for the device; None on a real GPU, where CuPy does not tell
    """

    def __init__(self) -> None:
        self.log = Log()
        self.seconds = 0.0
        self.compilations: list[Compilation] = []
        self.syncs: int | None = 0
        self._operations: dict[str, Operation] = {}
        self._inner = [0.0]                               # seconds spent in what each running operation called

    @property
    def launches(self) -> list[Launch]:
        """What reached the device: name, kind, grid, block, bytes_read, bytes_written, flops. Ours in order, then CuPy's own
        kernels, which only the simulated device tells."""
        return self.log.launches

    @property
    def operations(self) -> list[Operation]:
        return sorted(self._operations.values(), key=lambda o: (-o.seconds, o.name))

    @property
    def bytes(self) -> int:
        """Bytes that the launches read and wrote, each array once; without launches, the operations'."""
        return sum(x.bytes_read + x.bytes_written for x in self.launches or self.operations)

    @property
    def flops(self) -> int:
        """Floating-point operations of the launches that state them."""
        return sum(x.flops for x in self.launches)

    @property
    def floor_us(self) -> float:
        """Modelled: the launches one after another on an H100 SXM, each at its advertised bandwidth or float32 rate."""
        return sum(H100.work_us(x.bytes_read + x.bytes_written, x.flops) for x in self.launches)

    def to_json(self) -> str:
        """Everything, as JSON; `floor_us` is modelled, `seconds` measured."""
        return json.dumps(self.log.as_dict() | {
            "operations": [asdict(o) for o in self.operations], "compilations": [asdict(c) for c in self.compilations],
            "seconds": self.seconds, "syncs": self.syncs,
            "bytes": self.bytes, "flops": self.flops, "floor_us_modelled": self.floor_us})

    def __str__(self) -> str:
        parts = []
        if self.launches:
            syncs = "unknown" if self.syncs is None else self.syncs
            heads = ("launch", "kind", "calls", "grid", "block", "read", "written", "flops")
            parts.append(columns([heads, *launch_rows(self.log)], left=2)
                         + f"\n{len(self.launches)} launches, {scaled(self.bytes, 'B')}, {scaled(self.flops, 'flop')}; "
                         f"host waits: {syncs}; modelled floor {self.floor_us:.3g} us ({H100.name}, "
                         f"{H100.rates})")
        if self.operations:
            rows = [(o.name, str(o.calls), f"{o.seconds * 1e6:,.1f}", scaled(o.bytes_read, "B"), scaled(o.bytes_written, "B"))
                    for o in self.operations]
            spent = sum(o.seconds for o in self.operations)
            parts.append(columns([("operation on the CPU", "calls", "us", "read", "written"), *rows])
                         + f"\n{spent * 1e6:,.1f} us in operations of {self.seconds * 1e6:,.1f} us, the profiler's own cost "
                         "included")
        if self.compilations:
            titles = ("compiled", "for", *(f"{name} ms" for name in STAGES), "total ms", "disk cache")
            parts.append(columns([titles, *(c.cells for c in self.compilations)], left=2) + "\n"
                         + "\n".join(f"{c.name} #{c.number}: {c.reason}" for c in self.compilations))
        return "\n\n".join(parts) or "nothing ran"

    def run(self, name: str, function: Callable, args: tuple, kwargs: dict, arrays: tuple) -> Any:
        """Call, and put the call's own time under `name`."""
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            result = function(*args, **kwargs)
        finally:
            took = time.perf_counter() - start
            own = took - self._inner.pop()
            self._inner[-1] += took
        operation = self._operations.setdefault(name, Operation(name))
        operation.calls += 1
        operation.seconds += own
        operation.bytes_read += size_of(arrays)
        operation.bytes_written += size_of(result, fresh=True)
        return result


_PROFILES: ContextVar[tuple[Profile, ...]] = ContextVar("gpugrad_profiles", default=())


@contextmanager
def profile() -> Iterator[Profile]:
    """Record the launches and the operations inside the `with`, in this thread; see the module's text."""
    found = Profile()
    token = _PROFILES.set((*_PROFILES.get(), found))
    undo = watch()
    _WATCHES.append(undo)
    simulated = sys.modules.get("gpugrad.cudasim.cupy.log")
    start = time.perf_counter()
    try:
        with recording() as found.log, simulated.recording() if simulated else nullcontext() as theirs:
            yield found
    finally:
        found.seconds = time.perf_counter() - start
        if theirs is not None:
            found.log.launches += unseen(found.launches, theirs.launches)
            found.syncs = theirs.waits
        elif found.launches and "cupy" in sys.modules:
            found.syncs = None
        _WATCHES.remove(undo)
        for put_back in reversed(undo):
            put_back()
        _PROFILES.reset(token)


#: How to take off the timers of each profile that is open.
_WATCHES: list[list[Callable[[], None]]] = []


@contextmanager
def unwatched() -> Iterator[None]:
    """Run the body without timers: what is compiled there must not keep them."""
    for undo in reversed(_WATCHES):
        for put_back in reversed(undo):
            put_back()
    try:
        yield
    finally:
        for undo in _WATCHES:
            undo[:] = watch()


def note(compilation: Compilation) -> None:
    """Tell the profiles that are open."""
    for found in _PROFILES.get():
        found.compilations.append(compilation)


def watch() -> list[Callable[[], None]]:
    """Put timers round every primitive's function on NumPy arrays and its pullback; returns how to take them off."""
    undo: list[Callable[[], None]] = []
    raw = RAW[numpy.ndarray]
    for name in PRIMITIVES:
        getattr(raw, name)                                 # looked up now: what a pullback calls on arrays is the pullback's own
    optim = sys.modules.get("gpugrad.optim")
    tables = [(p.name, p.impls) for p in PRIMITIVES.values()]
    tables += [("Adam step", optim.adam.ADAM_ON), ("SGD step", optim.sgd.SGD_ON)] if optim else []
    for name, table in tables:
        function = table[numpy.ndarray]
        timed = table[numpy.ndarray] = timer(name, function)
        undo.append(functools.partial(replace, table, timed, function))
    for prim in PRIMITIVES.values():
        if prim.vjp is not None:
            undo.append(functools.partial(setattr, prim, "pull", prim.pull))
            prim.pull = pull_timer(f"{prim.name} backward", prim.pull)
    programs = sys.modules.get("gpugrad.flat.program")
    if programs is not None:
        plain = programs.Program.__call__
        undo.append(functools.partial(setattr, programs.Program, "__call__", plain))
        programs.Program.__call__ = program_timer(plain)
    return undo


def replace(table: dict, old: Any, new: Any) -> None:
    """Put `new` wherever the table has `old`: it may have been copied to other array types meanwhile."""
    for key in [key for key, value in table.items() if value is old]:
        table[key] = new


def timer(name: str, function: Callable) -> Callable:
    def timed(*args: Any, **kwargs: Any) -> Any:
        profiles = _PROFILES.get()
        return profiles[-1].run(name, function, args, kwargs, args) if profiles else function(*args, **kwargs)
    return timed


def pull_timer(name: str, pull: Callable) -> Callable:
    def timed(m: Any, g: Any, want: Any, y: Any, xs: Any, params: dict) -> Any:
        profiles = _PROFILES.get()
        if not profiles or type(g) is not numpy.ndarray:
            return pull(m, g, want, y, xs, params)
        return profiles[-1].run(name, pull, (m, g, want, y, xs, params), {}, (g, y, xs))
    return timed


def program_timer(plain: Callable) -> Callable:
    def timed(program: Any, arguments: Any) -> Any:
        profiles = _PROFILES.get()
        if not profiles:
            return plain(program, arguments)
        return profiles[-1].run(f"{program.name} (compiled)", plain, (program, arguments), {}, tuple(arguments))
    return timed


def size_of(value: Any, fresh: bool = False) -> int:
    """Bytes of the arrays in a value; with `fresh`, views count nothing."""
    if isinstance(value, tuple | list):
        return sum(size_of(v, fresh) for v in value)
    if not is_array(value) or fresh and getattr(value, "base", None) is not None:
        return 0
    return int(value.nbytes)


def unseen(ours: list[Launch], theirs: list) -> list[Launch]:
    """Of the launches that the simulated device saw, those that are not among ours: CuPy's own."""
    inside = [part for x in theirs for part in getattr(x, "below", ()) or (x,)]           # a graph's launches are in it
    theirs = [x for x in inside if x.name != "cublasLtMatmul"]
    known = Counter(x.name if x.kind == "kernel" else "gemm" for x in ours if x.kind in ("kernel", "cupy"))
    rest = []
    for x in theirs:
        name = "gemm" if x.kind == "gemm" else x.name
        if x.kind != "cupy" and known[name]:
            known[name] -= 1
        else:
            rest.append(Launch(x.name, x.kind, x.grid, x.block, x.bytes_read, x.bytes_written))
    return rest


def launch_rows(log: Log) -> list[tuple[str, ...]]:
    """The cells of one row per name, kind, grid and block, the most bytes first."""
    rows: dict[tuple, list[int]] = {}
    for x in log.launches:
        row = rows.setdefault((x.name, x.kind, x.grid, x.block), [0, 0, 0, 0])
        for k, n in enumerate((1, x.bytes_read, x.bytes_written, x.flops)):
            row[k] += n
    ordered = sorted(rows.items(), key=lambda item: -(item[1][1] + item[1][2]))
    return [(name, kind, str(calls), shape_text(grid), shape_text(block), scaled(read, "B"), scaled(written, "B"),
             scaled(flops, "flop")) for (name, kind, grid, block), (calls, read, written, flops) in ordered]


def shape_text(shape: tuple[int, ...]) -> str:
    """(4, 2, 1) as 4x2; () as a dash."""
    sizes = list(shape)
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return "x".join(map(str, sizes)) or "-"
