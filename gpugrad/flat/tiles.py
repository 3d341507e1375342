"""Groups of operations that run over a few rows at a time, so that what is between them stays in the cache.

A row is an index of the first axis that is longer than 1. An operation goes over rows where row i of its result needs row i of
some arguments and the others whole: elementwise operations, reductions over later axes, softmax cross-entropy, standardisation.
A reduction over the rows themselves gives one part for each tile; the parts are reduced in order after the loop. Where tiles
begin depends on sizes alone, so the result does not depend on the number of threads.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.ir import Graph, Op, Value

#: Elements of its widest array that a tile holds: shorter passes are spent on threads waiting for each other (with half of it W9
#: and W10 are a quarter slower on two cores), and longer tiles take memory for little: with twice of it they are a tenth faster.
TILE = 1 << 17
#: Elements that the operations of a group read and make, below which threads cost what they save: of 4 operations on two busy
#: cores, a tie at 2.8 million, 1.3 times faster at 5.5 million.
LEAST = 1 << 22
#: Elements of a tile that is no longer in any cache: rows so long are not worth a group.
WIDEST = 1 << 20
#: Operations on arrays below this begin no group; they join one whose rows they take, such as the means of rows.
SMALL = 1 << 12

REDUCTIONS = frozenset(("sum", "max", "min", "prod", "all", "any"))
#: Elementwise operations that are not ufuncs.
ELEMENTWISE = frozenset((
    "astype", "where", "unit_step", "sigmoid", "softplus", "silu", "silu_slope", "elu", "leaky_relu", "gelu", "gelu_slope",
    "gelu_tanh", "gelu_tanh_slope", "scale_shift", "relu_pull", "erf",
    "one_minus_square"))
VIEWS = frozenset(("alias", "reshape"))
#: Sums by einsum, which makes no array of products: over rows, of the product of two arrays of one shape; along rows, of an
#: array or of the product of two.
COLUMN_PRODUCTS, ROW_PRODUCTS = "column_products", "row_products"
#: Operations on the last axis, or along their `axis`.
LAST = frozenset(("cross_entropy", "cross_entropy_pull"))
ALONG = frozenset(("standardize", "standardize_pull"))


class Rows(NamedTuple):
    """How an operation goes over rows: their number, the arguments of which it needs the row, whether it reduces them."""

    number: int
    by_row: frozenset[Value]
    partial: bool = False


class Tile:
    """A group: `ops` in order, over `rows` rows, `step` at a time.

    roles     how each operation goes over rows
    values    what it reads, made outside
    whole     of these, what every tile reads whole
    outputs   what others read of what it makes
    parts     output that reduces rows -> array of its parts, (tiles, *shape)
    """

    __slots__ = ("ops", "roles", "rows", "step", "values", "whole", "outputs", "parts")

    def __init__(self, ops: list[Op], roles: dict[Op, Rows]):
        self.ops, self.roles = ops, roles
        self.rows = roles[ops[0]].number
        self.step = step_of(self.rows, self.widest)
        made = {v for op in ops for v in op.outputs}
        self.values: tuple[Value, ...] = tuple({x: None for op in ops for x in op.values if x not in made})
        self.whole = {x for op in ops for x in op.values if x not in roles[op].by_row}
        self.outputs: tuple[Value, ...] = ()
        self.parts: dict[Value, Value] = {}

    def arrays(self, op: Op) -> Iterator[Value]:
        """Those of an operation that are taken or made row by row."""
        yield from self.roles[op].by_row
        if not self.roles[op].partial:
            yield from op.outputs

    @property
    def widest(self) -> int:
        """Elements in a row of the widest array."""
        return max(v.size // self.rows for op in self.ops for v in self.arrays(op))

    @property
    def tiles(self) -> int:
        return -(-self.rows // self.step)

    @property
    def pays(self) -> bool:
        work = sum(v.size for op in self.ops if op.name not in VIEWS for v in self.arrays(op))
        return work >= LEAST and self.tiles > 1 and self.step * self.widest <= WIDEST

    def nbytes(self, v: Value) -> int:
        """Bytes in a tile of a value that is made row by row."""
        return v.size // self.rows * self.step * v.dtype.itemsize


Step = Op | Tile


def step_of(rows: int, width: int) -> int:
    """Rows in a tile. The tiles are even in number and in size, for two threads."""
    tiles = -(-rows * width // TILE)
    step = -(-rows // (tiles + tiles % 2)) if tiles > 1 else rows
    return step if step < 256 else -(-step // 16) * 16


def lead(v: Value) -> int:
    """The first axis that is longer than 1, or ndim."""
    return next((i for i, n in enumerate(v.shape) if n != 1), v.ndim)


def rows_of(v: Value) -> int:
    i = lead(v)
    return v.shape[i] if i < v.ndim else 1


def is_elementwise(function: Any) -> bool:
    """Whether the function is a ufunc with one result, element by element: matmul has a signature."""
    return isinstance(function, numpy.ufunc) and function.nout == 1 and function.signature is None


def ours(op: Op) -> bool:
    return isinstance(op.function, numpy.ufunc) or (getattr(op.function, "__module__", None) or "numpy").partition(".")[0] in (
        "gpugrad", "numpy")


def by_rows(op: Op) -> Rows | None:
    """How the operation goes over rows; None where it does not."""
    if not ours(op) or not all(v.size for v in (*op.values, *op.outputs)):
        return None
    name, values = op.name, list(op.values)
    if name in REDUCTIONS and len(values) == 1:
        return reducing(op, values[0])
    if name == COLUMN_PRODUCTS:
        return Rows(rows_of(values[0]), frozenset(values), partial=True)
    if name == ROW_PRODUCTS:
        return elementwise(values[0], values) if lead(values[0]) < values[0].ndim - 1 else None
    if (name in ELEMENTWISE and len(op.outputs) == 1) or (is_elementwise(op.function) and not op.params and values):
        return elementwise(op.outputs[0], values)
    if name in LAST or name in ALONG:
        main = max(values, key=lambda v: v.ndim)
        axes = op.params["axis"] if name in ALONG else (main.ndim - 1,)
        same = all(rows_of(v) == rows_of(main) and lead(v) == lead(main) for v in (*values, *op.outputs))
        return Rows(rows_of(main), frozenset(values)) if same and lead(main) < min(axes) else None
    if name in VIEWS and rows_of(values[0]) == rows_of(op.outputs[0]) > 1:
        return Rows(rows_of(values[0]), frozenset(values))
    return None


def is_small(op: Op) -> bool:
    return max(v.size for v in (*op.values, *op.outputs)) < SMALL


def reducing(op: Op, x: Value) -> Rows | None:
    axis = op.params.get("axis")
    if not isinstance(axis, tuple) or rows_of(x) < 2:
        return None
    if lead(x) in axis:
        return Rows(rows_of(x), frozenset((x,)), partial=True) if x.dtype != numpy.float16 else None
    return Rows(rows_of(x), frozenset((x,)))


def elementwise(y: Value, values: list[Value]) -> Rows | None:
    """Rows of y; an argument is taken by row where its axis there is as long, and whole where it is broadcast along it."""
    count, from_right = rows_of(y), y.ndim - lead(y)
    if count < 2:
        return None
    by_row = [x for x in values if x.ndim >= from_right and x.shape[x.ndim - from_right] == count]
    return Rows(count, frozenset(by_row)) if by_row else None


def grouped(graph: Graph) -> list[Step]:
    """The program with groups where they pay. A group stands where its first operation stood, or later."""
    places: list[list[Op]] = []
    counts: list[int] = []                                # rows of a group, 0 for an operation by itself
    seen: list[set[Value]] = []                           # what a group reads or makes by row
    last: dict[int, int] = {}                             # rows -> the last group of so many
    made: dict[Value, int] = {}                           # value -> where it is made
    roles: dict[Op, Rows] = {}
    for op in graph.ops:
        rows = by_rows(op)
        if rows and is_small(op) and not (rows.number in last and seen[last[rows.number]] & rows.by_row):
            rows = None
        floor = max([made.get(x, -1) + (rows is None or counts[made[x]] != rows.number or x not in seen[made[x]]
                                        or x not in rows.by_row) for x in op.values if x in made], default=0)
        at = last.get(rows.number, -1) if rows else -1
        if rows is None or at < floor or not (at == len(places) - 1 or seen[at] & rows.by_row):
            at = len(places)
            places.append([])
            counts.append(rows.number if rows else 0)
            seen.append(set())
        places[at].append(op)
        if rows is not None:
            roles[op], last[rows.number] = rows, at
            seen[at] |= rows.by_row | set(() if rows.partial else op.outputs)
        made.update(dict.fromkeys(op.outputs, at))
    steps: list[Step] = []
    for ops, count in zip(places, counts, strict=True):
        tile = Tile(ops, roles) if count else None
        steps += ops if tile is None or not tile.pays else [tile, *(op for op in ops if op.name in VIEWS)]
    return finished(graph, steps)


def finished(graph: Graph, steps: list[Step]) -> list[Step]:
    """Find what leaves each group; a view of a group's that leaves it is made again, of all rows, behind it."""
    inside = {op for step in steps if isinstance(step, Tile) for op in step.ops}
    later, number, kept = set(graph.outputs), graph.fresh(), list[Step]()
    for step in reversed(steps):
        if step in inside and not later.intersection(step.outputs):
            continue
        kept.append(step)
        if isinstance(step, Tile):
            step.outputs = tuple([v for op in step.ops if op.name not in VIEWS for v in op.outputs if v in later])
            for v in step.outputs:
                if v.op is not None and step.roles[v.op].partial:
                    step.parts[v] = Value(number, (step.tiles, *v.shape), v.dtype)
                    number += 1
        later.update(step.values)
    return kept[::-1]
