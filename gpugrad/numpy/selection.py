"""Choosing and replacing elements by position, by NumPy's names: all of it is reading, writing and adding at indices.

NumPy's put, putmask, place and put_along_axis change their first argument. Here that is a Tensor, which
then names the new value, as after x[i] = v, and everything stays differentiable.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.arrays import module_of, short
from gpugrad.arrays.levelled import ARRAY
from gpugrad.errors import ArgumentError, ConversionError, DtypeError, IndexingError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor, bare
from gpugrad.numpy._arguments import as_int, as_tensor, as_tensors, one_axis, to_dtype, write_out
from gpugrad.numpy._ufunc import joint_shape
from gpugrad.numpy.index import At, fitting, getitem, setitem
from gpugrad.numpy.shaping import broadcast_to, one_of

__all__ = ["bincount", "choose", "compress", "copyto", "extract", "index_add", "place", "put", "put_along_axis", "putmask",
           "scatter_add", "segment_sum", "take", "take_along_axis"]


# reading ------------------------------------------------------------------------------------------------------------------

def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Tensor:
    """The parts of a at some places along one axis, or of its elements in order where axis is None.

    indices  integers of any shape, which takes the place of the axis
    mode     for places outside: "raise" an IndexingError, "wrap" round, or "clip" to the first and last

    On a GPU "raise" wraps, since a check would wait for the device.
    """
    x = as_tensor("take", a)
    if axis is None:
        x, axis = flat(x), 0
    axis = one_axis("take", axis, x.ndim)
    i = within("take", integers("take", indices, x), x.shape[axis], mode)
    return write_out("take", out, T.gather(x, i, index=along(axis, ARRAY, x.ndim)))


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """y[..., j, ...] = arr[..., indices[..., j, ...], ...]: a place for each element, along one axis; the others broadcast.

    With argsort's result for indices this sorts. axis=None flattens arr first.
    """
    x, i, axis = aligned("take_along_axis", arr, indices, axis)
    return T.take_along_axis(x, i, axis=axis)


def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Tensor:
    """The parts of a along one axis for which the condition, a vector of bools, holds; of its elements where axis is None."""
    x = as_tensor("compress", a)
    if axis is None:
        x, axis = flat(x), 0
    axis = one_axis("compress", axis, x.ndim)
    c = as_tensor("compress", condition, beside=x)
    if c.ndim != 1:
        raise ShapeError(f"compress: expected a vector of bools, got shape {c.shape}. Use extract for arrays.")
    return write_out("compress", out, T.gather(x, *places_of("compress", c), index=along(axis, ARRAY, x.ndim)))


def extract(condition: Any, arr: Any) -> Tensor:
    """The elements of arr where the condition, of as many elements, holds."""
    x = flat(as_tensor("extract", arr))
    return T.gather(x, *places_of("extract", flat(as_tensor("extract", condition, beside=x))), index=(ARRAY,))


def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Tensor:
    """y[i] = choices[a[i]][i]: for each element the number of the array to take it from. All broadcast.

    mode  for numbers without an array: "raise" an IndexingError, "wrap" round, or "clip" to the first and last
    """
    i = as_tensor("choose", a)
    options = list(choices) if isinstance(choices, Sequence) else [getitem(choices, k) for k in range(len(choices))]
    if not options:
        raise ArgumentError("choose: expected at least one choice, got none. Pass a sequence of arrays.")
    options = as_tensors("choose", *options)
    i = within("choose", integers("choose", i, options[0]), len(options), mode, negative=False)
    shape = joint_shape("choose", [i, *options])
    x = T.stack(*[T.spread(x, shape=shape) for x in options], axis=0)
    y = T.take_along_axis(x, T.reshape(T.spread(i, shape=shape), shape=(1, *shape)), axis=0)
    return write_out("choose", out, T.reshape(y, shape=shape))


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """y[n] = the sum of the weights of the elements of x that are n; without weights their number, which has no derivative.

    x        vector of integers of at least 0
    weights  as many numbers; sums are float64, as NumPy's are
    return   max(x) + 1 elements, or minlength where that is more
    """
    x = integers("bincount", x)
    places = bare("bincount", x)
    if x.ndim != 1 or (module_of(places) is numpy and x.size and places.min() < 0):
        raise ArgumentError(f"bincount: expected a vector of integers of at least 0, got {short(places)}. Flatten or shift it.")
    n = max(int(places.max()) + 1 if x.size else 0, as_int("bincount", "minlength", minlength))
    if weights is None:
        return Tensor(module_of(places).bincount(places, minlength=n))
    w = as_tensor("bincount", weights, beside=x)
    if w.shape != x.shape:
        raise ShapeError(f"bincount: expected as many weights as integers, got {w.shape} and {x.shape}. Pass one for each.")
    return T.scatter_add(w if w.dtype.kind == "c" else to_dtype("bincount", w, float), x, index=(ARRAY,), shape=(n,))


# writing ------------------------------------------------------------------------------------------------------------------

def scatter_add(x: Any, index: Any, value: Any) -> Tensor:
    """A new Tensor like x with value added at x[index]; an element that is named n times gets n values. Also x.at[index].add."""
    return At(x)[index].add(value)


def index_add(x: Any, index: Any, value: Any, axis: int = 0) -> Tensor:
    """A new Tensor like x with value[k] added to x[index[k]], along one axis."""
    x = as_tensor("index_add", x)
    return At(x)[(slice(None),) * one_axis("index_add", axis, x.ndim) + (integers("index_add", index, x),)].add(value)


def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None) -> Tensor:
    """y[n] = the sum of data[k] over all k with segment_ids[k] = n.

    num_segments  how many sums; by default as many as the ids need, which waits for the device
    """
    x = as_tensor("segment_sum", data)
    ids = integers("segment_sum", segment_ids, x)
    if x.ndim < 1 or ids.shape != x.shape[:1]:
        raise ShapeError(f"segment_sum: expected an id for each part of data, got ids {ids.shape} for data {x.shape}. "
                         "Pass a vector.")
    if num_segments is None:
        num_segments = int(bare("segment_sum", ids).max()) + 1 if ids.size else 0
    shape = (as_int("segment_sum", "num_segments", num_segments), *x.shape[1:])
    return T.scatter_add(x, ids, index=along(0, ARRAY, x.ndim), shape=shape)


def put(a: Tensor, ind: Any, v: Any, mode: str = "raise") -> None:
    """Make a what it would be after a.flat[ind] = v; a shorter v repeats. The last value for a place stays."""
    x = flat(target("put", a))
    i = flat(within("put", integers("put", ind, x), x.size, mode))
    if i.size:
        update("put", a, setitem(x, i, repeated("put", v, i.size, x)))


def putmask(a: Tensor, mask: Any, values: Any) -> None:
    """Make a what it would be after a[mask] = values[mask]; shorter values repeat over all of a first."""
    x = target("putmask", a)
    c = to_dtype("putmask", as_tensor("putmask", mask, beside=x), bool)
    require_same_size("putmask", x, c)
    v = repeated("putmask", values, x.size, x)
    v = T.reshape(v, shape=() if v.size == 1 else x.shape)
    update("putmask", a, T.cast(T.where(T.reshape(c, shape=x.shape), v, x), x.dtype))


def copyto(dst: Tensor, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """Make dst what it would be after dst[where] = src[where]; src and where broadcast to it."""
    x = target("copyto", dst)
    v = fitting("copyto", x, as_tensor("copyto", src, beside=x))
    one_of("copyto", "casting", casting, ("no", "equiv", "safe", "same_kind", "unsafe"))
    if not numpy.can_cast(v.dtype, x.dtype, casting):
        raise DtypeError(f"copyto: expected a value that casts to {x.dtype} by {casting!r}, got {v.dtype}. Use .astype first.")
    v = T.cast(broadcast_to(v, x.shape), x.dtype)
    if where is not True:
        v = T.where(broadcast_to(to_dtype("copyto", as_tensor("copyto", where, beside=x), bool), x.shape), v, x)
    update("copyto", dst, v)


def place(arr: Tensor, mask: Any, vals: Any) -> None:
    """Make arr what it would be after arr[mask] = vals; of vals the first are used, and they repeat."""
    x = target("place", arr)
    c = as_tensor("place", mask, beside=x)
    require_same_size("place", x, c)
    where, = places_of("place", flat(c))
    if where.size:
        update("place", arr, setitem(flat(x), where, repeated("place", vals, where.size, x)))


def put_along_axis(arr: Tensor, indices: Any, values: Any, axis: int | None) -> None:
    """Make arr what it would be after arr[..., indices[..., j, ...], ...] = values[..., j, ...]: see `take_along_axis`."""
    x, i, k = aligned("put_along_axis", target("put_along_axis", arr), indices, axis)
    if x.size != arr.size:
        raise ShapeError(f"put_along_axis: expected indices that broadcast to {arr.shape}, got {i.shape}. "
                         f"Only axis {axis} may differ.")
    grid = [i if n == k else T.counted(x, size=i.shape[n], rank=x.ndim - 1 - n) for n in range(x.ndim)]
    update("put_along_axis", arr, setitem(x, tuple(grid), values))


# arguments ----------------------------------------------------------------------------------------------------------------

def flat(x: Tensor) -> Tensor:
    return x if x.ndim == 1 else T.reshape(x, shape=(x.size,))


def along(axis: int, item: Any, ndim: int) -> tuple:
    """The index that is `item` on one axis and all of the others."""
    return tuple([item if k == axis else slice(None) for k in range(ndim)])


def integers(op: str, x: Any, beside: Any = None) -> Tensor:
    """An index array."""
    t = as_tensor(op, numpy.empty(0, numpy.intp) if isinstance(x, list | tuple) and not len(x) else x, beside=beside)
    if t.dtype.kind not in "iu":
        raise IndexingError(f"{op}: expected integers as indices, got dtype {t.dtype}. Use .astype(int), or index with the mask.")
    return t


def within(op: str, i: Tensor, n: int, mode: str, negative: bool = True) -> Tensor:
    """Places from 0 to n - 1 by NumPy's three modes; "raise" leaves negative ones to count from the end where they may."""
    if mode == "clip":
        return T.minimum(T.maximum(i, 0), max(n - 1, 0))
    if mode == "wrap":
        return T.remainder(i, n) if n else i
    if mode != "raise":
        raise ArgumentError(f"{op}: expected mode 'raise', 'wrap' or 'clip', got {mode!r}. Choose one.")
    low = -n if negative else 0
    text = f"{op}: expected indices from {low} to {n - 1}, got {{off}}. Use mode='clip' or 'wrap', or check them."
    return T.ranged(i, low=low, high=n - 1, text=text)


def places_of(op: str, condition: Tensor) -> list[Tensor]:
    """Where a condition holds, for each axis an index array. Waits for the device."""
    return [Tensor(i) for i in bare(op, condition).nonzero()]


def aligned(op: str, arr: Any, indices: Any, axis: int | None) -> tuple[Tensor, Tensor, int]:
    """An array and an index array with all axes but one in common."""
    x = as_tensor(op, arr)
    i = integers(op, indices, x)
    if axis is None:
        x, axis = flat(x), 0
    if x.ndim != i.ndim:
        raise ShapeError(f"{op}: expected indices with {x.ndim} axes for shape {x.shape}, got {i.shape}. Add axes of length 1.")
    axis = one_axis(op, axis, x.ndim)
    others, those = ((*t.shape[:axis], 1, *t.shape[axis + 1:]) for t in (x, i))
    try:
        common = numpy.broadcast_shapes(others, those)
    except ValueError as error:
        raise ShapeError(f"{op}: expected indices that broadcast to {x.shape} but for axis {axis}, got {i.shape}. "
                         "Check their order of axes.") from error
    x, i = (T.spread(t, shape=(*common[:axis], t.shape[axis], *common[axis + 1:])) for t in (x, i))
    return x, i, axis


def repeated(op: str, values: Any, n: int, x: Tensor) -> Tensor:
    """n values for elements of x: the first of those given, which repeat."""
    v = flat(as_tensor(op, values, beside=x))
    if not v.size:
        raise ArgumentError(f"{op}: expected at least one value, got none. Pass a number or an array.")
    if v.size < n and v.size > 1:
        v = T.reshape(T.spread(v, shape=(-(-n // v.size), v.size)), shape=(-(-n // v.size) * v.size,))
    return T.getitem(v, index=slice(0, n)) if v.size > n else v


def require_same_size(op: str, x: Tensor, mask: Tensor) -> None:
    if mask.size != x.size:
        raise ShapeError(f"{op}: expected a mask of {x.size} elements for shape {x.shape}, got {mask.shape}. Broadcast it first.")


def target(op: str, a: Any) -> Tensor:
    """The Tensor that a function of NumPy's would change."""
    if not isinstance(a, Tensor):
        raise ConversionError(f"{op}: expected a Tensor to write to, got {short(a)}, which would drop the graph. "
                              "Start from gg.asarray(a), or use x.at[i].set(v).")
    return a


def update(op: str, a: Tensor, new: Tensor) -> None:
    from gpugrad.methods import assign  # a floor above: it adds the methods that call this function
    assign(op, a, T.reshape(new, shape=a.shape) if new.shape != a.shape else new)
