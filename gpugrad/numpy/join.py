"""Joining arrays and taking them apart, by NumPy's names."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import CPU, is_array, move, short
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import Link, Scalar, connect
from gpugrad.numpy._arguments import (
    array_among,
    as_dtype,
    as_int,
    as_tensor,
    as_tensors,
    counted_beside,
    device_beside,
    one_axis,
    pick,
    to_dtype,
    write_out,
)
from gpugrad.numpy.creation import arange, linspace
from gpugrad.numpy.creation import copy as copied
from gpugrad.numpy.shaping import atleast_1d, atleast_2d, atleast_3d, broadcast_to, needs, one_of, ravel

__all__ = ["append", "array_split", "block", "c_", "column_stack", "concat", "concatenate", "delete", "dsplit",
           "dstack", "hsplit", "hstack", "insert", "meshgrid", "r_", "sliding_window_view", "split", "stack", "trim_zeros",
           "unstack", "vander", "vsplit", "vstack"]


def sequence_of_arrays(op: str, arrays: Any) -> list[Tensor]:
    """The arrays of a list or tuple; a single array counts as the sequence of its parts."""
    if isinstance(arrays, Tensor) or is_array(arrays):
        arrays = unstack(arrays)
    if not isinstance(arrays, Sequence) or isinstance(arrays, str):
        raise DtypeError(f"{op}: expected a list of arrays, got {short(arrays)}. Put the arrays in a list.")
    if not arrays:
        raise ArgumentError(f"{op}: expected at least one array, got none. Check the list.")
    return as_tensors(op, *arrays)


# joining ---------------------------------------------------------------------------------------------------------------

def concatenate(arrays: Sequence[Any], /, axis: int | None = 0, out: Tensor | None = None, *, dtype: Any = None,
                casting: str = "same_kind") -> Tensor:
    """The arrays one after the other along an axis they have; None flattens them first.

    Raises ShapeError unless all other axes agree.
    """
    xs = sequence_of_arrays("concatenate", arrays)
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    if not xs[0].ndim:
        raise ShapeError("concatenate: expected arrays with at least one axis, got shape (). Use stack for numbers.")
    axis = one_axis("concatenate", axis, xs[0].ndim)
    first = xs[0].shape
    for i, x in enumerate(xs):
        if x.ndim != len(first) or x.shape[:axis] + x.shape[axis + 1:] != first[:axis] + first[axis + 1:]:
            raise ShapeError(f"concatenate: expected shapes that agree but for axis {axis}, got {first} and, at {i}, {x.shape}. "
                             "Reshape them first.")
    return joined("concatenate", xs, axis, out, dtype, casting)


concat = concatenate


def stack(arrays: Sequence[Any], axis: int = 0, out: Tensor | None = None, *, dtype: Any = None,
          casting: str = "same_kind") -> Tensor:
    """Arrays of one shape side by side along a new axis."""
    xs = sequence_of_arrays("stack", arrays)
    shapes = {x.shape for x in xs}
    if len(shapes) > 1:
        raise ShapeError(f"stack: expected arrays of one shape, got {', '.join(map(str, sorted(shapes)))}. Use concatenate.")
    return joined("stack", xs, one_axis("stack", axis, xs[0].ndim + 1), out, dtype, casting)


def joined(op: str, xs: list[Tensor], axis: int, out: Tensor | None, dtype: Any, casting: Any) -> Tensor:
    for x in xs if dtype is not None else ():
        if not numpy.can_cast(x.dtype, as_dtype(op, dtype), casting):
            raise DtypeError(f"{op}: expected arrays that may become dtype {as_dtype(op, dtype)} by the rule {casting!r}, "
                             f"got {x.dtype}. Use .astype first.")
    return write_out(op, out, getattr(T, op)(*[to_dtype(op, x, dtype) for x in xs], axis=axis))


def vstack(tup: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
    """Arrays above each other, vectors as rows."""
    return concatenate([atleast_2d(x) for x in sequence_of_arrays("vstack", tup)], dtype=dtype, casting=casting)


def hstack(tup: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Tensor:
    """Arrays beside each other: along the second axis, vectors along their only one."""
    xs = [atleast_1d(x) for x in sequence_of_arrays("hstack", tup)]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1, dtype=dtype, casting=casting)


def dstack(tup: Sequence[Any]) -> Tensor:
    """Arrays behind each other, along the third axis."""
    return concatenate([atleast_3d(x) for x in sequence_of_arrays("dstack", tup)], 2)


def column_stack(tup: Sequence[Any]) -> Tensor:
    """Arrays beside each other, vectors as columns."""
    xs = sequence_of_arrays("column_stack", tup)
    return concatenate([T.reshape(x, shape=(x.size, 1)) if x.ndim < 2 else x for x in xs], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Tensor:
    """`values` after `arr` along an axis; None flattens both."""
    return concatenate(as_tensors("append", arr, values), axis)


def block(arrays: Any) -> Tensor:
    """An array of blocks: the innermost lists are joined along the last axis, those around them along the one before."""
    depth = depth_of(arrays)
    parts = as_tensors("block", *flattened(arrays))
    rank = max([depth, *[x.ndim for x in parts]])
    rest = iter(parts)

    def build(nested: Any, level: int) -> Tensor:
        if not isinstance(nested, list):
            x = next(rest)
            return T.reshape(x, shape=(1,) * (rank - x.ndim) + x.shape)
        return concatenate([build(part, level + 1) for part in nested], rank - depth + level)
    return build(arrays, 0)


def depth_of(nested: Any) -> int:
    if isinstance(nested, tuple):
        raise DtypeError(f"block: expected nested lists, got the tuple {short(nested)}. Use lists.")
    if not isinstance(nested, list):
        return 0
    depths = {depth_of(part) for part in nested}
    if len(depths) != 1:
        raise ShapeError(f"block: expected lists of one depth, none of them empty, got {short(nested)}. Nest them evenly.")
    return 1 + depths.pop()


def flattened(nested: Any) -> list:
    return [x for part in nested for x in flattened(part)] if isinstance(nested, list) else [nested]


class ByIndex:
    """What is between the brackets, one after the other: gg.r_[x, 0, 1:4, 0:1:5j].

    A slice is arange(start, stop, step), or linspace of that many values where the step is imaginary. A string in front says
    "axis", "axis,ndim" or "axis,ndim,first": where to join, how many axes each part has at least, and where those of a
    smaller part begin (-1: at the end). Unlike NumPy's, it makes no matrices.
    """

    def __init__(self, name: str, axis: int, ndim: int, first: int):
        self.name, self.form = name, (axis, ndim, first)

    def __getitem__(self, key: Any) -> Tensor:
        items = list(key) if isinstance(key, tuple) else [key]
        axis, ndim, first = directive(self.name, items.pop(0), self.form) if items and isinstance(items[0], str) else self.form
        if not items:
            raise ArgumentError(f"{self.name}: expected at least one array, got none. Write gg.r_[x, 0, 1:4].")
        device = device_beside(array_among(items))
        items = [ranged(self.name, x, device) if isinstance(x, slice) else x for x in items]
        numbers = [type(x) in (bool, int, float, complex) for x in items]
        xs = as_tensors(self.name, *items)
        dtype = numpy.result_type(*[v if number else x.dtype for v, x, number in zip(items, xs, numbers, strict=True)])
        return concatenate([to_dtype(self.name, with_axes(x, ndim, first), dtype) for x in xs], axis)

    def __repr__(self) -> str:
        return f"gpugrad.{self.name}[...]"


def directive(name: str, text: str, form: tuple[int, int, int]) -> tuple[int, int, int]:
    """The numbers of a string such as "0,2,1", the missing ones as they are."""
    try:
        given = tuple(map(int, text.split(",")))
    except ValueError:
        given = ()
    if not 1 <= len(given) <= 3:
        raise ArgumentError(f"{name}: expected one to three ints in the string, got {text!r}. Write '0,2' or '0,2,1'.")
    return given + form[len(given):]          # type: ignore[return-value]


def ranged(name: str, item: slice, device: Any) -> Tensor:
    if item.stop is None:
        raise ArgumentError(f"{name}: expected a slice with a stop, got {item}. Write 0:5, 0:1:0.1 or 0:1:5j.")
    start = 0 if item.start is None else item.start
    if isinstance(item.step, complex):
        return linspace(start, item.stop, int(abs(item.step)), device=device)
    return arange(start, item.stop, 1 if item.step is None else item.step, device=device)


def with_axes(x: Tensor, ndim: int, first: int) -> Tensor:
    """x with at least that many axes: those it has begin at `first`, counted from the end where negative."""
    more = ndim - x.ndim
    if more <= 0:
        return x
    front = first if first >= 0 else first + more + 1
    return T.reshape(x, shape=(1,) * front + x.shape + (1,) * (more - front))


r_ = ByIndex("r_", 0, 1, -1)
c_ = ByIndex("c_", -1, 2, 0)


# taking apart ----------------------------------------------------------------------------------------------------------

def array_split(ary: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Parts along an axis: as many as an int says, as equal as can be, or cut at the given indices."""
    return parts_of("array_split", ary, indices_or_sections, axis, even=False)


def split(ary: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Parts along an axis: as many equal ones as an int says, or cut at the given indices."""
    return parts_of("split", ary, indices_or_sections, axis)


def hsplit(ary: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Parts beside each other: along the second axis, of a vector along its only one."""
    x = needs("hsplit", ary, 1)
    return parts_of("hsplit", x, indices_or_sections, min(1, x.ndim - 1))


def vsplit(ary: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Parts above each other, along the first axis."""
    return parts_of("vsplit", needs("vsplit", ary, 2), indices_or_sections, 0)


def dsplit(ary: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Parts behind each other, along the third axis."""
    return parts_of("dsplit", needs("dsplit", ary, 3), indices_or_sections, 2)


def parts_of(op: str, ary: Any, cuts: Any, axis: int, even: bool = True) -> list[Tensor]:
    x = as_tensor(op, ary)
    axis = one_axis(op, axis, x.ndim)
    n = x.shape[axis]
    if isinstance(cuts, Sequence) or (is_array(cuts) and cuts.ndim):
        borders = [0, *[slice(as_int(op, "an index", c)).indices(n)[1] for c in cuts], n]
        sizes = [max(stop - start, 0) for start, stop in zip(borders, borders[1:], strict=False)]
        return cut(x, borders, sizes, axis)
    count = as_int(op, "number of parts", cuts)
    if count < 1 or (even and n % count):
        raise ArgumentError(f"{op}: expected a number of parts that divides {n}, got {count}. Use array_split for unequal parts.")
    sizes = [n // count + (i < n % count) for i in range(count)]
    return pieces(x, sizes, axis)


def cut(x: Tensor, borders: list[int], sizes: list[int], axis: int) -> list[Tensor]:
    if sum(sizes) == x.shape[axis]:
        return pieces(x, sizes, axis)
    lead = (slice(None),) * axis                            # indices that go back: parts overlap
    return [T.getitem(x, index=(*lead, slice(start, start + size))) for start, size in zip(borders, sizes, strict=False)]


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, without it."""
    x = as_tensor("unstack", x)
    axis = one_axis("unstack", axis, x.ndim)
    parts = [T.squeeze(part, axis=(axis,)) for part in pieces(x, [1] * x.shape[axis], axis)]
    if x.ndim == 1:                                         # NumPy's scalars
        for i, part in enumerate(parts):
            connect(Scalar, part, x, PRIMITIVES["getitem"], {"index": (i,)})
    return tuple(parts)


def pieces(x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
    """Parts of these lengths along an axis, as views."""
    parts, start = list(T.split(x, sizes=tuple(sizes), axis=axis)), 0
    for part, size in zip(parts, sizes, strict=True):
        connect(Link, part, x, PRIMITIVES["getitem"], {"index": (slice(None),) * axis + (slice(start, start + size),)})
        start += size
    return parts


# elements out and in ---------------------------------------------------------------------------------------------------

def delete(arr: Any, obj: Any, axis: int | None = None) -> Tensor:
    """Without the elements at `obj` (int, slice, ints or mask) along an axis; None flattens first."""
    x, axis = along_one_axis("delete", arr, axis)
    return pick(x, on_host("delete", numpy.delete, x.shape[axis], obj), axis)


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Tensor:
    """With `values` before the elements at `obj` (int, slice, ints or mask) along an axis; None flattens first."""
    x, axis = along_one_axis("insert", arr, axis)
    n = x.shape[axis]
    places = on_host("insert", lambda a, places: numpy.insert(a, places, -1), n, obj)
    fresh = numpy.flatnonzero(places == -1)
    v = to_dtype("insert", as_tensor("insert", values, x), x.dtype)
    v = T.reshape(v, shape=(1,) * (x.ndim - v.ndim) + v.shape)
    if not isinstance(obj, slice) and numpy.ndim(obj) == 0:
        v = T.moveaxis(v, source=0, destination=axis)
    if len(fresh) == 1:                                                # one place takes all the values
        fresh = fresh[0] + numpy.arange(v.shape[axis])
    lengths = (*x.shape[:axis], len(fresh), *x.shape[axis + 1:])
    order = numpy.empty(n + len(fresh), int)
    kept = numpy.ones(len(order), bool)
    kept[fresh] = False
    order[kept], order[fresh] = numpy.arange(n), numpy.arange(n, n + len(fresh))
    return pick(T.concatenate(x, broadcast_to(v, lengths), axis=axis), order, axis)


def along_one_axis(op: str, a: Any, axis: int | None) -> tuple[Tensor, int]:
    x = as_tensor(op, a)
    return (ravel(x), 0) if axis is None else (x, one_axis(op, axis, x.ndim))


def on_host(op: str, function: Callable, n: int, obj: Any) -> numpy.ndarray:
    """NumPy's own function on the numbers of the elements."""
    obj = obj.numpy() if isinstance(obj, Tensor) else move(obj, CPU) if is_array(obj) else obj
    try:
        return function(numpy.arange(n), obj)
    except (IndexError, ValueError) as error:
        raise ArgumentError(f"{op}: expected places among {n} elements, got {short(obj)} ({error}). Check the places.") from error


def trim_zeros(filt: Any, trim: str = "fb", axis: int | Sequence[int] | None = None) -> Tensor:
    """Without the zeros at the front ("f") and back ("b") of a vector. Where they are is looked up, so not inside vmap."""
    x = as_tensor("trim_zeros", filt)
    one_of("trim_zeros", "trim", "".join(sorted(trim.lower())), ("f", "b", "bf"))
    axes = range(x.ndim) if axis is None else [one_axis("trim_zeros", a, x.ndim) for a in numpy.atleast_1d(axis)]
    nonzero = (x.detach() != 0).numpy()
    index = [slice(None)] * x.ndim
    for a in axes:
        present = numpy.flatnonzero(nonzero.any(axis=tuple(i for i in range(x.ndim) if i != a)))
        start = int(present[0]) if "f" in trim.lower() and present.size else 0
        stop = int(present[-1]) + 1 if "b" in trim.lower() and present.size else x.shape[a]
        index[a] = slice(start, stop) if present.size else slice(0, 0)
    return T.getitem(x, index=tuple(index))


# patterns --------------------------------------------------------------------------------------------------------------

def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Tensor, ...]:
    """The coordinates of a grid, one array for each vector.

    indexing  "xy": the first vector runs along columns, as in a plot; "ij": along the first axis
    sparse    leave each with length 1 along the axes of the others
    copy      give each memory of its own; else they are views, which may not be written to
    """
    one_of("meshgrid", "indexing", indexing, ("xy", "ij"))
    xs = [T.reshape(x, shape=(x.size,)) for x in as_tensors("meshgrid", *xi)]
    axes = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        axes[:2] = [1, 0]
    shape = [0] * len(xs)
    for x, a in zip(xs, axes, strict=True):
        shape[a] = x.size
    grid = [T.reshape(x, shape=tuple([x.size if i == a else 1 for i in range(len(xs))])) for x, a in zip(xs, axes, strict=True)]
    grid = grid if sparse else [broadcast_to(x, tuple(shape)) for x in grid]
    return tuple(map(copied, grid) if copy else grid)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers x**0 ... x**(N-1) of each element as a row, from the highest down unless increasing."""
    x = as_tensor("vander", x)
    if x.ndim != 1:
        raise ShapeError(f"vander: expected one axis, got shape {x.shape}. Use .ravel().")
    n = x.size if N is None else as_int("vander", "N", N)
    ones = T.zeros_as(x, shape=(x.size, min(n, 1))) + 1
    if n > 1:
        powers = T.spread(T.expand_dims(x, axis=(1,)), shape=(x.size, n - 1))
        ones = T.concatenate(ones, T.cumprod(powers, axis=1), axis=1)
    return ones if increasing else T.flip(ones, axis=(1,))


def sliding_window_view(x: Any, window_shape: int | Sequence[int], axis: int | Sequence[int] | None = None, *,
                        subok: bool = False, writeable: bool = False) -> Tensor:
    """All windows of a shape, in new axes at the end. Unlike NumPy's, the result is a copy: overlaps add up in the gradient."""
    x = as_tensor("sliding_window_view", x)
    lengths = list(window_shape) if isinstance(window_shape, Sequence) else [window_shape]
    axes = list(range(x.ndim)) if axis is None else [one_axis("sliding_window_view", a, x.ndim) for a in numpy.atleast_1d(axis)]
    if len(lengths) != len(axes):
        raise ShapeError(f"sliding_window_view: expected a length for each of {len(axes)} axes, got {window_shape}. "
                         "Name the axes.")
    for a, length in zip(axes, lengths, strict=True):
        n = x.shape[a] - as_int("sliding_window_view", "a length", length) + 1
        if n < 1 or length < 0:
            raise ShapeError(f"sliding_window_view: expected a window of 0 to {x.shape[a]} along axis {a}, got {length}. "
                             "Pad the array first.")
        places = T.expand_dims(counted_beside(n, x), axis=(1,)) + counted_beside(length, x)
        x = T.moveaxis(pick(x, places, a), source=a + 1, destination=x.ndim)
    return x
