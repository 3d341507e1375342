"""Reductions by NumPy's names and with NumPy's arguments.

All of them take `axis` (an int, a tuple of ints, or None for all axes) and `keepdims` (leave the reduced axes with length
1); most take `where` (a mask of the elements that count), `initial` (a value to start from), `dtype` and `out`.
"""
from __future__ import annotations

import math
from typing import Any

import numpy

from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_dtype, as_inexact, as_tensor, as_tensors, normalize_axis, one_axis, to_dtype, write_out

__all__ = ["all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "logsumexp", "max", "mean", "min",
           "prod", "ptp", "std", "sum", "var"]

Axis = int | tuple[int, ...] | None


def sum(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
        initial: Any = None, where: Any = None) -> Tensor:
    """The sum of the elements. Each gets the cotangent of its sum. The sum of none is 0."""
    x = masked("sum", to_dtype("sum", as_tensor("sum", a), dtype), where, 0)
    y = to_dtype("sum", T.sum(x, axis=normalize_axis("sum", axis, x.ndim), keepdims=bool(keepdims)), dtype)
    return write_out("sum", out, y if initial is None else y + start("sum", initial, y))


def prod(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
         initial: Any = None, where: Any = None) -> Tensor:
    """The product of the elements; derivatives of all orders are exact where some are zero. The product of none is 1."""
    x = masked("prod", to_dtype("prod", as_tensor("prod", a), dtype), where, 1)
    y = to_dtype("prod", T.prod(x, axis=normalize_axis("prod", axis, x.ndim), keepdims=bool(keepdims)), dtype)
    return write_out("prod", out, y if initial is None else y * start("prod", initial, y))


def mean(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
         where: Any = None) -> Tensor:
    """The arithmetic mean; of integers a float64, unless dtype asks for whole numbers: then what is left of the point."""
    x = as_inexact(to_dtype("mean", as_tensor("mean", a), dtype))
    axes = normalize_axis("mean", axis, x.ndim)
    if where is None:
        y = T.mean(x, axis=axes, keepdims=bool(keepdims))
    else:
        y = T.sum(masked("mean", x, where, 0), axis=axes, keepdims=bool(keepdims)) / counted(x, where, axes, keepdims)
    return write_out("mean", out, to_dtype("mean", y, dtype))


def var(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0, keepdims: bool = False, *,
        where: Any = None, mean: Any = None, correction: float | None = None) -> Tensor:
    """The mean of |x - mean(x)|**2, with n - ddof in place of n.

    mean        the mean, where it is known, with the reduced axes of length 1
    correction  another name of ddof
    """
    return write_out("var", out, variance("var", a, axis, dtype, ddof, keepdims, where, mean, correction))


def std(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0, keepdims: bool = False, *,
        where: Any = None, mean: Any = None, correction: float | None = None) -> Tensor:
    """The square root of the variance. Its derivative is 0 where all elements are equal, the subgradient of least size."""
    return write_out("std", out, variance("std", a, axis, dtype, ddof, keepdims, where, mean, correction))


def variance(op: str, a: Any, axis: Axis, dtype: Any, ddof: float, keepdims: bool, where: Any, mean: Any,
             correction: float | None) -> Tensor:
    if correction is not None:
        if ddof:
            raise ArgumentError(f"{op}: expected ddof or correction, got ddof={ddof} and correction={correction}. "
                                "They mean the same.")
        ddof = correction
    if dtype is not None and as_dtype(op, dtype).kind not in "fc":
        raise DtypeError(f"{op}: expected a float or complex dtype, got {as_dtype(op, dtype)}. Round the result.")
    x = as_inexact(to_dtype(op, as_tensor(op, a), dtype))
    axes = normalize_axis(op, axis, x.ndim)
    if where is None and mean is None:
        return getattr(T, op)(x, axis=axes, correction=ddof, keepdims=bool(keepdims))
    n = counted(x, True if where is None else where, axes, True)
    if mean is None:
        mean = T.sum(masked(op, x, where, 0), axis=axes, keepdims=True) / n
    d = masked(op, x - mean, where, 0)
    square = T.square(T.real(d)) + T.square(T.imag(d)) if d.dtype.kind == "c" else T.square(d)
    y = T.sum(square, axis=axes, keepdims=True) / T.maximum(n - ddof, 0)
    if op == "std":
        still = T.equal(y, 0)                               # the square root has slope inf there; 0 * inf is no number
        y = T.where(still, 0, T.sqrt(T.where(still, 1, y)))
    return y if keepdims else T.squeeze(y, axis=axes)


def max(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *, initial: Any = None,
        where: Any = None) -> Tensor:
    """The greatest element. Elements that tie share the gradient equally. NaN wins."""
    return write_out("max", out, extreme("max", a, axis, keepdims, initial, where))


def min(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *, initial: Any = None,
        where: Any = None) -> Tensor:
    """The least element. Elements that tie share the gradient equally. NaN wins."""
    return write_out("min", out, extreme("min", a, axis, keepdims, initial, where))


amax, amin = max, min


def extreme(op: str, a: Any, axis: Axis, keepdims: bool, initial: Any, where: Any) -> Tensor:
    x = as_tensor(op, a)
    axes = normalize_axis(op, axis, x.ndim)
    if where is not None and initial is None:
        raise ArgumentError(f"{op}: expected initial= beside where=, got none. It is the result where the mask is empty.")
    if initial is None:
        require_elements(op, x, axes)
        return getattr(T, op)(x, axis=axes, keepdims=bool(keepdims))
    initial = start(op, initial, x)
    if any_empty(x, axes):
        shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes])
        return T.zeros_as(x, shape=shape) + initial
    y = getattr(T, op)(masked(op, x, where, initial), axis=axes, keepdims=bool(keepdims))
    return {"max": T.maximum, "min": T.minimum}[op](y, initial)


def ptp(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False) -> Tensor:
    """The greatest element less the least."""
    return write_out("ptp", out, extreme("max", a, axis, keepdims, None, None) - extreme("min", a, axis, keepdims, None, None))


def logsumexp(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(a))) without overflow. A slice of all -inf gives -inf; its slope there is NaN.

    Source: Blanchard, Higham & Higham, IMA J. Numer. Anal. 41 (2021) 2311.
    """
    x = as_inexact(as_tensor("logsumexp", a))
    axes = normalize_axis("logsumexp", axis, x.ndim)
    require_elements("logsumexp", x, axes)
    return T.logsumexp(x, axis=axes, keepdims=bool(keepdims))


def average(a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    """sum(a * weights) / sum(weights), differentiable in both; the mean without weights.

    weights   of a's shape, or of the shape of the axes that are averaged, in their order
    returned  also return the sum of the weights
    """
    if weights is None:
        y = mean(a, axis, keepdims=keepdims)
        return (y, T.zeros_as(y, shape=y.shape) + as_tensor("average", a).size / math.prod(y.shape)) if returned else y
    x, w = as_tensors("average", a, weights)
    w = to_dtype("average", w, numpy.result_type(as_inexact(x).dtype, w.dtype))
    axes = normalize_axis("average", axis, x.ndim)
    if w.shape != x.shape:
        if axis is None or w.shape != tuple([x.shape[i] for i in axes]):
            raise ShapeError(f"average: expected weights of shape {x.shape}, or of the shape of the averaged axes, got {w.shape} "
                             f"with axis={axis}. Reshape the weights.")
        w = T.transpose(w, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)))
        w = T.reshape(w, shape=tuple([n if i in axes else 1 for i, n in enumerate(x.shape)]))
        w = T.spread(w, shape=x.shape)
    total = T.sum(w, axis=axes, keepdims=bool(keepdims))
    y = as_inexact(T.sum(x * w, axis=axes, keepdims=bool(keepdims))) / total
    return (y, total) if returned else y


# without derivatives ---------------------------------------------------------------------------------------------------

def all(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *, where: Any = None) -> Tensor:
    """Whether every element is nonzero; True for none. No gradient passes."""
    x = masked("all", as_tensor("all", a), where, 1)
    return write_out("all", out, T.all(x, axis=normalize_axis("all", axis, x.ndim), keepdims=bool(keepdims)))


def any(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *, where: Any = None) -> Tensor:
    """Whether some element is nonzero; False for none. No gradient passes."""
    x = masked("any", as_tensor("any", a), where, 0)
    return write_out("any", out, T.any(x, axis=normalize_axis("any", axis, x.ndim), keepdims=bool(keepdims)))


def count_nonzero(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """How many elements are not zero. No gradient passes."""
    x = as_tensor("count_nonzero", a)
    return T.sum(T.not_equal(x, 0), axis=normalize_axis("count_nonzero", axis, x.ndim), keepdims=bool(keepdims))


def argmax(a: Any, axis: int | None = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
    """The number of the greatest element along an axis, the first of several. No gradient passes."""
    return place_of("argmax", a, axis, out, keepdims)


def argmin(a: Any, axis: int | None = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
    """The number of the least element along an axis, the first of several. No gradient passes."""
    return place_of("argmin", a, axis, out, keepdims)


def place_of(op: str, a: Any, axis: int | None, out: Tensor | None, keepdims: bool) -> Tensor:
    x = as_tensor(op, a)
    rank = x.ndim
    if axis is None:
        x, axes, axis = T.reshape(x, shape=(x.size,)), tuple(range(rank)), 0
    else:
        axis = one_axis(op, axis, rank)
        axes = (axis,)
    require_elements(op, x, (axis,))
    y = getattr(T, op)(x, axis=axis)
    return write_out(op, out, T.expand_dims(y, axis=axes) if keepdims else y)


def start(op: str, initial: Any, like: Tensor) -> Any:
    """The value that a reduction begins with: it does not change the dtype of the result."""
    if like.dtype.kind in "fc" and type(initial) in (int, float):
        return initial
    if type(initial) in (int, float) and like.dtype.kind in "iu":
        limits = numpy.iinfo(like.dtype)
        if not limits.min <= initial <= limits.max:
            raise ArgumentError(f"{op}: expected initial within {like.dtype}, got {initial!r}. Use .astype.")
    return to_dtype(op, as_tensor(op, initial, like), like.dtype)


# masks and empty arrays ------------------------------------------------------------------------------------------------

def masked(op: str, x: Tensor, where: Any, fill: Any) -> Tensor:
    """x with `fill` where the mask is False."""
    if where is None or where is True:
        return x
    mask = as_tensor(op, where, x)
    if mask.dtype.kind != "b":
        raise ArgumentError(f"{op}: expected a mask of bools as where, got dtype {mask.dtype}. Use where != 0.")
    return T.where(mask, x, fill)


def counted(x: Tensor, where: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """How many elements of each slice the mask lets through, as numbers of x's precision."""
    ones = masked("where", T.zeros_as(T.real(x) if x.dtype.kind == "c" else x, shape=x.shape) + 1, where, 0)
    return T.sum(ones, axis=axes, keepdims=bool(keepdims))


def any_empty(x: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether there are results, made of no elements."""
    return 0 in [x.shape[i] for i in axes]


def require_elements(op: str, x: Tensor, axes: tuple[int, ...]) -> None:
    if any_empty(x, axes) and 0 not in [n for i, n in enumerate(x.shape) if i not in axes]:
        raise ShapeError(f"{op}: expected at least one element along each axis, got shape {x.shape}. "
                         "Pass initial= where there is one.")
