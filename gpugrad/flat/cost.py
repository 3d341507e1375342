"""What a run of a program takes, known before it runs: work, memory, and a time modelled for a named machine.

A program is a list of steps. On a GPU a step is a launch; on the CPU it is a call of a loop, of NumPy or of BLAS. Views are none.
A program that was traced for one kind of machine is counted for the other as if it were compiled from the same operations there.

    bytes     of a step: each array that it reads, once, and each that it stores, once; what stays in a loop is not moved
    flops     two for each product of a matmul; else one for each element of an operation's largest array
    saved     bytes of what forward steps store and backward steps read
    peak      bytes alive at once, at most, of all that steps store; arguments, what is made in their place, and constants apart
    time_us   start_us + sum over steps of (step_us + max(bytes / bandwidth, flops / float32)): modelled
    floor_us  max(bytes of arguments and results / bandwidth, flops / float32): each read or written once, in no time beside
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.kernels.card import H100, TWO_CORES, Card
from gpugrad.kernels.record import columns, scaled

#: Operations that look at an array in another way.
VIEWS = frozenset(("alias", "diagonal", "flip", "matrix_transpose", "moveaxis", "reshape", "spread", "transpose"))
#: Those that read as many elements of the argument as they make, not all of them.
PARTIAL = frozenset(("gather", "getitem", "take_along_axis"))


class Work(NamedTuple):
    """A step: its operations, what it reads and stores, and the size of that."""

    ops: tuple[Op, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    bytes: int
    flops: int

    @property
    def name(self) -> str:
        names = [op.name for op in self.ops if op.name not in VIEWS] or [op.name for op in self.ops]
        return " ".join(names if len(names) < 7 else [*names[:3], "…", *names[-3:]])

    def time_us(self, card: Card) -> float:
        return card.step_us + card.work_us(self.bytes, self.flops)


@dataclass(frozen=True)
class Side:
    """The cost on one machine; see this file's text."""

    card: Card
    launches: int
    bytes: int
    saved: int
    peak: int
    time_us: float
    floor_us: float


@dataclass(frozen=True)
class Cost:
    """What a run takes. `launches`, `bytes`, `saved` and `peak` are those of the machine that the program is for.

    operations  of the simplified program
    flops       of all of them
    arguments   bytes of what goes in
    results     bytes of what comes out
    constants   bytes of what the program holds
    on_cpu      the Side of 2 CPU cores, modelled
    on_gpu      the Side of an H100 SXM, modelled
    no_graph    why a run on a GPU is launch by launch, not one CUDA graph; None where it is one, or has not been tried
    """

    name: str
    backend: str
    operations: int
    flops: int
    arguments: int
    results: int
    constants: int
    on_cpu: Side
    on_gpu: Side
    no_graph: str | None = None

    @property
    def here(self) -> Side:
        return self.on_gpu if self.backend == "cuda" else self.on_cpu

    launches = property(lambda self: self.here.launches)
    bytes = property(lambda self: self.here.bytes)
    saved = property(lambda self: self.here.saved)
    peak = property(lambda self: self.here.peak)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is modelled says so."""
        return asdict(self) | {side: {("modelled_" + k if k.endswith("_us") else k): v._asdict() if isinstance(v, Card) else v
                                      for k, v in vars(getattr(self, side)).items()} for side in ("on_cpu", "on_gpu")}

    def __str__(self) -> str:
        sides = (self.on_cpu, self.on_gpu)
        rows = [("", *(s.card.name for s in sides)),
                ("launches", *(f"{s.launches:,}" for s in sides)),
                ("bytes moved", *(scaled(s.bytes, "B") for s in sides)),
                ("saved for backward", *(scaled(s.saved, "B") for s in sides)),
                ("peak memory", *(scaled(s.peak, "B") for s in sides)),
                ("time, modelled", *(f"{microseconds(s.time_us)}" for s in sides)),
                ("floor, modelled", *(f"{microseconds(s.floor_us)}" for s in sides))]
        return (f"{self.name}, for {self.backend}: {self.operations} operations, {scaled(self.flops, 'flop')}; arguments "
                f"{scaled(self.arguments, 'B')}, results {scaled(self.results, 'B')}, constants {scaled(self.constants, 'B')}\n"
                f"{columns(rows, left=1)}\n" + "; ".join(f"{s.card.name}: {s.card.rates}" for s in sides)
                + (f"\nno CUDA graph: {self.no_graph}" if self.no_graph else ""))


def microseconds(t: float) -> str:
    return f"{t:,.0f} us" if t >= 1000 else f"{t:.3g} us"


def cost(name: str, backend: str, graph: Graph, laid_out: Graph, steps: Sequence, in_place: Iterable[Value]) -> Cost:
    """The cost of a program with these steps, which are of `laid_out`, what its backend has made of the simplified `graph`.

    in_place  the results that are made in an argument's memory
    """
    from gpugrad.flat.cuda_fuse import fuse
    from gpugrad.flat.emit_cuda import for_launches
    from gpugrad.flat.tiles import grouped
    on_gpu = steps if backend == "cuda" else fuse(for_launches(graph, False, False))
    on_cpu = grouped(graph) if backend == "cuda" else steps
    total, in_place = sum(map(flops, graph.ops)), set(in_place)
    moved = sum(x.nbytes for x in {*graph.inputs, *graph.outputs})
    return Cost(name, backend, len(graph.ops), total, sum(x.nbytes for x in graph.inputs),
                sum(v.nbytes for v in dict.fromkeys(graph.outputs)), sum(held(c) for c in graph.constants.values()),
                side(TWO_CORES, laid_out, on_cpu, in_place, moved, total), side(H100, graph, on_gpu, in_place, moved, total))


def side(card: Card, graph: Graph, steps: Sequence, in_place: set[Value], moved: int, total: int) -> Side:
    whole = worked(graph, steps)
    works = [w for w in whole if not is_view(w)]
    return Side(card, len(works), sum(w.bytes for w in works), saved(works), peak(graph, whole, in_place),
                card.start_us + sum(w.time_us(card) for w in works), card.work_us(moved, total))


def operations(step: Any) -> tuple[Op, ...]:
    return (step,) if isinstance(step, Op) else tuple(step.ops)


def worked(graph: Graph, steps: Sequence) -> list[Work]:
    """The steps with what they read and store."""
    made_by: dict[Value, int] = {}
    for i, step in enumerate(steps):
        for op in operations(step):
            for y in op.outputs:
                made_by.setdefault(y, i)
    stored = {x for i, step in enumerate(steps) for op in operations(step) for x in op.values if made_by.get(x, i) != i}
    stored.update(graph.outputs)
    found = []
    for i, step in enumerate(steps):
        ops = operations(step)
        reads = {x: min(size_read(x, op, graph) for op in ops if x in op.args) for op in ops for x in op.values
                 if made_by.get(x, -1) != i}
        writes = tuple(dict.fromkeys(y for op in ops for y in op.outputs if y in stored and made_by[y] == i))
        found.append(Work(ops, tuple(reads), writes, sum(reads.values()) + sum(y.nbytes for y in writes), sum(map(flops, ops))))
    return found


def size_read(x: Value, op: Op, graph: Graph) -> int:
    """Bytes of an argument that the operation reads."""
    constant = graph.constants.get(x)
    if constant is not None:
        return held(constant)
    return min(x.nbytes, op.outputs[0].nbytes) if op.name in PARTIAL and op.args and x is op.args[0] else x.nbytes


def held(constant: numpy.ndarray) -> int:
    """Bytes of a constant; one number that was broadcast is one."""
    return constant.nbytes if any(constant.strides) or constant.size < 2 else constant.itemsize


def is_view(work: Work) -> bool:
    return all(op.name in VIEWS for op in work.ops)


def flops(op: Op) -> int:
    """Two for each product of a matmul, none for a view, else one for each element of the largest array."""
    if op.name in VIEWS:
        return 0
    if any(word in op.name for word in ("matmul", "linear", "product")) and op.values:
        a = op.args[0]
        if isinstance(a, Value) and a.ndim:
            return 2 * max(y.size for y in op.outputs) * a.shape[-1]
    return max([v.size for v in (*op.values, *op.outputs)], default=0)


def saved(works: Sequence[Work]) -> int:
    """Bytes that forward steps store and backward steps read."""
    forward = {y for w in works for y in w.writes if y.op is not None and y.op.forward is None}
    read = {x for w in works for op in w.ops if op.forward is not None for x in op.values if x in w.reads}
    return sum(x.nbytes for x in forward & read)


def looked_at(works: Sequence[Work]) -> dict[Value, Value]:
    """What each view looks at."""
    root: dict[Value, Value] = {}
    for w in works:
        if is_view(w):
            for op in w.ops:
                root.update({y: root.get(op.args[0], op.args[0]) for y in op.outputs})
    return root


def peak(graph: Graph, works: Sequence[Work], in_place: set[Value]) -> int:
    """The most bytes alive at once of what the steps store. A view keeps what it looks at."""
    root = looked_at(works)
    last: dict[Value, int] = {}
    for i, w in enumerate(works):
        for x in (*w.reads, *w.writes):
            last[root.get(x, x)] = i
    last.update({root.get(x, x): len(works) for x in graph.outputs})
    alive = most = 0
    dying: dict[int, int] = {}
    for i, w in enumerate(works):
        for y in w.writes:
            if y not in root and y not in in_place:
                alive += y.nbytes
                dying[last[y]] = dying.get(last[y], 0) + y.nbytes
        most = max(most, alive)
        alive -= dying.pop(i, 0)
    return most


class Kernel(NamedTuple):
    """A step of a program: what it does, reads and stores (of a view, what it looks at). `text` is what runs, CUDA C++ or LLVM's
    text, for a fused group of loops or a kernel; else it is the operations."""

    number: int
    name: str
    ops: tuple[Op, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    bytes: int
    flops: int
    time_us: float
    text: str

    def __str__(self) -> str:
        return (f"{self.number}  {self.name}: {len(self.ops)} operations, {scaled(self.bytes, 'B')}, "
                f"{scaled(self.flops, 'flop')}, {microseconds(self.time_us)} modelled\n{self.text}")


def kernels(graph: Graph, steps: Sequence, backend: str) -> list[Kernel]:
    """The steps of a program as they run, views left out."""
    works, card = worked(graph, steps), H100 if backend == "cuda" else TWO_CORES
    root = looked_at(works)
    return [Kernel(i, w.name, w.ops, tuple(dict.fromkeys(root.get(x, x) for x in w.reads)), w.writes, w.bytes, w.flops,
                   w.time_us(card), text_of(graph, step, w, backend))
            for i, (w, step) in enumerate(zip(works, steps, strict=True)) if not is_view(w)]


def text_of(graph: Graph, step: Any, work: Work, backend: str) -> str:
    """What runs for a fused step; the operations of any other."""
    if isinstance(step, Op) or backend == "numpy":
        return "\n".join(map(repr, work.ops))
    if backend == "llvm":
        from gpugrad.flat.llvm import Module
        from gpugrad.flat.loops import nest
        module = Module()
        nest(step, set(work.writes), module)
        return module.text()
    from gpugrad.flat.cuda_kernels import Formulas, RowKernel, name_of
    from gpugrad.flat.formulas import uniform
    from gpugrad.kernels.elementwise import Elementwise, source_of
    numbers = {v: number for v, c in graph.constants.items() if (number := uniform(c)) is not None}
    formulas = Formulas(step, numbers)
    if step.tail:
        return RowKernel(step, formulas, list(work.writes)).source.text
    kernel = Elementwise(name_of(step), [formulas.of(y) for y in work.writes])
    return source_of(kernel.name, kernel.inputs, *kernel.body, len(kernel.numbers), -1).text
