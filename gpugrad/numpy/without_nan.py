"""Reductions that leave NaN out, by NumPy's names. The gradient of a NaN is 0; a slice of nothing else gives NaN."""
from __future__ import annotations

from typing import Any

from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy import reduce, scan
from gpugrad.numpy._arguments import as_tensor, normalize_axis, write_out
from gpugrad.numpy.reduce import Axis, masked

__all__ = ["nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum",
           "nanvar"]


def known(op: str, a: Any, where: Any = None) -> tuple[Tensor, Any]:
    """The array, and which of its elements count: None where all do."""
    x = as_tensor(op, a)
    if x.dtype.kind not in "fc":
        return x, where
    numbers = T.equal(x, x)
    return x, numbers if where is None else T.logical_and(numbers, as_tensor(op, where, x))


def nansum(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
           initial: Any = None, where: Any = None) -> Tensor:
    """The sum of the elements that are numbers; 0 where there are none."""
    x, mask = known("nansum", a, where)
    return reduce.sum(x, axis, dtype, out, keepdims, initial=initial, where=mask)


def nanprod(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
            initial: Any = None, where: Any = None) -> Tensor:
    """The product of the elements that are numbers; 1 where there are none."""
    x, mask = known("nanprod", a, where)
    return reduce.prod(x, axis, dtype, out, keepdims, initial=initial, where=mask)


def nanmean(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
            where: Any = None) -> Tensor:
    """The mean of the elements that are numbers."""
    x, mask = known("nanmean", a, where)
    return reduce.mean(x, axis, dtype, out, keepdims, where=mask)


def nanvar(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0, keepdims: bool = False, *,
           where: Any = None, mean: Any = None, correction: float | None = None) -> Tensor:
    """The variance of the elements that are numbers."""
    x, mask = known("nanvar", a, where)
    return reduce.var(x, axis, dtype, out, ddof, keepdims, where=mask, mean=mean, correction=correction)


def nanstd(a: Any, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0, keepdims: bool = False, *,
           where: Any = None, mean: Any = None, correction: float | None = None) -> Tensor:
    """The standard deviation of the elements that are numbers; slope 0 where it is 0."""
    x, mask = known("nanstd", a, where)
    return reduce.std(x, axis, dtype, out, ddof, keepdims, where=mask, mean=mean, correction=correction)


def nanmax(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *, initial: Any = None,
           where: Any = None) -> Tensor:
    """The greatest of the elements that are numbers; ties share the gradient equally."""
    return write_out("nanmax", out, extreme("max", a, axis, keepdims, initial, where, float("-inf")))


def nanmin(a: Any, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *, initial: Any = None,
           where: Any = None) -> Tensor:
    """The least of the elements that are numbers; ties share the gradient equally."""
    return write_out("nanmin", out, extreme("min", a, axis, keepdims, initial, where, float("inf")))


def extreme(name: str, a: Any, axis: Axis, keepdims: bool, initial: Any, where: Any, worst: float) -> Tensor:
    x, mask = known(f"nan{name}", a)
    y = reduce.extreme(name, masked(f"nan{name}", x, mask, worst), axis, keepdims, initial, where)
    if mask is None or initial is not None:
        return y
    some = T.any(mask, axis=normalize_axis(f"nan{name}", axis, x.ndim), keepdims=bool(keepdims))
    return T.where(some, y, float("nan"))


def nanargmax(a: Any, axis: int | None = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
    """The number of the greatest element that is one. A slice of NaN gives 0."""
    x, mask = known("nanargmax", a)
    return reduce.argmax(masked("nanargmax", x, mask, float("-inf")), axis, out, keepdims=keepdims)


def nanargmin(a: Any, axis: int | None = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
    """The number of the least element that is one. A slice of NaN gives 0."""
    x, mask = known("nanargmin", a)
    return reduce.argmin(masked("nanargmin", x, mask, float("inf")), axis, out, keepdims=keepdims)


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Running sums, in which NaN counts as 0."""
    x, mask = known("nancumsum", a)
    return scan.cumsum(masked("nancumsum", x, mask, 0), axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Running products, in which NaN counts as 1."""
    x, mask = known("nancumprod", a)
    return scan.cumprod(masked("nancumprod", x, mask, 1), axis, dtype, out)
