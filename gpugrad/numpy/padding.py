"""np.pad in all its modes. Axes are padded one after the other, so that a corner is padding of padding."""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_inexact, as_tensor, moved_beside, normalize_axis, pick, to_dtype
from gpugrad.numpy.reduce import max, mean, min
from gpugrad.numpy.shaping import broadcast_to, one_of
from gpugrad.numpy.statistics import median

__all__ = ["pad"]

COPIES = ("edge", "reflect", "symmetric", "wrap")
STATISTICS = {"maximum": max, "mean": mean, "median": median, "minimum": min}
OPTIONS = {"constant": {"constant_values"}, "linear_ramp": {"end_values"}, "empty": set(),
           **{mode: {"stat_length"} for mode in STATISTICS}, "edge": set(), "wrap": set(),
           "reflect": {"reflect_type"}, "symmetric": {"reflect_type"}}


def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Tensor:
    """The array with (before, after) elements more along each axis.

    pad_width  a number for all, a pair for all axes, a pair for each axis, or a dict of axis to pair
    mode       "constant" (constant_values=0), "edge", "reflect" and "symmetric" (reflect_type="even" or "odd"), "wrap",
               "linear_ramp" (end_values=0), "maximum", "mean", "median" and "minimum" (stat_length=None), "empty" (zeros here)

    Raises ArgumentError for a mode, an option or a width that does not exist.
    """
    x = as_tensor("pad", array)
    one_of("pad", "mode", mode, tuple(OPTIONS))
    unknown = set(kwargs) - OPTIONS[mode]
    if unknown:
        raise ArgumentError(f"pad: expected options of mode {mode!r} ({', '.join(sorted(OPTIONS[mode])) or 'none'}), "
                            f"got {', '.join(sorted(unknown))}. Check the mode.")
    widths = widths_of(pad_width, x.ndim)
    if mode == "empty":
        return T.pad(x, pad_width=tuple(widths))
    if mode == "constant":
        return constant(x, widths, kwargs.get("constant_values", 0))
    for axis, width in enumerate(widths):
        if width == (0, 0):
            continue
        if mode in COPIES:
            x = copied(x, axis, width, mode, kwargs.get("reflect_type", "even"))
        elif mode == "linear_ramp":
            x = ramp(x, axis, width, pairs("end_values", kwargs.get("end_values", 0), len(widths))[axis])
        else:
            x = statistic(x, axis, width, STATISTICS[mode], pairs("stat_length", kwargs.get("stat_length"), len(widths))[axis])
    return x


def widths_of(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        by_axis = {normalize_axis("pad", axis, ndim)[0]: width for axis, width in pad_width.items()}
        pad_width = [pairs("pad_width", by_axis.get(axis, 0), 1)[0] for axis in range(ndim)] or 0
    widths = pairs("pad_width", pad_width, ndim)
    if any(n != int(n) or n < 0 for width in widths for n in width):
        raise ArgumentError(f"pad: expected widths of at least 0, got {short(pad_width)}. Index the array to make it smaller.")
    return [(int(before), int(after)) for before, after in widths]


def pairs(name: str, value: Any, ndim: int) -> list[tuple]:
    """A pair of numbers for each axis."""
    if value is None:
        return [(None, None)] * ndim
    try:
        return [tuple(pair) for pair in numpy.broadcast_to(numpy.asarray(value), (ndim, 2)).tolist()]
    except ValueError as error:
        raise ShapeError(f"pad: expected {name} as a number, a pair, or a pair for each of {ndim} axes, got {short(value)}. "
                         "Write ((before, after), ...).") from error


def constant(x: Tensor, widths: list, value: Any) -> Tensor:
    if isinstance(value, Tensor):                           # differentiable: the value of every padded element
        around = T.pad(T.zeros_as(x, shape=x.shape), pad_width=tuple(widths), value=1)
        return T.where(T.equal(around, 1), to_dtype("pad", value, x.dtype), T.pad(x, pad_width=tuple(widths)))
    values = pairs("constant_values", value, x.ndim)
    if len({v for pair in values for v in pair}) <= 1:
        return T.pad(x, pad_width=tuple(widths), value=values[0][0] if values else 0)
    for axis, (width, sides) in enumerate(zip(widths, values, strict=True)):
        for side in (0, 1):
            one = [(0, 0)] * x.ndim
            one[axis] = (width[0], 0) if side == 0 else (0, width[1])
            x = T.pad(x, pad_width=tuple(one), value=sides[side])
    return x


def copied(x: Tensor, axis: int, width: Any, mode: Any, reflect_type: str) -> Tensor:
    """NumPy pads the numbers 0 ... n-1; they say where each element comes from."""
    n = x.shape[axis]
    if not n:
        raise ArgumentError(f"pad: expected elements to copy along axis {axis}, got shape {x.shape}. Use mode='constant'.")
    if one_of("pad", "reflect_type", reflect_type, ("even", "odd")) == "odd" and mode in ("reflect", "symmetric"):
        weights = numpy.pad(numpy.eye(n), (width, (0, 0)), mode, reflect_type="odd")       # how each element is made of x
        return along(x, axis, weights)
    return pick(x, numpy.pad(numpy.arange(n), width, mode), axis)


def along(x: Tensor, axis: int, weights: numpy.ndarray) -> Tensor:
    """The matrix `weights` times x along one axis."""
    rows = T.moveaxis(x, source=axis, destination=0)
    lengths = rows.shape[1:]
    matrix = moved_beside(weights.astype(x.dtype), x)
    product = T.matmul(matrix, T.reshape(rows, shape=(rows.shape[0], rows.size // rows.shape[0])))
    return T.moveaxis(T.reshape(product, shape=(len(weights), *lengths)), source=0, destination=axis)


def ramp(x: Tensor, axis: int, width: tuple, ends: tuple) -> Tensor:
    parts = [x]
    for side in (0, 1):
        n = width[side]
        lengths = tuple([n if i == axis else 1 for i in range(x.ndim)])
        steps = numpy.arange(n) / n if n else numpy.zeros(0)
        inexact = as_inexact(x)
        steps = moved_beside((steps if side == 0 else steps[::-1]).astype(inexact.dtype).reshape(lengths), inexact)
        part = ends[side] + (as_inexact(edge(x, axis, side, 1)) - ends[side]) * steps
        parts.insert(0 if side == 0 else 2, to_dtype("pad", part if x.dtype.kind in "fc" else T.floor(part), x.dtype))
    return T.concatenate(*parts, axis=axis)


def statistic(x: Tensor, axis: int, width: tuple, function: Any, lengths: tuple) -> Tensor:
    parts = [x]
    for side in (0, 1):
        n = x.shape[axis] if lengths[side] is None else int(lengths[side])
        if n < 1:
            raise ArgumentError(f"pad: expected stat_length of at least 1, got {n}. Use None for the whole axis.")
        part = function(edge(x, axis, side, n), axis=axis, keepdims=True)
        part = part if x.dtype.kind in "fc" or part.dtype == x.dtype else T.rint(part)
        shape = (*x.shape[:axis], width[side], *x.shape[axis + 1:])
        parts.insert(0 if side == 0 else 2, broadcast_to(to_dtype("pad", part, x.dtype), shape))
    return T.concatenate(*parts, axis=axis)


def edge(x: Tensor, axis: int, side: int, n: int) -> Tensor:
    """The first (side 0) or last n elements along an axis."""
    stop = x.shape[axis]
    part = slice(0, n) if side == 0 else slice(stop - n if n < stop else 0, stop)
    return T.getitem(x, index=(slice(None),) * axis + (part,))
