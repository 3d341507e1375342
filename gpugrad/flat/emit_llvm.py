"""Programs on the CPU: fused loops over all cores, BLAS between them, every buffer in place before the first run.

`emit(graph)` compiles. A run makes no arrays but the program's outputs and what single NumPy operations return.
"""
from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.expand import OWN, expand
from gpugrad.flat.fuse import Group, fuse, operations, stored
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.llvm import Library, Module
from gpugrad.flat.loops import Nest, is_heavy, nest, partial_element, turn
from gpugrad.graph.primitive import PRIMITIVES

#: Elements read, written or worked on, from which a second thread pays for being woken.
PARALLEL = 1 << 19
WORKERS = min(os.cpu_count() or 1, 16)
#: Results of these never share memory with what they were made from; those of others may.
FRESH = frozenset(("matmul", "einsum", "concatenate", "stack", "scatter", "scatter_add", "gather", "cumsum", "cumprod"))
VIEWS = frozenset(("reshape", "transpose", "alias", "matrix_transpose"))

Env = list[Any]
_pool: ThreadPoolExecutor | None = None


def pool() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(WORKERS - 1, "gpugrad")
    return _pool


class Loops(NamedTuple):
    """run    list of input arrays -> list of output arrays
    steps  what it does, in order: groups, and operations that NumPy does
    homes  output -> the input in whose memory it is made
    text   of all loops, as LLVM reads it
    """

    run: Callable[[list], list]
    steps: list[Group | Op]
    homes: dict[Value, Value]
    text: str


def emit(graph: Graph, homes: dict[Value, Value] | None = None) -> Loops:
    """The program compiled. homes: output -> the input that it is to overwrite, where no one reads the input any more."""
    graph = expand(graph)
    steps = fuse(graph)
    homes = at_home(steps, graph, homes or {})
    kept = stored(steps, graph.outputs)
    module = Module()
    nests = {i: nest(step, kept, module) for i, step in enumerate(steps) if isinstance(step, Group)}
    text = module.text()
    library = Library(text) if nests else None
    memory = Memory(graph, steps, kept, homes)
    todo: list[Callable[[Env], None]] = []
    for i, step in enumerate(steps):
        if isinstance(step, Op):
            todo += single_step(step, memory)
        elif library is not None:
            todo.append(group_step(step, nests[i], library, memory))
    return Loops(runner(graph, todo, memory), steps, homes, text)


def at_home(steps: list[Group | Op], graph: Graph, wanted: dict[Value, Value]) -> dict[Value, Value]:
    """Those of the wanted homes that can be written: by a group, element by element, after everyone has read the input."""
    found: dict[Value, Value] = {}
    for i, step in enumerate(steps):
        if isinstance(step, Op):
            continue
        for op in step.ops:
            y = op.outputs[0]
            home = wanted.get(y)
            if (home is None or y.shape != home.shape or y.dtype != home.dtype or home in graph.outputs
                    or y in step.late or step.roles[y] != "F" or step.roles.get(home, "F") != "F"):
                continue
            after = [o for o in step.ops[step.ops.index(op) + 1:] if home in o.args] + [
                o for o in step.ops if home in o.args and turn(step, o) > step.level[y]]
            looks = views_of(home, steps)
            later = [o for other in steps[i + 1:] for o in operations(other) if not looks.isdisjoint(o.args)]
            beside = [o for o in step.ops if not (looks - {home}).isdisjoint(o.args)]
            if not (after or later or beside or not looks.isdisjoint(graph.outputs)):
                found[y] = home
    return found


def views_of(x: Value, steps: list[Group | Op]) -> set[Value]:
    """x and what may share its memory: all that is made of it by operations that are not known to make new arrays."""
    found = {x}
    for step in steps:
        if isinstance(step, Op) and step.name not in FRESH and not found.isdisjoint(step.args):
            found.update(step.outputs)
    return found


def runner(graph: Graph, todo: list[Callable[[Env], None]], memory: Memory) -> Callable[[list], list]:
    template, count = memory.env, len(graph.inputs)
    one_at_a_time = Lock()                                   # the buffers are the program's
    results = [(memory.place[y], bool(memory.roots[y] & memory.given) and y not in memory.homes) for y in graph.outputs]

    def run(arrays: list) -> list:
        env = template.copy()
        env[:count] = [x if type(x) is numpy.ndarray else numpy.asarray(x) for x in arrays]
        with one_at_a_time:
            for step in todo:
                step(env)
        outputs = []
        for i, shared in results:
            y = env[i]
            if shared and (y.base is not None or any(y is x for x in env[:memory.fixed])):
                y = y.copy()
            outputs.append(y)
        return outputs
    return run


class Memory:
    """Where each value is: `env[place[x]]`. Arrays that do not leave the program are made once and shared by lifetime."""

    def __init__(self, graph: Graph, steps: list[Group | Op], kept: set[Value], homes: dict[Value, Value]):
        self.homes = homes
        values = [*graph.inputs, *graph.constants]
        self.fixed = len(values)
        self.given = frozenset(values)
        self.roots: dict[Value, frozenset[Value]] = {x: frozenset((x,)) for x in values}
        for step in steps:
            for op in operations(step):
                parts = [] if isinstance(step, Group) or op.name in FRESH else [self.roots[x] for x in op.values]
                for y in op.outputs:
                    self.roots[y] = frozenset((y,)).union(*parts)
                    values.append(y)
        self.place = {x: i for i, x in enumerate(values)}
        self.env: Env = [None] * len(values)
        for x, array in graph.constants.items():
            self.env[self.place[x]] = array
        self.leaving = frozenset().union(*(self.roots[y] for y in graph.outputs)) if graph.outputs else frozenset()
        self.share(steps, kept, graph.outputs)

    def share(self, steps: list[Group | Op], kept: set[Value], outputs: list[Value]) -> None:
        last: dict[Value, int] = {}
        for i, step in enumerate(steps):
            for op in operations(step):
                for x in (*op.values, *op.outputs):
                    for root in self.roots[x]:
                        last[root] = i
        free: dict[int, list[numpy.ndarray]] = {}
        dies: dict[int, list[tuple[int, numpy.ndarray]]] = {}
        for i, step in enumerate(steps):
            for op in operations(step):
                for y in op.outputs:
                    if self.owned(step, op, y, kept):
                        size = -(-y.nbytes // 64) * 64
                        block = free[size].pop() if free.get(size) else aligned(size)
                        self.env[self.place[y]] = block[:y.nbytes].view(y.dtype).reshape(y.shape)
                        dies.setdefault(last[y], []).append((size, block))
            for size, block in dies.pop(i, ()):
                free.setdefault(size, []).append(block)

    def owned(self, step: Group | Op, op: Op, y: Value, kept: set[Value]) -> bool:
        """Whether the array of y is made before the first run."""
        if y in self.leaving:
            return False
        return (y in kept or y in step.late) if isinstance(step, Group) else plain_matmul(op)

    def static(self, x: Value) -> Any:
        return self.env[self.place[x]]


def aligned(size: int) -> numpy.ndarray:
    """`size` bytes from a multiple of 64 on."""
    block = numpy.empty(size + 64, numpy.uint8)
    start = -address(block) % 64
    return block[start:start + size]


def address(x: numpy.ndarray) -> int:
    return x.__array_interface__["data"][0]


# single operations -----------------------------------------------------------------------------------------------------

def plain_matmul(op: Op) -> bool:
    a, b = op.args[:2] if op.name == "matmul" else (None, None)
    return a is not None and a.ndim == b.ndim == 2 and a.dtype == b.dtype == op.outputs[0].dtype and a.dtype.kind == "f"


def single_step(op: Op, memory: Memory) -> list[Callable[[Env], None]]:
    """The operation by NumPy; nothing where it only looks in another way at an array that stays where it is."""
    function = op.function or OWN.get(op.name) or PRIMITIVES[op.name].impls[numpy.ndarray]
    places: list[Any] = [memory.place[x] if isinstance(x, Value) else None for x in op.args]
    given = list(op.args)
    params = op.params
    if op.name in VIEWS and memory.static(op.args[0]) is not None:
        view = function(memory.static(op.args[0]), **params)
        if numpy.shares_memory(view, memory.static(op.args[0])):
            memory.env[memory.place[op.outputs[0]]] = view
            return []
    if plain_matmul(op):
        a, b, y = *places, memory.place[op.outputs[0]]
        shape, dtype = op.outputs[0].shape, op.outputs[0].dtype
        if memory.static(op.outputs[0]) is not None:
            out = memory.static(op.outputs[0])
            return [lambda env: numpy.matmul(env[a], env[b], out=out)]

        def product(env: Env) -> None:
            env[y] = numpy.matmul(env[a], env[b], out=numpy.empty(shape, dtype))
        return [product]
    ys = [memory.place[y] for y in op.outputs]
    several = op.several

    def run(env: Env) -> None:
        y: Any = function(*[x if i is None else env[i] for x, i in zip(given, places, strict=True)], **params)
        for i, v in zip(ys, y if several else (y,), strict=False):
            env[i] = v if type(v) is numpy.ndarray else numpy.asarray(v)
    return [run]


# groups ----------------------------------------------------------------------------------------------------------------

def workers_for(group: Group, n: Nest) -> int:
    heavy = sum(map(is_heavy, group.ops))
    work = group.n * (len(n.arrays) + len(group.ops) // 4 + 4 * heavy)
    return max(1, min(WORKERS, work * 2 // PARALLEL, group.rows))


def bounds(count: int, workers: int, step: int) -> list[tuple[int, int]]:
    size = -(-count // (workers * step)) * step
    return [(min(count, i * size), min(count, (i + 1) * size)) for i in range(workers)]


def group_step(group: Group, n: Nest, library: Library, memory: Memory) -> Callable[[Env], None]:
    workers = workers_for(group, n)
    tables = [(ctypes.c_size_t * len(n.arrays))() for _ in range(workers)]
    kernel = library.kernel(n.name, releases=workers > 1)
    keeps: list[numpy.ndarray] = []
    reads: list[tuple[int, int]] = []
    makes: list[tuple[int, int, tuple, Any]] = []
    overwrites: list[tuple[int, int, int]] = []
    late: list[tuple[Op, int, list[numpy.ndarray]]] = []
    made_by = {op.outputs[0]: op for op in group.ops}
    for slot, x in enumerate(n.arrays):
        place = memory.place[x]
        if x in n.scratch or x in n.partial:
            total = x in n.partial and group.roles[x] == "S"
            shape = (group.cols,) if not total else (1,)
            dtype = x.dtype if not total else "f8" if partial_element(made_by[x]) == "f64" else x.dtype
            blocks = [aligned(max(64, math.prod(shape) * numpy.dtype(dtype).itemsize)).view(dtype)[:shape[0]]
                      for _ in range(workers)]
            keeps += blocks
            for table, block in zip(tables, blocks, strict=True):
                table[slot] = address(block)
            if x in n.partial:
                late.append((made_by[x], place, blocks))
        elif memory.static(x) is not None and memory.static(x).flags.c_contiguous:
            for table in tables:
                table[slot] = address(memory.static(x))
            keeps.append(memory.static(x))
        elif x in group.made:
            home = memory.homes.get(x)
            if home is None:
                makes.append((slot, place, x.shape, x.dtype))
            else:
                overwrites.append((slot, place, memory.place[home]))
        else:
            reads.append((slot, place))
    parts = bounds(group.rows, workers, 1 if group.cols else 64)
    calls = [(ctypes.addressof(tables[i]), *parts[i]) for i in range(workers)]
    zeroed = [block for op, _, blocks in late if group.roles[op.outputs[0]] == "C" for block in blocks]
    finish = [finisher(op, place, blocks, group.roles[op.outputs[0]], memory) for op, place, blocks in late]

    def run(env: Env) -> None:
        alive = []
        for slot, i in reads:
            found = env[i].__array_interface__
            if found["strides"] is not None:                 # None says contiguous
                alive.append(numpy.ascontiguousarray(env[i]))
                found = alive[-1].__array_interface__
            where = found["data"][0]
            for table in tables:
                table[slot] = where
        for slot, i, shape, dtype in makes:
            y = env[i] = numpy.empty(shape, dtype)
            where = address(y)
            for table in tables:
                table[slot] = where
        strided = []
        for slot, i, home in overwrites:
            y = env[i] = env[home]
            found = y.__array_interface__
            if found["strides"] is not None:
                strided.append((y, numpy.empty(y.shape, y.dtype)))
                found = strided[-1][1].__array_interface__
            where = found["data"][0]
            for table in tables:
                table[slot] = where
        for block in zeroed:
            block.fill(0)
        if workers == 1:
            kernel(*calls[0])
        else:
            others = [pool().submit(kernel, *call) for call in calls[1:]]
            kernel(*calls[0])
            for other in others:
                other.result()
        for step in finish:
            step(env)
        for y, made in strided:
            y[...] = made
    setattr(run, "keeps", (library, keeps))  # noqa: B010 - the code and the arrays live as long as what uses them
    return run


def finisher(op: Op, place: int, blocks: list[numpy.ndarray], role: str, memory: Memory) -> Callable[[Env], None]:
    """What is done with the threads' parts of a late value."""
    y = op.outputs[0]
    static = memory.static(y)
    join: Any = {"sum": numpy.add, "max": numpy.maximum, "min": numpy.minimum}[op.name]

    def run(env: Env) -> None:
        out = env[place] = static if static is not None else numpy.empty(y.shape, y.dtype)
        total = blocks[0]
        for block in blocks[1:]:
            total = join(total, block)
        out.reshape(-1)[...] = total
    return run
