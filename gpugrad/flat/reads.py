"""Operations that read other elements than their result's own: which, as numbers that a loop can use.

Each kind has `sizes`, the axes over which the result is walked: axes of one element are left out, and neighbours are one
axis where every reading goes on from one to the next in equal steps. What is read is complete before the loop begins.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.elements import ours
from gpugrad.flat.ir import Op, Value
from gpugrad.flat.llvm import ELEMENTS
from gpugrad.flat.spots import address
from gpugrad.graph.namespace import PRIMITIVES

Sizes = tuple[int, ...]


class View(NamedTuple):
    """y[i, j, …] = x.flat[offset + i * steps[0] + j * steps[1] + …]"""

    sizes: Sizes
    offset: int
    steps: tuple[int, ...]


class Piece(NamedTuple):
    """The box of y in which the argument `arg` lies: axis by axis its start, its length, and the step in the argument."""

    arg: int
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    steps: tuple[int, ...]


class Placed(NamedTuple):
    """y is `rest` (a number, or argument 0 at its own place), and in each box an argument. Later boxes lie over earlier."""

    sizes: Sizes
    rest: float | None
    pieces: tuple[Piece, ...]


class Gathered(NamedTuple):
    """y[p, i, q] = x[p, rows[i], q]; axes of one element are left out of `sizes`, p and q together with their name."""

    sizes: Sizes
    shape: tuple[int, int, int]                  # of x


class Chained(NamedTuple):
    """y[p, d, q] = sum of g[p, i, q] over the i in the chain of d, in ascending order.

    The chains are one array: for each d the first i, then for each i the next; -1 ends a chain.
    """

    sizes: Sizes
    shape: tuple[int, int, int]                  # of g


class Overlaid(NamedTuple):
    """y[p, d, q] = v[p, last[d], q], or argument 0 at its own place where last[d] is -1."""

    sizes: Sizes
    shape: tuple[int, int, int]                  # of v, or of what it is everywhere


class Folded(NamedTuple):
    """y[i, …] = reduction of x.flat[i * steps[0] + … + k * inner_steps[0] + …] over k, …"""

    sizes: Sizes
    steps: tuple[int, ...]
    inner: Sizes
    inner_steps: tuple[int, ...]


class Triangle(NamedTuple):
    """y[…, r, c] = x[…, r, c] where c - r <= k (lower) or >= k, else 0."""

    sizes: Sizes
    k: int
    lower: bool


Reading = View | Placed | Gathered | Chained | Overlaid | Folded | Triangle
#: What reads argument 0 at its own place.
OWN = (Overlaid, Triangle)


def columns(reading: Reading) -> int:
    """The length of the rows in which the reading is simple; 0 where the order of the elements is enough."""
    return reading.sizes[-1] if len(reading.sizes) > 1 else 0


def reading(op: Op) -> Reading | None:
    """How a loop can do the operation; None where it cannot."""
    find = KINDS.get(op.name)
    values = (*op.values, *op.outputs)
    if find is None or len(op.outputs) != 1 or any(x.dtype not in ELEMENTS or not x.size for x in values) or not ours(op):
        return None
    return find(op)


# views -----------------------------------------------------------------------------------------------------------------

def joined(sizes: Sequence[int], *steps: Sequence[int]) -> tuple[Sizes, list[tuple[int, ...]]]:
    """(sizes, steps) with as few axes as say the same."""
    axes: list[list[int]] = []                           # [size, step, step, …], innermost first
    for size, *each in reversed(list(zip(sizes, *steps, strict=True))):
        if size == 1:
            continue
        if axes and all(step == axes[-1][0] * inner for step, inner in zip(each, axes[-1][1:], strict=True)):
            axes[-1][0] *= size
        else:
            axes.append([size, *each])
    rows = axes[::-1] or [[1] + [0] * len(steps)]
    return tuple([row[0] for row in rows]), [tuple([row[i + 1] for row in rows]) for i in range(len(steps))]


def view(op: Op) -> View | None:
    """NumPy says what is read: the operation is done with an array of bytes that is never looked into."""
    x = op.args[0]
    whole = numpy.empty(x.shape, numpy.int8)
    params = dict(op.params)
    if op.name == "getitem":
        index = params["index"] if type(params["index"]) is tuple else (params["index"],)
        if not all(item is None or item is Ellipsis or type(item) in (int, slice) for item in index):
            return None
        params["index"] = index if Ellipsis in index else (*index, ...)       # of a vector, one element is an array too
    function = numpy.broadcast_to if op.name == "spread" else PRIMITIVES[op.name].impls[numpy.ndarray]
    part = function(whole, **params)
    if part.shape != op.outputs[0].shape or not numpy.may_share_memory(part, whole):
        return None
    sizes, (steps,) = joined(part.shape, part.strides)
    return View(sizes, address(part) - address(whole), steps)


# boxes -----------------------------------------------------------------------------------------------------------------

def box(index: Any, shape: Sizes) -> list[tuple[int, int]] | None:
    """(start, length) for each axis of what a basic index names; None where that is no box."""
    items = list(index) if type(index) is tuple else [index]
    if not all(item is None or item is Ellipsis or type(item) in (int, slice) for item in items):
        return None
    items = [item for item in items if item is not None]
    if Ellipsis in items:
        i = items.index(Ellipsis)
        items[i:i + 1] = [slice(None)] * (len(shape) - len(items) + 1)
    items += [slice(None)] * (len(shape) - len(items))
    found = []
    for item, n in zip(items, shape, strict=True):
        start, stop, step = item.indices(n) if isinstance(item, slice) else (item % n, item % n + 1, 1)
        if step != 1:
            return None
        found.append((start, max(0, stop - start)))
    return found


def placed(op: Op, rest: float | None, boxes: Sequence[tuple[int, Sequence[tuple[int, int]] | None]]) -> Placed | None:
    """(argument, its box) in order. Axes are joined where the inner one is full in every box."""
    shape, y = op.outputs[0].shape, op.outputs[0]
    if any(b is None for _, b in boxes) or any(x.dtype != y.dtype for x in op.values):
        return None
    boxes = [(arg, b) for arg, b in boxes if b is not None and all(length for _, length in b)]
    axes: list[list[Any]] = []                           # [size, [(start, length) of each box]], innermost first
    for size, *parts in reversed(list(zip(shape, *[b for _, b in boxes if b is not None], strict=True))):
        if axes and all(part == (0, axes[-1][0]) for part in axes[-1][1]):
            inner = axes[-1][0]
            axes[-1] = [size * inner, [(start * inner, length * inner) for start, length in parts]]
        elif size > 1 or not axes:
            axes.append([size, parts])
    axes = axes[::-1] or [[1, [(0, 1)] * len(boxes)]]
    pieces = []
    for i, (arg, _) in enumerate(boxes):
        lengths = tuple([parts[i][1] for _, parts in axes])
        x = op.args[arg]
        if isinstance(x, Value) and x.size not in (1, math.prod(lengths)):
            return None
        one = not isinstance(x, Value) or x.size == 1
        steps = tuple([0 if one else math.prod(lengths[k + 1:]) for k in range(len(lengths))])
        pieces.append(Piece(arg, tuple([parts[i][0] for _, parts in axes]), lengths, steps))
    return Placed(tuple([size for size, _ in axes]), rest, tuple(pieces))


def scatter(op: Op) -> Placed | None:
    return placed(op, 0.0, [(0, box(op.params["index"], op.outputs[0].shape))])


def setitem(op: Op) -> Placed | None:
    x, v = op.args
    y = op.outputs[0]
    if not isinstance(x, Value) or x.shape != y.shape or not isinstance(v, Value | int | float):
        return None
    return placed(op, None, [(1, box(op.params["index"], y.shape))])


def pad(op: Op) -> Placed | None:
    value = op.params.get("value", 0)
    if type(value) not in (int, float):
        return None
    widths = op.params["pad_width"]
    return placed(op, value, [(0, [(before, n) for n, (before, _) in zip(op.args[0].shape, widths, strict=True)])])


def concatenate(op: Op) -> Placed | None:
    shape, axis, stop = op.outputs[0].shape, op.params["axis"], 0
    boxes = []
    for i, x in enumerate(op.args):
        if not isinstance(x, Value):
            return None
        start, stop = stop, stop + x.shape[axis]
        boxes.append((i, [(start, x.shape[axis]) if a == axis % len(shape) else (0, n) for a, n in enumerate(shape)]))
    return placed(op, 0.0, boxes)


def stack(op: Op) -> Placed | None:
    shape, axis = op.outputs[0].shape, op.params.get("axis", 0) % op.outputs[0].ndim
    if not all(isinstance(x, Value) for x in op.args):
        return None
    return placed(op, 0.0, [(i, [(i, 1) if a == axis else (0, n) for a, n in enumerate(shape)]) for i in range(len(op.args))])


# index arrays ----------------------------------------------------------------------------------------------------------

def rows_of(kind: type) -> Callable[[Op], Any]:
    """`expand` has brought the operation to one array of row numbers."""
    def find(op: Op) -> Any:
        before, rows, behind = op.params["shape"] if kind is Gathered else op.params["to"]
        count = op.args[1].size if kind is Gathered else rows
        sizes = tuple([n for n in (before, count, behind) if n > 1])
        return kind(sizes or (1,), op.params["shape"])
    return find


# reductions ------------------------------------------------------------------------------------------------------------

def fold(op: Op) -> Folded:
    """A reduction over any axes, params["how"], of what is there already."""
    x = op.args[0]
    gone = op.params["axis"]
    steps = [math.prod(x.shape[i + 1:]) for i in range(x.ndim)]
    kept = [i for i in range(x.ndim) if i not in gone]
    sizes, (outer,) = joined([x.shape[i] for i in kept], [steps[i] for i in kept])
    inner, (inside,) = joined([x.shape[i] for i in gone], [steps[i] for i in gone])
    return Folded(sizes, outer, inner, inside)


def triangle(op: Op) -> Triangle:
    x = op.args[0]
    return Triangle(x.shape, op.params["k"], op.name == "tril")


VIEWS = frozenset(("getitem", "transpose", "matrix_transpose", "flip", "diagonal", "spread"))
KINDS: dict[str, Callable[[Op], Reading | None]] = {
    **dict.fromkeys(VIEWS, view),
    "scatter": scatter, "setitem": setitem, "pad": pad, "concatenate": concatenate, "stack": stack,
    "gather_rows": rows_of(Gathered), "scatter_rows": rows_of(Chained), "overlay_rows": rows_of(Overlaid),
    "fold": fold,
    "tril": triangle, "triu": triangle,
}
