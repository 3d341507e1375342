"""Passes: each a function from a program to an equal, smaller one. They keep IEEE results: x * 1 is x, but x + 0 is not (-0).

The one exception is a sum of equal numbers, which becomes a product: it is the more accurate, and keeps the sign of -0, to which
NumPy's sum adds 0.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.flat.dead_code import dead_code
from gpugrad.flat.ir import Graph, Op, Value, like, pure
from gpugrad.graph.namespace import PRIMITIVES, RAW
from gpugrad.graph.primitive import Elementwise

Pass = Callable[[Graph], Graph]


class Rewriter:
    """A program in which operations are replaced, in order. `now` says what stands for each value of the old program."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.constants = dict(graph.constants)
        self.ops: list[Op] = []
        self.now: dict[Value, Value] = {}
        self.number = graph.fresh()

    def args(self, op: Op) -> tuple:
        return tuple([self.now.get(x, x) if isinstance(x, Value) else x for x in op.args])

    def keep(self, op: Op, args: tuple) -> None:
        """The operation itself, on what its arguments have become."""
        if args == op.args:
            self.ops.append(op)
            return
        new = like(op, op.name, args, op.params, op.function)
        new.outputs = tuple([self.fresh(v, new, i) for i, v in enumerate(op.outputs)])
        self.ops.append(new)
        self.now.update(zip(op.outputs, new.outputs, strict=True))

    def add(self, old: Op, name: str, *args: Any, **params: Any) -> None:
        """Another operation in the place of one with a single output."""
        new = like(old, name, args, params, getattr(RAW[numpy.ndarray], name))
        new.outputs = (self.fresh(old.outputs[0], new, 0),)
        self.ops.append(new)
        self.now[old.outputs[0]] = new.outputs[0]

    def fresh(self, v: Value, op: Op, index: int) -> Value:
        self.number += 1
        return Value(self.number - 1, v.shape, v.dtype, op, index)

    def done(self) -> Graph:
        used = {x for op in self.ops for x in op.values} | {self.now.get(v, v) for v in self.graph.outputs}
        constants = {v: c for v, c in self.constants.items() if v in used}
        return Graph(self.graph.inputs, constants, self.ops, [self.now.get(v, v) for v in self.graph.outputs])


def common_subexpressions(graph: Graph) -> Graph:
    """What is computed twice is computed once; equal constants are one."""
    new = Rewriter(graph)
    seen: dict = {}
    for v, c in graph.constants.items():
        if c.size <= 64:
            new.now[v] = seen.setdefault((c.shape, c.dtype, c.tobytes()), v)
    for op in graph.ops:
        args = new.args(op)
        read = tuple([x if isinstance(x, Value) else (type(x), repr(x)) for x in args])
        key = op.name, op.function, read, identity(op.params)
        twin = seen.get(key) if pure(op) else None
        if twin is not None:
            new.now.update(zip(op.outputs, [new.now.get(v, v) for v in twin.outputs], strict=True))
            continue
        seen[key] = op
        new.keep(op, args)
    return new.done()


def identity(parameter: Any) -> Any:
    """What tells static parameters apart; an array is itself alone."""
    if isinstance(parameter, numpy.ndarray):
        return id(parameter)
    if isinstance(parameter, dict):
        return tuple([(name, identity(v)) for name, v in parameter.items()])
    if isinstance(parameter, tuple | list):
        return tuple(map(identity, parameter))
    return repr(parameter)


def algebra(graph: Graph) -> Graph:
    """Neutral elements, double negation, moves that move nothing, and moves of moves."""
    new = Rewriter(graph)
    for op in graph.ops:
        args = new.args(op)
        rule = RULES.get(op.name)
        if rule is None or not pure(op) or not rule(new, op, *args, **op.params):
            new.keep(op, args)
    return new.done()


def same(new: Rewriter, op: Op, x: Any) -> bool:
    """The result is x itself, spread to its shape where that is larger."""
    y = op.outputs[0]
    if not isinstance(x, Value) or x.dtype != y.dtype:
        return False
    if x.shape == y.shape:
        new.now[y] = x
        return True
    new.add(op, "spread", x, shape=y.shape)
    return True


def uniform(new: Rewriter, x: Any) -> Any:
    """The one number that x consists of; None where it is not known to be one."""
    if not isinstance(x, Value):
        return x
    c = new.constants.get(x)
    if c is None or not c.size:
        return None
    first = c.flat[0]
    return first if not any(c.strides) or bool((c == first).all()) else None


def made_by(x: Any, name: str) -> Op | None:
    return x.op if isinstance(x, Value) and x.op is not None and x.op.name == name and pure(x.op) else None


def multiply(new: Rewriter, op: Op, a: Any, b: Any) -> bool:
    if op.outputs[0].dtype.kind == "c":                   # inf * (1 + 0j) is NaN
        return False
    for x, other in ((a, b), (b, a)):
        u = uniform(new, x)
        if u is not None and u == 1 and same(new, op, other):
            return True
    return False


def divide(new: Rewriter, op: Op, a: Any, b: Any) -> bool:
    u = uniform(new, b)
    return u is not None and u == 1 and op.outputs[0].dtype.kind != "c" and same(new, op, a)


def subtract(new: Rewriter, op: Op, a: Any, b: Any) -> bool:
    u = uniform(new, b)
    if u is not None and u == 0 and not numpy.signbit(numpy.real(u)):
        return same(new, op, a)
    negated = made_by(b, "negative")
    if negated is None:
        return False
    new.add(op, "add", a, negated.args[0])
    return True


def add(new: Rewriter, op: Op, a: Any, b: Any) -> bool:
    for x, other in ((b, a), (a, b)):
        negated = made_by(x, "negative")
        if negated is not None and isinstance(other, Value):
            new.add(op, "subtract", other, negated.args[0])
            return True
    return False


def negative(new: Rewriter, op: Op, x: Any) -> bool:
    inner = made_by(x, "negative")
    return inner is not None and same(new, op, inner.args[0])


def power(new: Rewriter, op: Op, a: Any, b: Any) -> bool:
    if not isinstance(a, Value) or isinstance(b, Value) or a.dtype.kind not in "fc":
        return False
    if b == 1:
        return same(new, op, a)
    if b == 2 and a.dtype == op.outputs[0].dtype:
        new.add(op, "square", a)
        return True
    return False


def reshape(new: Rewriter, op: Op, x: Value, shape: Any) -> bool:
    if x.shape == op.outputs[0].shape:
        return same(new, op, x)
    inner = made_by(x, "reshape")
    if inner is None:
        return False
    first = inner.args[0]
    if first.shape == op.outputs[0].shape:
        return same(new, op, first)
    new.add(op, "reshape", first, shape=op.outputs[0].shape)
    return True


def transpose(new: Rewriter, op: Op, x: Value, axes: tuple) -> bool:
    axes = tuple([a % x.ndim for a in axes])
    if axes == tuple(range(x.ndim)):
        return same(new, op, x)
    inner = made_by(x, "transpose")
    if inner is None:
        return False
    whole = tuple([inner.params["axes"][a] % x.ndim for a in axes])
    if whole == tuple(range(x.ndim)):
        return same(new, op, inner.args[0])
    new.add(op, "transpose", inner.args[0], axes=whole)
    return True


def astype(new: Rewriter, op: Op, x: Value, dtype: Any) -> bool:
    return x.dtype == op.outputs[0].dtype and same(new, op, x)


def spread(new: Rewriter, op: Op, x: Value, shape: tuple) -> bool:
    if x.shape == tuple(shape):
        return same(new, op, x)
    inner = made_by(x, "spread")
    if inner is None:
        return False
    new.add(op, "spread", inner.args[0], shape=tuple(shape))
    return True


def total(new: Rewriter, op: Op, x: Value, axis: tuple, keepdims: bool) -> bool:
    """The sum of a broadcast, along the axes that it was broadcast to, is a product."""
    inner = made_by(x, "spread")
    if inner is None or not axis or x.dtype.kind != "f" or not x.size:       # (inf + 0j) * 5 and inf * 0 are NaN
        return False
    small = inner.args[0]
    lengths = (1,) * (x.ndim - small.ndim) + small.shape
    if any(lengths[a] != 1 for a in axis):
        return False
    rest = tuple([n for i, n in enumerate(lengths) if i not in axis])
    if rest != tuple([n for i, n in enumerate(x.shape) if i not in axis]):
        return False
    n = math.prod([x.shape[a] for a in axis])
    y = op.outputs[0]
    if small.shape == y.shape:
        new.add(op, "multiply", small, n)
        return True
    flat = like(op, "reshape", (small,), {"shape": y.shape}, RAW[numpy.ndarray].reshape)
    flat.outputs = (new.fresh(y, flat, 0),)
    new.ops.append(flat)
    new.add(op, "multiply", flat.outputs[0], n)
    return True


RULES: dict[str, Callable[..., bool]] = {
    "multiply": multiply, "divide": divide, "subtract": subtract, "add": add, "negative": negative, "power": power,
    "reshape": reshape, "transpose": transpose, "astype": astype, "spread": spread, "sum": total,
    "alias": lambda new, op, x: same(new, op, x), "positive": lambda new, op, x: same(new, op, x),
}


def broadcasts(graph: Graph) -> Graph:
    """Elementwise operations broadcast by themselves: what was spread for them alone is read as it was."""
    new = Rewriter(graph)
    for op in graph.ops:
        args = new.args(op)
        y = op.outputs[0]
        if pure(op) and is_elementwise(op) and not op.params:
            small = tuple([s.args[0] if (s := made_by(x, "spread")) is not None else x for x in args])
            shapes = [x.shape for x in small if isinstance(x, Value)]
            if numpy.broadcast_shapes(*shapes) == y.shape:
                args = small
            else:                                          # one of them has to keep the whole shape
                for i, x in enumerate(args):
                    trial = (*args[:i], small[i], *args[i + 1:])
                    if small[i] is not x and numpy.broadcast_shapes(*[t.shape for t in trial if isinstance(t, Value)]) == y.shape:
                        args = trial
        new.keep(op, args)
    return new.done()


def is_elementwise(op: Op) -> bool:
    """True for operations by element, with broadcasting: smooth ones, comparisons, roundings, choices."""
    return isinstance(PRIMITIVES.get(op.name), Elementwise) or isinstance(op.function, numpy.ufunc) and op.name != "matmul"


#: The passes in order, under the names that `program.show` takes.
PASSES: dict[str, Pass] = {
    "dead_code": dead_code, "algebra": algebra, "broadcasts": broadcasts, "common_subexpressions": common_subexpressions,
}


def simplify(graph: Graph, looks: bool = True) -> dict[str, Graph]:
    """The program after each pass. They run until nothing changes, three rounds at most. looks: see `dead_code`."""
    found: dict[str, Graph] = {}
    for _ in range(3):
        before = len(graph.ops)
        for name, run in PASSES.items():
            found[name] = graph = run(graph) if run is not dead_code else dead_code(graph, looks)
        found["dead_code"] = graph = dead_code(graph, looks)
        if len(graph.ops) == before:
            break
    return {**found, "simplified": graph}
