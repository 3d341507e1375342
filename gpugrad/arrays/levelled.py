"""Reading and writing at indices, the same on NumPy and CuPy. Each function takes the module and returns the raw function.

An index with ARRAYs has one item for every axis (an int, a slice or ARRAY), and None where it makes a new axis.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays.half import in_float32
from gpugrad.arrays.memory import exclusive
from gpugrad.arrays.modules import module_of
from gpugrad.errors import IndexingError


class _Array:
    """In an index, the place of an index array; the arrays themselves are inputs of the operation."""

    def __repr__(self) -> str:
        return "array"


ARRAY = _Array()


def filled(index: tuple, arrays: tuple) -> tuple:
    """The index with its arrays in their places."""
    rest = iter(arrays)
    return tuple([next(rest) if item is ARRAY else item for item in index])


def layout(index: tuple) -> tuple[bool, int, int]:
    """Where the axes of the index arrays go in the result: (in front or in place, axes before them, axes behind).

    NumPy puts them in front where a slice stands between two arrays or ints, else in the place of the first.
    """
    moving = [item is None or isinstance(item, slice) for item in index]
    first = moving.index(False)
    behind = moving[::-1].index(False)
    if any(moving[first:len(moving) - behind]):
        return True, 0, sum(moving)
    return False, first, behind


def getitem(xp: Any) -> Callable:
    return lambda x, index: x[index]


def scatter(xp: Any) -> Callable:
    """Zeros with g at an index that names no element twice."""
    def run(g, index, shape):
        y = xp.zeros(shape, g.dtype)
        y[index] = g
        return y
    return run


def add_at(total: Any, g: Any, x: Any, index: Any) -> None:
    """total[index] += g, for an index that names no element twice."""
    total[index] += g


def add_gathered(total: Any, g: Any, x: Any, *arrays: Any, index: tuple) -> None:
    """total[index] += g for index arrays; a small part of a large array is added without making the whole."""
    if type(total) is numpy.ndarray and 16 * g.size < total.size:
        numpy.add.at(total, filled(index, arrays), g)
    else:
        total += scatter_add(module_of(total))(g, *arrays, index=index, shape=total.shape)


def setitem(xp: Any) -> Callable:
    """A copy of x with v at an index."""
    def run(x, v, index):
        y = x.copy()
        y[index] = v
        return y
    return run


def in_place(g: Any, holders: int) -> bool:
    """Whether an array of NumPy's, which the caller holds so often, may be written to."""
    return type(g) is numpy.ndarray and exclusive(g, holders + 1)


def gather(xp: Any) -> Callable:
    return lambda x, *arrays, index: x[filled(index, arrays)]


def scatter_add(xp: Any) -> Callable:
    """Zeros with g added at index arrays, which may name an element many times."""
    def run(g, *arrays, index, shape):
        _, before, behind = layout(index)
        items = [item for item in filled(index, arrays) if item is not None]
        kept = [axis for axis, item in enumerate(items) if isinstance(item, slice)]
        named = [axis for axis in range(len(shape)) if axis not in kept]
        rows = row_numbers(xp, [items[axis] for axis in named], [shape[axis] for axis in named])
        lengths = [len(range(*items[axis].indices(shape[axis]))) for axis in kept]
        if before:                                                # the axes of the index arrays first
            g = g.transpose(*range(before, g.ndim - behind), *range(before), *range(g.ndim - behind, g.ndim))
        g = g.reshape(rows.size, math.prod(lengths))
        total = add_rows(xp, g, rows.reshape(-1), math.prod([shape[axis] for axis in named]))
        total = total.reshape([shape[axis] for axis in named] + lengths)
        total = total.transpose([(named + kept).index(axis) for axis in range(len(shape))])
        if all(items[axis] == slice(None) for axis in kept):
            return total
        y = xp.zeros(shape, g.dtype)
        y[tuple([item if isinstance(item, slice) else slice(None) for item in items])] = total
        return y
    return run


def row_numbers(xp: Any, places: list, lengths: list) -> Any:
    """Which row of an array whose axes of these lengths were joined each place is."""
    rows = None
    for place, length in zip(places, lengths, strict=True):
        place = xp.asarray(place)
        if xp is not numpy:                                       # an index too large wraps around, as in CuPy's own reading
            place = place.astype("int64", copy=False) % length
        elif place.size and not -length <= place.min() <= place.max() < length:
            raise IndexError(f"index {place.max() if place.max() >= length else place.min()} is out of bounds for size {length}")
        else:
            place = xp.where(place < 0, place + length, place)
        rows = place if rows is None else rows * length + place
    return rows


def add_rows(xp: Any, g: Any, rows: Any, n: int) -> Any:
    """(n, width) zeros with g[i] (i.e. (len(rows), width)) added to row rows[i], in the order of i."""
    if xp is numpy:
        return add_elements(g, rows, n)
    from gpugrad.kernels import scatter  # kernels stand a floor higher
    if g.dtype.char in scatter.KINDS:
        return scatter.add_rows(xp, g, rows, n)
    # Whole numbers: the order of their sum moves no bit, their sign is one, and CuPy adds at places in uint64.
    y = xp.zeros((n, g.shape[1]), "uint64")
    xp.add.at(y, rows, g.astype("int64", copy=False).view(y.dtype))
    return y.view("int64").astype(g.dtype, copy=False)


@in_float32
def add_elements(g: Any, rows: Any, n: int) -> Any:
    """NumPy's `add.at` is fast for vectors alone, so that rows are added element by element: a third of the time of sorting."""
    width = g.shape[1]
    y = numpy.zeros((n, width), g.dtype)
    if g.size < 256:
        numpy.add.at(y, rows, g)
        return y
    places = rows if width == 1 else (rows[:, None] * width + numpy.arange(width)).reshape(-1)
    numpy.add.at(y.reshape(-1), places, g.reshape(-1))
    return y


def scatter_set(xp: Any) -> Callable:
    """A copy of x with v at index arrays. Of several values for one element the last stays."""
    def run(x, v, *arrays, index):
        y = x.copy()
        y[filled(index, arrays)] = v
        return y

    def run_in_order(x, v, *arrays, index):          # CuPy writes in any order: all that write to an element bring the last value
        if getattr(v, "size", 1) == 1 or not x.size:
            return run(x, v, *arrays, index=index)
        _, last = last_turns(xp, arrays, index, x.shape)
        before, rest = layout(index)[1], around(index, x.shape)
        shape = rest[:before] + last.shape + rest[before:]
        v = xp.broadcast_to(v, shape).reshape(math.prod(rest[:before]), last.size, math.prod(rest[before:]))
        return run(x, v.take(last.reshape(-1).astype("int64"), axis=1).reshape(shape), *arrays, index=index)
    return run if xp is numpy else run_in_order


def around(index: tuple, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of the axes of x[index] that are not those of its index arrays."""
    lengths = iter(shape)
    taken = [None if item is None else (next(lengths), item) for item in index]
    return tuple([1 if t is None else len(range(*t[1].indices(t[0]))) for t in taken if t is None or isinstance(t[1], slice)])


def last_writes(xp: Any) -> Callable:
    """Which of the values assigned at index arrays stay: a mask that broadcasts against x[index]."""
    def run(*arrays, index, shape):
        turns, last = last_turns(xp, arrays, index, shape)
        won = last == turns
        return won.reshape(won.shape + (1,) * layout(index)[2])
    return run


def last_turns(xp: Any, arrays: tuple, index: tuple, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """For each place that index arrays name, (its turn to be written, the last turn of those that name the same element)."""
    items = [item for item in filled(index, arrays) if item is not None]
    lengths = [n for n, item in zip(shape, items, strict=True) if not isinstance(item, slice)]
    rows = row_numbers(xp, [item for item in items if not isinstance(item, slice)], lengths)
    turns = xp.arange(rows.size, dtype=numpy.uint64).reshape(rows.shape)                 # a type of CUDA's atomicMax
    last = xp.zeros(math.prod(lengths), dtype=turns.dtype)
    if xp is numpy:
        last[rows] = turns
    else:
        xp.maximum.at(last, rows, turns)
    return turns, last[rows]


def argsort(xp: Any) -> Callable:
    if xp is numpy:
        return lambda x, axis, kind=None: x.argsort(axis, kind)
    return lambda x, axis, kind=None: x.argsort(axis)                    # CuPy's is stable always


def from_diagonal(xp: Any) -> Callable:
    """Zeros of a shape with g on one diagonal of two axes; the last axis of g runs along it."""
    def run(g, offset, axis1, axis2, shape):
        y = xp.zeros(shape, g.dtype)
        n = xp.arange(g.shape[-1])
        xp.moveaxis(y, (axis1, axis2), (-2, -1))[..., n + max(0, -offset), n + max(0, offset)] = g
        return y
    return run


def ranged(xp: Any) -> Callable:
    """ranged(x, low, high, text) -> x, once every element is found to lie from low to high.

    Raises IndexingError with the text, in which {low} and {high} are the least and the largest element and {off} is the one that
    is out of range. Arrays of a device are not looked at: that would wait for it.
    """
    if xp is not numpy:
        return lambda x, low, high, text: x

    def look(x: Any, low: int, high: int, text: str) -> Any:
        if x.size:
            least, most = x.min(), x.max()
            if least < low or most > high:
                raise IndexingError(text.format(low=least, high=most, off=most if most > high else least))
        return x
    return look
