"""What a group does, as passes: each operation that is several of NumPy's passes is written out, so that what two of them
compute alike is computed once, each pass is made in the place of one that is over, and sums along and over rows are einsum's,
which takes them two to three times faster than NumPy's sum and makes no array of the products.
"""
from __future__ import annotations

import itertools
import string
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.flat import expand
from gpugrad.flat.dead_code import dead_code
from gpugrad.flat.ir import Graph, Op, Value, like, pure
from gpugrad.flat.simplify import Rewriter, common_subexpressions, made_by
from gpugrad.flat.tiles import COLUMN_PRODUCTS, ROW_PRODUCTS, Tile, grouped, lead
from gpugrad.graph.namespace import RAW
from gpugrad.kernels.gelu import FORMULAS

#: Elements of a row up to which einsum sums it: it adds them up in a few lanes one after another, NumPy's sum in pairs.
LONGEST = 1 << 12
#: Where sigmoid is 1, and exp still finite.
ONE_FROM = {"f": 88.0, "d": 709.0}


class Term:
    """A value in a formula."""

    __slots__ = ("writer", "value")

    def __init__(self, writer: expand.Writer, value: Value):
        self.writer, self.value = writer, value

    def __add__(self, other: Any) -> Term:
        return applied(self.writer, "add", self, other)

    def __mul__(self, other: Any) -> Term:
        return applied(self.writer, "multiply", self, other)

    def __rsub__(self, other: Any) -> Term:
        return applied(self.writer, "subtract", other, self)


class Namespace:
    """The operations as m.<name>, for formulas."""

    def __init__(self, writer: expand.Writer):
        self.writer = writer

    def __getattr__(self, name: str) -> Callable[..., Term]:
        return lambda *xs: applied(self.writer, name, *xs)


def applied(w: expand.Writer, name: str, *xs: Any) -> Term:
    return Term(w, getattr(w, name)(*[x.value if isinstance(x, Term) else x for x in xs]))


def by_formula(formula: Callable) -> Callable[..., None]:
    return lambda w, x: w.give(formula(Namespace(w), Term(w, x)).value)


def scale_shift(w: expand.Writer, n: Value, scale: Value, shift: Value) -> None:
    w.give(w.add(w.multiply(n, scale), shift))


def logistic(w: expand.Writer, x: Value) -> Value:
    """e / (1 + e), e = exp(x): half the passes of gpugrad/kernels/activations.py, and within 4 units in the last place."""
    e = w.exp(w.minimum(x, ONE_FROM[x.dtype.char]))
    return w.divide(e, w.add(e, 1.0))


def silu_slope(w: expand.Writer, x: Value) -> Value:
    s = logistic(w, x)
    return w.multiply(s, w.add(w.multiply(w.subtract(1.0, s), x), 1.0))


RULES: dict[str, Callable[..., None]] = {
    "standardize": expand.standardize, "standardize_pull": expand.standardize_pull, "scale_shift": scale_shift,
    "sigmoid": lambda w, x: w.give(logistic(w, x)),
    "silu": lambda w, x: w.give(w.multiply(logistic(w, x), x)),
    "silu_slope": lambda w, x: w.give(silu_slope(w, x)),
    **{name: by_formula(formula) for name, formula in FORMULAS.items()},
}


def written_out(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """The program with RULES applied in its groups, and what its outputs have become. Without groups it stays as it is."""
    if not in_groups(graph):
        return graph, {}
    outputs = graph.outputs
    for each in (rules, common_subexpressions, inner_products, dead_code):
        graph = each(graph)
    return graph, dict(zip(outputs, graph.outputs, strict=True))


def in_groups(graph: Graph) -> set[Op]:
    return {op for step in grouped(graph) if isinstance(step, Tile) for op in step.ops}


def rules(graph: Graph) -> Graph:
    """RULES, in groups."""
    new, inside, number = Rewriter(graph), in_groups(graph), itertools.count()
    for op in graph.ops:
        args = new.args(op)
        if op not in inside or op.name not in RULES or not pure(op) or not of_one_dtype(op):
            new.keep(op, args)
            continue
        writer = expand.Writer(number, Op(op.name, args, op.params, op.outputs, line=op.line, forward=op.forward), {})
        RULES[op.name](writer, *args, **op.params)
        for part in writer.ops:
            append(new, part, part.name, new.args(part), part.params, getattr(RAW[numpy.ndarray], part.name))
    return new.done()


def append(new: Rewriter, op: Op, name: str, args: tuple, params: dict, function: Callable) -> None:
    """An operation on the new values, in the place of one."""
    made = like(op, name, args, params, function)
    made.outputs = tuple([new.fresh(v, made, i) for i, v in enumerate(op.outputs)])
    new.ops.append(made)
    new.now.update(zip(op.outputs, made.outputs, strict=True))


def of_one_dtype(op: Op) -> bool:
    """Float32 or float64 throughout: half precision is computed in single."""
    return {v.dtype.char for v in (*op.values, *op.outputs)} in ({"f"}, {"d"})


def inner_products(graph: Graph) -> Graph:
    """Sums along rows, in groups, as one pass of einsum, and so are sums over rows of a product that has no other use.

    vecdot and matmul, which hand it to BLAS, are faster by themselves, but hold the interpreter meanwhile: other threads wait.
    """
    new, inside, uses = Rewriter(graph), in_groups(graph), graph.uses()
    for op in graph.ops:
        if op not in inside or op.name != "sum" or not pure(op) or len(op.values) != 1 or not of_one_dtype(op):
            new.keep(op, new.args(op))
            continue
        x, y = op.args[0], op.outputs[0]
        factors = factors_of(x) if len(uses[x]) == 1 and x not in graph.outputs else None
        if factors and factors[1].shape == x.shape and over_rows(op):
            append(new, op, COLUMN_PRODUCTS, summed(new, factors, slice(len(op.params["axis"]), None)), {}, numpy.einsum)
            continue
        if not along_rows(op):
            new.keep(op, new.args(op))
            continue
        dot = like(op, ROW_PRODUCTS, summed(new, factors or (x,), slice(-1)), {}, numpy.einsum)
        dot.outputs = (Value(new.number, x.shape[:-1], x.dtype, dot),)
        new.number += 1
        new.ops.append(dot)
        if y.shape == x.shape[:-1]:
            new.now[y] = dot.outputs[0]
        else:
            append(new, op, "reshape", dot.outputs, {"shape": y.shape}, RAW[numpy.ndarray].reshape)
    return new.done()


def summed(new: Rewriter, factors: tuple[Value, ...], kept: slice) -> tuple:
    """What einsum is given: the sum of the product of the factors over all axes of the first but those kept."""
    letters = string.ascii_letters[:factors[0].ndim]
    taken = ",".join([letters[len(letters) - x.ndim:] for x in factors])
    return f"{taken}->{letters[kept]}", *[new.now.get(x, x) for x in factors]


def over_rows(op: Op) -> bool:
    """Whether the sum is over the first axes, rows among them, but not over all."""
    x, axis = op.args[0], op.params["axis"]
    return lead(x) < len(axis) < x.ndim and axis == tuple(range(len(axis))) and not op.params["keepdims"]


def along_rows(op: Op) -> bool:
    """Whether the sum is over the last axis, not of the rows themselves, and einsum can take it."""
    x = op.args[0]
    return op.params["axis"] == (x.ndim - 1,) and lead(x) < x.ndim - 1 and x.shape[-1] <= LONGEST


def factors_of(x: Value) -> tuple[Value, Value] | None:
    """Two arrays whose product x is, the first of its shape, the other as long along rows."""
    square, product = made_by(x, "square"), made_by(x, "multiply")
    if square is not None:
        return square.args[0], square.args[0]
    if product is None or len(product.values) != 2 or not of_one_dtype(product):
        return None
    a, b = sorted(product.values, key=lambda v: -v.size)
    return (a, b) if a.shape == x.shape and b.ndim and b.shape[-1] == x.shape[-1] else None

