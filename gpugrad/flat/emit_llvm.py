"""Programs on the CPU: fused loops over all cores, BLAS between them, every buffer in place before the first run.

`emit(graph)` compiles. Groups, products of matrices, views and copies are calls in native segments (`driver.py`); a run is one
step for each segment and for each operation between them that NumPy does. It makes no arrays but the program's outputs and
what those operations return.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.driver import Env, Product, Segment
from gpugrad.flat.elements import ours
from gpugrad.flat.expand import OWN, expand
from gpugrad.flat.fuse import STRAIGHT, Group, fuse, operations, stored
from gpugrad.flat.homes import made_at_home
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.llvm import ELEMENTS, Library, Module
from gpugrad.flat.loops import Nest, is_heavy, nest, partial_element
from gpugrad.flat.natives import RUNNING
from gpugrad.flat.plan import makes_new
from gpugrad.flat.results import maker
from gpugrad.flat.runtime import WORKERS, blas, runtime
from gpugrad.flat.spots import Spot, address, aligned, as_rows, item, matrix
from gpugrad.graph.primitive import PRIMITIVES

#: Elements read, written or worked on, from which a second thread pays for being woken.
PARALLEL = 1 << 18
#: Operations that only look in another way at memory, or copy it: `function(x, **params)` tells which.
LOOKS = frozenset(("reshape", "transpose", "alias", "matrix_transpose", "getitem", "spread", "flip"))
#: Operations in straight code from which compiling it well takes longer than it saves.
MANY_LINES = 1000
#: A batch of more products is left to NumPy.
MOST_PRODUCTS = 256


class Loops(NamedTuple):
    """run    list of input arrays -> list of output arrays
    steps  what it does, in order: groups, and operations that NumPy does
    homes  output -> the input in whose memory it is made
    """

    run: Callable[[list], list]
    steps: list[Group | Op]
    homes: dict[Value, Value]


def emit(graph: Graph, homes: dict[Value, Value] | None = None) -> Loops:
    """The program compiled. homes: output -> the input that it is to overwrite, where no one reads the input any more."""
    graph = expand(graph)
    steps = fuse(graph)
    homes = made_at_home(steps, graph, homes or {})
    for step in steps:
        if isinstance(step, Group):
            step.passing -= homes.keys()                     # the memory of an input may begin anywhere
    kept = stored(steps, graph.outputs)
    straight = sum([len(step.ops) for step in steps if isinstance(step, Group) and step.n <= STRAIGHT])
    loops = Module()
    lines = Module(quick=True) if straight > MANY_LINES else loops
    nests: dict[int, tuple[Nest, Module]] = {}
    for i, step in enumerate(steps):
        if isinstance(step, Group):
            module = lines if step.n <= STRAIGHT else loops
            nests[i] = nest(step, kept, module), module
    libraries = {module: Library(module.text(), module.quick) for module in {module for _, module in nests.values()}}
    made = Steps(graph, steps, homes)
    for i, step in enumerate(steps):
        made.add(step, *((nests[i][0], libraries[nests[i][1]]) if i in nests else ()))
    return Loops(made.runner(), steps, homes)


class Steps:
    """The steps of a run, made in order. `env[place[x]]` is the array of x during a run; arrays in the template are there before.

    Arrays that do not leave the program are made once and share memory by lifetime. Of the others, a run makes those that native
    calls write before it starts (`makes`), and views only where a step of Python's or the caller asks for the object.
    """

    def __init__(self, graph: Graph, steps: list[Group | Op], homes: dict[Value, Value]):
        self.graph, self.homes = graph, homes
        values = [*graph.inputs, *graph.constants]
        self.fixed = len(values)
        self.given = frozenset(values)
        self.roots: dict[Value, frozenset[Value]] = {x: frozenset((x,)) for x in values}
        self.last: dict[Value, int] = {}
        for i, step in enumerate(steps):
            for op in operations(step):
                parts = [] if isinstance(step, Group) or makes_new(op) else [self.roots[x] for x in op.values]
                for y in op.outputs:
                    self.roots[y] = frozenset((y,)).union(*parts)
                    values.append(y)
                for x in (*op.values, *op.outputs):
                    self.last.update(dict.fromkeys(self.roots[x], i))
        self.place = {x: i for i, x in enumerate(values)}
        self.env: Env = [None] * len(values)
        for x, array in graph.constants.items():
            self.env[self.place[x]] = array
        self.leaving = frozenset().union(*(self.roots[y] for y in graph.outputs)) if graph.outputs else frozenset()
        self.free: dict[int, list[numpy.ndarray]] = {}
        self.dying: dict[int, list[numpy.ndarray]] = {}
        self.models: dict[Value, tuple[Value, numpy.ndarray]] = {x: (x, numpy.empty(x.shape, x.dtype)) for x in graph.inputs}
        self.finds: dict[Value, Callable[[Env], Any]] = {}       # views: made only where the object is asked for
        self.copies: dict[Value, Spot] = {}
        self.resting: list[numpy.ndarray] = []                   # memory that products which wait still use
        self.products: list[Product] = []                        # which wait for others beside which they can be done
        self.multiplied: set[Value] = set()                      # what they make
        self.makes: list[tuple[int, tuple[int, ...], Any]] = []
        self.todo: list[Callable[[Env], None]] = []
        self.segment = Segment()
        self.now = 0

    # where values are ------------------------------------------------------------------------------------------------------

    def spot(self, x: Value) -> Spot:
        array = self.env[self.place[x]]
        if array is not None:
            return Spot(None, address(array), array.shape, array.strides, array.itemsize)
        root, array = self.models[x]
        start = address(array) - address(self.models[root][1])
        return Spot(self.place[root], start, array.shape, array.strides, array.itemsize)

    def look_at(self, x: Value) -> Callable[[Env], Any]:
        """env -> the array of x. Those of views are made anew: nothing else needs them."""
        if x in self.finds:
            return self.finds[x]
        i = self.place[self.homes.get(x, x)]
        return lambda env: env[i]

    def output(self, y: Value) -> Spot:
        """Memory for a value that native calls make."""
        home = self.homes.get(y)
        if home is not None:
            self.models[y] = self.models[home]
        elif y in self.leaving:
            self.makes.append((self.place[y], y.shape, y.dtype))
            self.models[y] = y, numpy.empty(y.shape, y.dtype)
        else:
            self.env[self.place[y]] = self.block(y.nbytes, self.last[y]).view(y.dtype).reshape(y.shape)
        return self.spot(y)

    def block(self, nbytes: int, last: int) -> numpy.ndarray:
        """Memory until step `last` has run."""
        size = -(-max(nbytes, 1) // 64) * 64
        block = self.free[size].pop() if self.free.get(size) else aligned(size)
        self.dying.setdefault(last, []).append(block)
        self.segment.alive.append(block)
        return block[:nbytes]

    def contiguous(self, x: Value) -> Spot:
        """Where the elements of x are in a row: its own place, or that of a copy."""
        spot = self.copies.get(x) or self.spot(x)
        if spot.contiguous:
            return spot
        array = self.block(x.nbytes, max(self.last[root] for root in self.roots[x])).view(x.dtype).reshape(x.shape)
        self.copies[x] = copy = Spot(None, address(array), array.shape, array.strides, array.itemsize)
        if not self.segment.copy(copy, spot):
            self.flush()
            look = self.look_at(x)
            self.todo.append(lambda env: numpy.copyto(array, look(env)))
        return copy

    # steps -----------------------------------------------------------------------------------------------------------------

    def add(self, step: Group | Op, n: Nest | None = None, library: Library | None = None) -> None:
        if isinstance(step, Group):
            assert n is not None and library is not None
            self.multiply()
            self.group(step, n, library)
        elif not ((step.name in OWN or (step.name in PRIMITIVES and ours(step)))
                  and (self.look(step) or self.matmul(step) or self.native(step))):
            self.single(step)
        self.resting += self.dying.pop(self.now, [])
        if not self.products:                                # those that wait read and write at any time
            for block in self.resting:
                self.free.setdefault(-(-block.nbytes // 64) * 64, []).append(block)
            self.resting = []
        self.now += 1

    def flush(self) -> None:
        """What follows is Python's, after the calls so far."""
        self.multiply()
        if self.segment.calls:
            self.todo.append(self.segment.load())
            self.segment = Segment()

    def single(self, op: Op) -> None:
        """The operation by NumPy."""
        function: Any = op.function or OWN.get(op.name) or PRIMITIVES[op.name].impls[numpy.ndarray]
        self.flush()
        finds = [self.look_at(x) if isinstance(x, Value) else lambda env, x=x: x for x in op.args]
        params, several = op.params, op.several
        ys = [self.place[y] for y in op.outputs]
        for y in op.outputs:
            self.models[y] = y, numpy.empty(y.shape, y.dtype)

        def run(env: Env) -> None:
            y: Any = function(*[find(env) for find in finds], **params)
            for i, v in zip(ys, y if several else (y,), strict=False):
                env[i] = v if type(v) is numpy.ndarray else numpy.asarray(v)
        self.todo.append(run)

    def look(self, op: Op) -> bool:
        """Views, which are nothing but another place to look at; False for what is no view."""
        if op.name not in LOOKS or not op.args[0].size:
            return False
        x, y = op.args[0], op.outputs[0]
        function, params = op.function or PRIMITIVES[op.name].impls[numpy.ndarray], op.params
        static = self.env[self.place[x]]
        root, array = (x, static) if static is not None else self.models[x]
        view = function(array, **params)
        if not numpy.may_share_memory(view, array):
            return False
        if static is not None:
            self.env[self.place[y]] = view
        else:
            self.models[y] = root, view
            find = self.look_at(x)
            self.finds[y] = lambda env: function(find(env), **params)
        return True

    def native(self, op: Op) -> bool:
        """Operations that are calls without being loops of their own."""
        y = op.outputs[0] if op.outputs else op.args[0]
        if not y.size:
            return False
        self.multiply()
        if op.name == "check_labels":
            return self.labels(op)
        if op.name in RUNNING:
            return self.running(op)
        x = op.args[0]
        if op.name != "reshape" or x.ndim > 4 or y.dtype.itemsize not in (1, 2, 4, 8):
            return False
        self.segment.copy(Spot.of(x.shape, y.dtype, self.output(y)), self.spot(x))       # in the order of its elements
        return True

    def matmul(self, op: Op) -> bool:
        """Products of matrices by BLAS, one by one where there is a batch of them."""
        y = op.outputs[0] if op.outputs else None
        if op.name != "matmul" or y is None or not blas() or not (y.size and op.values[0].size):
            return False
        if y.dtype.name not in ("float32", "float64") or any(x.dtype != y.dtype for x in op.values):
            return False
        batch = y.shape[:max(0, max(x.ndim for x in op.values) - 2)]
        if math.prod(batch) > MOST_PRODUCTS:
            return False
        if any(self.roots[x] & self.multiplied for x in op.values):
            self.multiply()
        a, b = (self.factor(x, first) for x, first in zip(op.values, (True, False), strict=True))
        out = self.output(y)
        shape = a.shape[-2], b.shape[-1]
        for index in numpy.ndindex(*batch):
            self.products.append(Product(item(out, index, shape), item(a, index), item(b, index), ELEMENTS[y.dtype]))
        self.multiplied.add(y)
        return True

    def multiply(self) -> None:
        """Do the products that wait."""
        if self.products:
            self.segment.products(self.products)
            self.products = []
            self.multiplied.clear()

    def factor(self, x: Value, first: bool) -> Spot:
        """x as matrices that BLAS can read."""
        spot = matrix(self.spot(x), first)
        one = spot._replace(shape=spot.shape[-2:], strides=spot.strides[-2:])
        return spot if as_rows(one) else matrix(self.contiguous(x), first)

    def running(self, op: Op) -> bool:
        """Running sums and products, by rows where the axis is the last, else by columns."""
        x, y, axis = op.args[0], op.outputs[0], op.params["axis"]
        if x.dtype.name not in ("float32", "float64") or y.dtype != x.dtype or not x.ndim:
            return False
        axis %= x.ndim
        outer, n, behind = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1:])
        kind, count, words = ("rows", outer, [n]) if behind == 1 else ("columns", behind, [outer, n, behind])
        work = x.size * 4
        spots = [self.contiguous(x), self.output(y)][::-1]
        spans = bounds(count, max(1, min(WORKERS, work * 2 // PARALLEL, count)), 4 if behind == 1 else 16)
        function = runtime()[f"gg_{op.name}_{kind}_{ELEMENTS[x.dtype]}"]
        if len(spans) == 1:
            self.segment.call(function, [*spots, *words], *spans[0], work=work)
        else:
            self.segment.parallel(function, [([*spots, *words], *span) for span in spans], work)
        return True

    def labels(self, op: Op) -> bool:
        x = op.args[0]
        if x.dtype.name not in ("int32", "int64"):
            return False
        function: Any = OWN[op.name]
        params = op.params
        self.segment.check(self.contiguous(x), x.size, params["classes"], ELEMENTS[x.dtype])
        look = self.look_at(x)
        self.segment.checks[len(self.segment.calls)] = lambda env: function(look(env), **params)
        return True

    def group(self, group: Group, n: Nest, library: Library) -> None:
        workers = workers_for(group, n)
        made_by = {op.outputs[0]: op for op in group.ops}
        words: list[list[Any]] = [[] for _ in range(workers)]
        finish: list[Callable[[], None]] = []
        for x in n.arrays:
            if x in n.scratch:
                spots = self.blocks(workers, group.cols, x.dtype)
            elif x in n.partial:
                spots = self.parts(group, made_by[x], workers, finish)
            else:
                spots = [self.output(x) if x in group.made else self.contiguous(x)] * workers
            for table, spot in zip(words, spots, strict=True):
                table.append(spot)
        spans = bounds(group.rows, workers, 1 if group.cols else 64)
        work = work_of(group, n)
        function = library[n.name]
        self.segment.alive.append(library)
        if workers == 1:
            self.segment.call(function, words[0], *spans[0], work=work)
        else:
            self.segment.parallel(function, [(table, *span) for table, span in zip(words, spans, strict=True)], work)
        for join in finish:
            join()

    def parts(self, group: Group, op: Op, workers: int, finish: list[Callable[[], None]]) -> list[Spot]:
        """Where each thread keeps its part of a late value: the first in the result itself, if it is of the same kind."""
        y, role, kind = op.outputs[0], group.roles[op.outputs[0]], partial_element(op)
        length = group.cols if role == "C" else 1
        out = self.output(y)
        narrow = role == "S" and kind != ELEMENTS[y.dtype]
        parts = self.blocks(workers - (not narrow), length, "f8" if narrow else y.dtype)
        parts = parts if narrow else [out, *parts]
        if role == "C":
            kind = ELEMENTS[y.dtype]
            for spot in parts:
                self.segment.zero(Spot.of((length,), y.dtype, spot))

        def join() -> None:
            for spot in parts[1:]:
                self.segment.call(runtime()[f"gg_{op.name}_{kind}"], [parts[0], spot], 0, length)
            if narrow:
                self.segment.call(runtime()["gg_round"], [out, parts[0]])
        finish.append(join)
        return parts

    def blocks(self, count: int, length: int, dtype: Any) -> list[Spot]:
        """Memory for each of so many threads, in this step."""
        dtype = numpy.dtype(dtype)
        return [Spot.of((length,), dtype, Spot(None, address(self.block(length * dtype.itemsize, self.now)), (), (), 1))
                for _ in range(count)]

    # the end ---------------------------------------------------------------------------------------------------------------

    def runner(self) -> Callable[[list], list]:
        self.flush()
        finds = [self.look_at(y) for y in self.graph.outputs]
        template, count, todo, fixed = self.env, len(self.graph.inputs), tuple(self.todo), self.fixed
        makes = [(i, maker(shape, dtype)) for i, shape, dtype in self.makes]
        shared = [i for i, y in enumerate(self.graph.outputs) if self.roots[y] & self.given and y not in self.homes]
        one_at_a_time = Lock()                               # the buffers are the program's

        def run(arrays: list) -> list:
            env = template.copy()
            env[:count] = arrays
            for i, make in makes:
                env[i] = make()
            with one_at_a_time:
                for step in todo:
                    step(env)
            outputs = [find(env) for find in finds]
            for i in shared:
                y = outputs[i] = numpy.asarray(outputs[i])
                if y.base is not None or any(y is x for x in env[:fixed]):
                    outputs[i] = y.copy()
            return outputs
        return run


def work_of(group: Group, n: Nest) -> int:
    return group.n * (len(n.arrays) + len(group.ops) // 4 + 4 * sum(map(is_heavy, group.ops)) + group.repeats)


def workers_for(group: Group, n: Nest) -> int:
    return max(1, min(WORKERS, work_of(group, n) * 2 // PARALLEL, group.rows))


def bounds(count: int, workers: int, step: int) -> list[tuple[int, int]]:
    size = -(-count // (workers * step)) * step
    return [(min(count, i * size), min(count, (i + 1) * size)) for i in range(workers)]
