"""Memory: which values of a program share a buffer. One arena is made once; a run allocates its outputs alone."""
from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy

from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.threads import WORKERS
from gpugrad.flat.tiles import (
    ALONG,
    COLUMN_PRODUCTS,
    ELEMENTWISE,
    LAST,
    REDUCTIONS,
    ROW_PRODUCTS,
    VIEWS,
    Step,
    Tile,
    grouped,
    is_elementwise,
)

#: Arrays begin at a multiple of this many bytes: a cache line.
ALIGNMENT = 64
#: Operations that always make a new array, beside those that can be told where.
FRESH = frozenset(("mean", "astype", "concatenate", "stack", "gather", "pad", "var", "scatter", "scatter_add", "scatter_set",
                   "setitem", "cumsum", "cumprod", COLUMN_PRODUCTS))


class Plan(NamedTuple):
    """place   value -> byte in the arena where it begins; absent: the run makes it
    nbytes  the size of the arena
    peak    bytes of all values that are alive at once, at most: what any plan needs
    scratch value that lives in a tile -> byte in its thread's scratch
    thread  the size of the scratch of one thread
    threads how many work on tiles
    """

    place: dict[Value, int]
    nbytes: int
    peak: int
    scratch: dict[Value, int]
    thread: int
    threads: int

    @property
    def kept(self) -> int:
        """Bytes that the program holds between runs."""
        return self.nbytes + self.threads * self.thread


def writes_out(op: Op) -> bool:
    """True for operations that can write a result where they are told, whatever that held."""
    return target(op) is not None


def target(op: Op) -> Value | None:
    """The output that the operation writes where it is told."""
    if isinstance(op.function, numpy.ufunc):
        takes = op.function.nout == 1 and not op.params and any(True for _ in op.values)
    else:
        takes = (op.name in ("matmul", ROW_PRODUCTS) or (op.name in REDUCTIONS and len(op.args) == 1)
                 or (op.name in ELEMENTWISE | LAST | ALONG and takes_out(op.function)))
    return (op.outputs[1] if op.name == "cross_entropy" else op.outputs[0]) if takes else None


@functools.cache
def takes_out(function: Callable | None) -> bool:
    """Whether a function of the package's own has a parameter `out`."""
    home = getattr(function, "__module__", None) or ""
    return function is not None and home.startswith("gpugrad.kernels") and "out" in inspect.signature(function).parameters


def in_place(op: Op) -> bool:
    """Whether the result may take the place of an argument of its shape and dtype: each element is read before it is written."""
    return is_elementwise(op.function)


def makes_new(op: Op) -> bool:
    """True where no result shares memory with an argument."""
    home = getattr(op.function, "__module__", None) or ""
    return writes_out(op) or op.name in FRESH or home.startswith("gpugrad.kernels")


def last_uses(steps: Sequence[Step], graph: Graph) -> dict[Value, int]:
    """The index of the last step for which the memory of each value must stay: views keep what they view."""
    last: dict[Value, int] = {v: len(steps) for v in graph.outputs}
    for i in range(len(steps) - 1, -1, -1):
        step = steps[i]
        new = isinstance(step, Tile) or makes_new(step)
        end = i if new else max([i, *[last.get(v, i) for v in step.outputs]])
        for x in step.values:
            last[x] = max(last.get(x, 0), end)
    return last


def viewed(graph: Graph) -> dict[Value, set[Value]]:
    """For each value that may be a view: all that it may be a view of."""
    found: dict[Value, set[Value]] = {}
    for op in graph.ops:
        if not makes_new(op):
            sources = set(op.values) | {s for x in op.values for s in found.get(x, ())}
            found.update(dict.fromkeys(op.outputs, sources))
    return found


def plan(graph: Graph, steps: Sequence[Step] | None = None) -> Plan:
    """First fit by lifetime. An elementwise result takes the place of an input that dies with it."""
    steps = grouped(graph) if steps is None else steps
    last, views = last_uses(steps, graph), viewed(graph)
    arena = Arena()
    scratch: dict[Value, int] = {}
    thread = 0
    dying: dict[int, list[Value]] = {}
    for i, step in enumerate(steps):
        if isinstance(step, Tile):
            inner = plan_tile(step)
            scratch |= inner.place
            thread = max(thread, inner.top)
        placed = targets(step) if isinstance(step, Tile) else [target(step)]
        for y in placed:
            if y is None or last.get(y, i) >= len(steps):              # nowhere, or it, or a view of it, is a result
                continue
            heir = next((x for x in dying.get(i, ()) if last.get(x) == i and may_replace(step, y, x, views)), None)
            if heir is not None:
                arena.place[y] = arena.place[heir]
                dying[i].remove(heir)
            else:
                arena.put(y, y.nbytes)
            dying.setdefault(max(last.get(y, i), i), []).append(y)
        for x in dying.pop(i, ()):
            arena.free(x, x.nbytes)
    threads = min(WORKERS, max([step.tiles for step in steps if isinstance(step, Tile)], default=0))
    return Plan(arena.place, arena.top, arena.peak, scratch, thread, threads)


def targets(tile: Tile) -> list[Value | None]:
    """What a group makes that outlives a tile. Its parts come after the values that may take an input's place."""
    return [*[v for v in tile.outputs if v not in tile.parts], *tile.parts.values(),
            *[v for v in tile.parts if v.op is not None and target(v.op) is v]]


def may_replace(step: Step, y: Value, x: Value, views: dict[Value, set[Value]]) -> bool:
    """Whether y can be made in the memory of x: same layout, and no element of x is read, also by a view, once y's is there."""
    if x.shape != y.shape or x.dtype != y.dtype or y.op is None or x not in step.values:
        return False
    if isinstance(step, Op):
        return in_place(step)                             # NumPy sees to views among the arguments of one operation
    if x in step.whole or y in step.parts or any(x in views.get(v, ()) for v in step.values):
        return False
    at = step.ops.index(y.op)
    last = max(i for i, op in enumerate(step.ops) if any(a is x or x in views.get(a, ()) for a in op.values))
    return last < at or (last == at and in_place(y.op))


def plan_tile(tile: Tile) -> Arena:
    """The values that a tile makes and nobody else reads, in one thread's scratch."""
    last: dict[Value, int] = {}
    for i in range(len(tile.ops) - 1, -1, -1):
        op = tile.ops[i]
        end = i if makes_new(op) and op.name not in VIEWS else max([i, *[last.get(v, i) for v in op.outputs]])
        for x in op.values:
            last[x] = max(last.get(x, 0), end)
    arena = Arena()
    dying: dict[int, list[Value]] = {}
    for i, op in enumerate(tile.ops):
        y = target(op)
        if y is not None and y not in tile.outputs and not tile.roles[op].partial:
            heir = next((x for x in dying.get(i, ()) if in_place(op) and x in op.values and x.shape == y.shape
                         and x.dtype == y.dtype), None)
            if heir is not None:
                arena.place[y] = arena.place[heir]
                dying[i].remove(heir)
            else:
                arena.put(y, tile.nbytes(y))
            dying.setdefault(last.get(y, i), []).append(y)
        for x in dying.pop(i, ()):
            arena.free(x, tile.nbytes(x))
    return arena


class Arena:
    """Blocks of memory, in use and free.

    place  value -> where its block begins      top  how far the blocks reach      peak  bytes in use at once, at most
    """

    def __init__(self) -> None:
        self.place: dict[Value, int] = {}
        self.blocks: list[tuple[int, int]] = []           # free: (start, size), by start; what is beyond `top` is free too
        self.top = self.alive = self.peak = 0

    def put(self, v: Value, nbytes: int) -> None:
        """The smallest free block that is large enough, or new ground."""
        size = aligned(nbytes)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        fitting = [(n, start) for start, n in self.blocks if n >= size]
        if not fitting:
            start = self.blocks.pop()[0] if self.blocks and sum(self.blocks[-1]) == self.top else self.top
            self.top = start + size                       # the last free block grows
        else:
            n, start = min(fitting)
            self.blocks.remove((start, n))
            if n > size:
                self.give(start + size, n - size)
        self.place[v] = start

    def free(self, v: Value, nbytes: int) -> None:
        size = aligned(nbytes)
        self.alive -= size
        self.give(self.place[v], size)

    def give(self, start: int, size: int) -> None:
        """Put a block back, joined with its neighbours."""
        for block in list(self.blocks):
            if sum(block) == start:
                self.blocks.remove(block)
                start, size = block[0], size + block[1]
            elif start + size == block[0]:
                self.blocks.remove(block)
                size += block[1]
        self.blocks.append((start, size))
        self.blocks.sort()


def aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
