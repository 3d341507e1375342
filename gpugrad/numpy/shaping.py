"""Shapes and axes, by NumPy's names. No element changes; where NumPy returns a view, so does this, on the same memory."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, AxisError, ShapeError
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import ReadOnly, connect
from gpugrad.numpy._arguments import as_int, as_shape, as_tensor, as_tensors, normalize_axis, one_axis, pick

__all__ = ["atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_to", "expand_dims", "flip", "fliplr",
           "flipud", "matrix_transpose", "moveaxis", "ndim", "permute_dims", "ravel", "repeat", "reshape", "resize", "roll",
           "rollaxis", "rot90", "shape", "size", "squeeze", "swapaxes", "tile", "transpose"]


def shape(a: Any) -> tuple[int, ...]:
    """The lengths of the axes."""
    return as_tensor("shape", a).shape


def ndim(a: Any) -> int:
    """How many axes there are."""
    return as_tensor("ndim", a).ndim


def size(a: Any, axis: int | tuple[int, ...] | None = None) -> int:
    """How many elements there are, in all or along some axes."""
    lengths = as_tensor("size", a).shape
    return math.prod([lengths[i] for i in normalize_axis("size", axis, len(lengths))])


# the same elements in another shape ------------------------------------------------------------------------------------

def reshape(a: Any, /, shape: int | Sequence[int], order: str = "C", *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape, of which one length may be -1.

    order   "C": the last axis runs fastest; "F": the first does. A Tensor has no memory order, so "A" is "C".

    Raises ShapeError where the numbers of elements differ.
    """
    x = as_tensor("reshape", a)
    shape = lengths_of("reshape", shape, x)
    if one_of("reshape", "order", order, "CFA") == "F":
        x = T.transpose(x, axes=tuple(reversed(range(x.ndim))))
        x = T.reshape(x, shape=shape[::-1])
        x = T.transpose(x, axes=tuple(reversed(range(x.ndim))))
    else:
        x = T.reshape(x, shape=shape)
    return T.astype(x, dtype=x.dtype) if copy else x


def lengths_of(op: str, shape: Any, x: Tensor) -> tuple[int, ...]:
    """A shape for the elements of x, with its -1 replaced."""
    wanted = tuple(as_int(op, "a length", n) for n in (shape if isinstance(shape, Sequence | numpy.ndarray) else (shape,)))
    known = math.prod([n for n in wanted if n != -1])
    if wanted.count(-1) == 1 and known > 0 and x.size % known == 0:
        return tuple([x.size // known if n == -1 else n for n in wanted])
    if known != x.size or min(wanted, default=0) < 0:
        raise ShapeError(f"{op}: expected a shape of {x.size} elements for {x.shape}, got {wanted}. One length may be -1.")
    return wanted


def one_of(op: str, name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in tuple(choices):
        raise ArgumentError(f"{op}: expected {name} to be one of {', '.join(map(repr, choices))}, got {value!r}. Choose one.")
    return value


def ravel(a: Any, order: str = "C") -> Tensor:
    """All elements along one axis."""
    return reshape(as_tensor("ravel", a), -1 if size(a) else 0, order)


def squeeze(a: Any, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Without the axes of length 1, or without those named, which must have length 1."""
    x = as_tensor("squeeze", a)
    if axis is None:
        axes = tuple([i for i, n in enumerate(x.shape) if n == 1])
    else:
        axes = normalize_axis("squeeze", axis, x.ndim)
        if any(x.shape[i] != 1 for i in axes):
            raise ShapeError(f"squeeze: expected axes of length 1, got axis {axis} of shape {x.shape}. Index the axis instead.")
    return T.squeeze(x, axis=axes)


def expand_dims(a: Any, axis: int | tuple[int, ...]) -> Tensor:
    """With new axes of length 1 at the places `axis` of the result."""
    x = as_tensor("expand_dims", a)
    count = len(axis) if isinstance(axis, Sequence) else 1
    return T.expand_dims(x, axis=normalize_axis("expand_dims", axis, x.ndim + count))


def atleast(op: str, arrays: tuple, widen: Any) -> Any:
    """One result for one array, else a tuple."""
    results = tuple([widen(x) if x.ndim < int(op[-2]) else x for x in (as_tensor(op, a) for a in arrays)])
    return results[0] if len(results) == 1 else results


def atleast_1d(*arys: Any) -> Any:
    """Each array with at least one axis; a tuple for several."""
    return atleast("atleast_1d", arys, lambda x: T.reshape(x, shape=(1,)))


def atleast_2d(*arys: Any) -> Any:
    """Each array with at least two axes: a vector becomes a row."""
    return atleast("atleast_2d", arys, lambda x: T.reshape(x, shape=(1, x.size)))


def atleast_3d(*arys: Any) -> Any:
    """Each array with at least three axes: a vector becomes (1, n, 1), a matrix (m, n, 1)."""
    return atleast("atleast_3d", arys, lambda x: T.reshape(x, shape=(*x.shape, 1) if x.ndim == 2 else (1, x.size, 1)))


# the order of axes -----------------------------------------------------------------------------------------------------

def transpose(a: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Axes in another order, by default reversed: axis i of the result is axis axes[i] of a."""
    x = as_tensor("transpose", a)
    if axes is None:
        return T.transpose(x, axes=tuple(reversed(range(x.ndim))))
    order = normalize_axis("transpose", tuple(axes) if isinstance(axes, Sequence) else (axes,), x.ndim)
    if len(order) != x.ndim:
        raise AxisError(f"transpose: expected all {x.ndim} axes of shape {x.shape}, got {axes}. Name each axis once.")
    return T.transpose(x, axes=order)


permute_dims = transpose


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged."""
    x = as_tensor("matrix_transpose", x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: expected at least two axes, got shape {x.shape}. Use x[:, None] for a column.")
    return T.swapaxes(x, axis1=x.ndim - 2, axis2=x.ndim - 1)


def swapaxes(a: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = as_tensor("swapaxes", a)
    return T.swapaxes(x, axis1=one_axis("swapaxes", axis1, x.ndim), axis2=one_axis("swapaxes", axis2, x.ndim))


def moveaxis(a: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other places; the rest stay in order."""
    x = as_tensor("moveaxis", a)
    here, there = normalize_axis("moveaxis", source, x.ndim), normalize_axis("moveaxis", destination, x.ndim)
    if source is None or destination is None or len(here) != len(there):
        raise AxisError(f"moveaxis: expected as many places as axes, got source {source} and destination {destination}. "
                        "Name a place for each axis.")
    order = [i for i in range(x.ndim) if i not in here]
    for place, axis in sorted(zip(there, here, strict=True)):
        order.insert(place, axis)
    return T.transpose(x, axes=tuple(order))


def rollaxis(a: Any, axis: int, start: int = 0) -> Tensor:
    """One axis moved back until it stands before axis `start`."""
    x = as_tensor("rollaxis", a)
    axis = one_axis("rollaxis", axis, x.ndim)
    start = one_axis("rollaxis", start, x.ndim + 1) if start >= 0 else one_axis("rollaxis", start, x.ndim)
    return T.moveaxis(x, source=axis, destination=start - 1 if axis < start else start)


# more of the same elements ---------------------------------------------------------------------------------------------

def broadcast_to(array: Any, shape: int | Sequence[int], subok: bool = False) -> Tensor:
    """The array repeated along new axes and axes of length 1, to a shape."""
    x, shape = as_tensor("broadcast_to", array), as_shape("broadcast_to", shape)
    lead = len(shape) - x.ndim
    if lead < 0 or any(n not in (1, wanted) for n, wanted in zip(x.shape, shape[lead:], strict=True)):
        raise ShapeError(f"broadcast_to: expected a shape that {x.shape} broadcasts to, got {shape}. "
                         "Only axes of length 1 can be repeated.")
    return seen_as(x, shape)


def seen_as(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x in a shape that it broadcasts to, as a view that may not be written to."""
    y = T.spread(x, shape=shape)
    connect(ReadOnly, y, x, PRIMITIVES["spread"], {"shape": shape})
    return y


def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Tensor, ...]:
    """All arrays in the shape they broadcast to together."""
    xs = as_tensors("broadcast_arrays", *args)
    try:
        shape = numpy.broadcast_shapes(*[x.shape for x in xs])
    except ValueError as error:
        raise ShapeError(f"broadcast_arrays: expected shapes that fit, got {', '.join(str(x.shape) for x in xs)}. "
                         "Lengths must agree or be 1.") from error
    return tuple([seen_as(x, shape) if x.shape != shape else x for x in xs])


def repeat(a: Any, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element repeated in place: `repeats` times, or as often as its number in `repeats` says.

    axis    where to repeat; None flattens first
    """
    x = as_tensor("repeat", a)
    if axis is None:
        x, axis = T.reshape(x, shape=(x.size,)), 0
    axis = one_axis("repeat", axis, x.ndim)
    times = numpy.asarray(repeats)
    if times.dtype.kind not in "iu" or times.ndim > 1 or (times < 0).any():
        raise ArgumentError(f"repeat: expected counts of at least 0, got {short(repeats)}. Pass an int or a sequence of ints.")
    if times.size == 1:
        n = int(times.reshape(())[()])
        more = T.spread(T.expand_dims(x, axis=(axis + 1,)), shape=(*x.shape[:axis + 1], n, *x.shape[axis + 1:]))
        return T.reshape(more, shape=(*x.shape[:axis], x.shape[axis] * n, *x.shape[axis + 1:]))
    if len(times) != x.shape[axis]:
        raise ShapeError(f"repeat: expected one count or {x.shape[axis]}, got {len(times)}. Pass a count for each element.")
    return pick(x, numpy.repeat(numpy.arange(x.shape[axis]), times), axis)


def tile(A: Any, reps: int | Sequence[int]) -> Tensor:
    """The whole array repeated reps[i] times along axis i."""
    x, reps = as_tensor("tile", A), as_shape("tile", reps)
    rank = max(x.ndim, len(reps))
    lengths = (1,) * (rank - x.ndim) + x.shape
    reps = (1,) * (rank - len(reps)) + reps
    apart = T.reshape(x, shape=tuple([m for n in lengths for m in (1, n)]))
    more = T.spread(apart, shape=tuple([m for pair in zip(reps, lengths, strict=True) for m in pair]))
    return T.reshape(more, shape=tuple([r * n for r, n in zip(reps, lengths, strict=True)]))


def resize(a: Any, new_shape: int | Sequence[int]) -> Tensor:
    """The elements of `a`, from the start again as often as needed, in a new shape. Of no elements come zeros."""
    x, shape = as_tensor("resize", a), as_shape("resize", new_shape)
    n = math.prod(shape)
    if not x.size:
        return T.zeros_as(x, shape=shape)
    row = T.reshape(x, shape=(x.size,))
    if n > x.size:
        row = tile(row, -(-n // x.size))
    row = T.getitem(row, index=(slice(0, n),))
    own = T.astype(row, dtype=row.dtype) if row.dtype.kind in "fc" else T.discretise(row, dtype=row.dtype)
    return T.reshape(own, shape=shape)


# the same elements elsewhere -------------------------------------------------------------------------------------------

def flip(m: Any, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Elements in reverse order along some axes, by default all."""
    x = as_tensor("flip", m)
    return T.flip(x, axis=normalize_axis("flip", axis, x.ndim))


def fliplr(m: Any) -> Tensor:
    """Columns in reverse order."""
    return flip(needs("fliplr", m, 2), 1)


def flipud(m: Any) -> Tensor:
    """Rows in reverse order."""
    return flip(needs("flipud", m, 1), 0)


def needs(op: str, a: Any, rank: int) -> Tensor:
    x = as_tensor(op, a)
    if x.ndim < rank:
        raise ShapeError(f"{op}: expected at least {rank} {'axis' if rank == 1 else 'axes'}, got shape {x.shape}. Use x[None].")
    return x


def rot90(m: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """A quarter turn in the plane of two axes, k times, from the first axis towards the second."""
    x = as_tensor("rot90", m)
    plane = normalize_axis("rot90", tuple(axes), x.ndim)
    if len(plane) != 2:
        raise AxisError(f"rot90: expected two axes, got {axes}. They span the plane of the turn.")
    k = as_int("rot90", "k", k) % 4
    if k == 2:
        return T.flip(x, axis=plane)
    if k == 1:
        x = T.flip(x, axis=plane[1:])
    x = T.swapaxes(x, axis1=plane[0], axis2=plane[1]) if k else x
    return T.flip(x, axis=plane[1:]) if k == 3 else x


def roll(a: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved on by `shift` places; what leaves at the end comes in at the start.

    axis    where to move; None moves along the flattened array
    """
    x = as_tensor("roll", a)
    if axis is None:
        flat = T.reshape(x, shape=(x.size,))
        return T.reshape(T.roll(flat, shift=(as_int("roll", "shift", shift),), axis=(0,)), shape=x.shape)
    axes = [one_axis("roll", i, x.ndim) for i in (axis if isinstance(axis, Sequence) else (axis,))]
    shifts = [as_int("roll", "shift", n) for n in (shift if isinstance(shift, Sequence) else (shift,))]
    if len(axes) != len(shifts) and 1 not in (len(axes), len(shifts)):
        raise ShapeError(f"roll: expected as many shifts as axes, got {shift} for {axis}. Name a shift for each axis.")
    n = max(len(axes), len(shifts))
    return T.roll(x, shift=tuple(shifts * n if len(shifts) == 1 else shifts), axis=tuple(axes * n if len(axes) == 1 else axes))
